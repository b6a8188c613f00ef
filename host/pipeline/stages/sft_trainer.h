// What an sft stage trains with: weights, loss and optimizer plugins, schedule; and how all of it
// gets into a checkpoint and back.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/trainer_state.h"
#include "core/data/loader.h"
#include "core/engine/engine.h"
#include "core/train/schedule.h"
#include "host/pipeline/stage.h"
#include "host/pipeline/stage_models.h"

namespace retort::host {

// The only state of a training run besides tensors: integers, and sums since the last log line.
struct SftProgress {
  int64_t step = 0;  // optimizer steps done
  data::LoaderState loader;
  int64_t tokens = 0;      // through the model so far
  double window_loss = 0;  // since the last log line: sum over steps
  int64_t window_steps = 0;

  std::string ToJson() const;
  static Result<SftProgress> FromJson(const std::string& json);
};

class SftTrainer {
 public:
  // Opens the model anew, or the checkpoint and its state.
  static Result<std::unique_ptr<SftTrainer>> Create(StageRun& run, const StageModel& base,
                                                    int64_t total_steps,
                                                    const std::optional<checkpoint::Found>& from);

  engine::Trainer& trainer() { return *trainer_; }
  double LearningRate(int64_t done) const { return base_rate_ * schedule_.Factor(done); }
  std::vector<checkpoint::LogEntry>& log() { return state_.log_history; }

  // checkpoint-<step>; `final_one`: without the optimizer's state.
  Result<checkpoint::Found> Save(StageRun& run, const SftProgress& progress, double epoch,
                                 bool final_one);

 private:
  explicit SftTrainer(train::Schedule schedule) : schedule_(schedule) {}
  Status CreatePlugins(StageRun& run, engine::TrainerOptions* options);
  Status Restore(const checkpoint::Found& from);

  // The weights as they are now: an HF folder, or the adapter's.
  Result<std::vector<io::FileDigest>> WriteModel(io::FileSystem& fs, const std::string& folder);

  StageModel base_;                      // of the texts of the HF folder
  std::optional<graph::LoraSpec> lora_;  // of the adapter that is trained
  std::vector<PluginInstance> plugins_;  // outlive trainer_
  std::unique_ptr<engine::Model> model_;
  std::unique_ptr<engine::Trainer> trainer_;
  checkpoint::TrainerState state_;
  checkpoint::Environment environment_;
  train::Schedule schedule_;
  double base_rate_ = 0;
};

// What must be equal for a continued run to compute the same bits.
checkpoint::Environment EnvironmentOf(const engine::EngineInfo& info);

}  // namespace retort::host
