// trainer_state.json in transformers' shape: what tools that read its checkpoints look for.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"

namespace retort::checkpoint {

struct LogEntry {
  int64_t step = 0;
  double epoch = 0, loss = 0, grad_norm = 0, learning_rate = 0;
};

struct TrainerState {
  double epoch = 0;
  int64_t global_step = 0, max_steps = 0, num_train_epochs = 1;
  int64_t num_input_tokens_seen = 0, train_batch_size = 1;
  std::vector<LogEntry> log_history = {};
};

// Sorted keys, indent 2, final newline, as transformers writes it.
std::string WriteTrainerState(const TrainerState& state);
Result<TrainerState> ReadTrainerState(std::string_view text, const std::string& what);

}  // namespace retort::checkpoint
