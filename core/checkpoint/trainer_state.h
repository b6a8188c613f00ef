// trainer_state.json in transformers' shape: what tools that read its checkpoints look for.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/status.h"

namespace retort::checkpoint {

// Of an evaluation: "eval_loss" and its value, and so on.
using EvalNumbers = std::vector<std::pair<std::string, double>>;

struct LogEntry {
  int64_t step = 0;
  double epoch = 0, loss = 0, grad_norm = 0, learning_rate = 0;
  EvalNumbers evaluation = {};  // not empty: these instead of the three before
};

struct TrainerState {
  double epoch = 0;
  int64_t global_step = 0, max_steps = 0, num_train_epochs = 1;
  int64_t num_input_tokens_seen = 0, train_batch_size = 1;
  std::vector<LogEntry> log_history = {};
  std::optional<double> best_metric = {};
  std::string best_model_checkpoint = {};  // a name, beside the checkpoint; "": none
};

// Sorted keys, indent 2, final newline, as transformers writes it.
std::string WriteTrainerState(const TrainerState& state);
Result<TrainerState> ReadTrainerState(std::string_view text, const std::string& what);

}  // namespace retort::checkpoint
