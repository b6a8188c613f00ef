// What a stage trains with: weights, loss and optimizer plugins, schedule; and how all of it
// gets into a checkpoint and back. The same for every stage that trains.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/trainer_state.h"
#include "core/engine/engine.h"
#include "core/json/json.h"
#include "core/train/schedule.h"
#include "host/pipeline/stage.h"
#include "host/pipeline/stage_models.h"

namespace retort::host {

// What a checkpoint records of a stage's progress, beside the trainer's own state.
struct TrainingPoint {
  int64_t step = 0;    // optimizer steps done
  int64_t tokens = 0;  // through the model so far
  double epoch = 0;
  int64_t batch_size = 1;       // rows of a micro-batch, for trainer_state.json
  std::string progress = "{}";  // the stage's own JSON object
};

// What every line of a stage's metrics says.
struct StepLine {
  int64_t step = 0;
  double epoch = 0, loss = 0, learning_rate = 0;  // loss: as the stage reports it
  int64_t tokens = 0;                             // so far
  const engine::StepResult& result;               // of the step; its metrics
};

inline constexpr uint64_t kMaxTrainerState = uint64_t{256} << 20;  // bytes of trainer_state.json

class StageTrainer {
 public:
  // Opens the model anew, or the checkpoint's, whose state is Restore's. `extra` comes to what the
  // config says: the teacher, the temperature, the longest micro-batch.
  static Result<std::unique_ptr<StageTrainer>> Create(StageRun& run, const StageModel& base,
                                                      int64_t total_steps,
                                                      const std::optional<checkpoint::Found>& from,
                                                      engine::TrainerOptions extra);

  // Tensors that checkpoints keep beside the optimizer's: live views, before Restore and Save.
  void AlsoKeep(std::vector<engine::StateTensor> tensors) { beside_ = std::move(tensors); }
  // The state of the checkpoint that Create opened.
  Status Restore(const checkpoint::Found& from);

  engine::Trainer& trainer() { return *trainer_; }
  engine::Model& model() { return *model_; }  // the weights being trained: to score and sample with
  // Of the model that is being trained; -1: its base.
  int32_t adapter() const { return lora_ ? 0 : -1; }
  // What the sequence losses need: RETORT_SEQUENCE_* bits.
  uint64_t sequence_needs() const { return sequence_needs_; }
  // Of the checkpoints to come: its log, and the best of its evaluations.
  checkpoint::TrainerState& state() { return state_; }
  double LearningRate(int64_t done) const { return base_rate_ * schedule_.Factor(done); }
  // Into metrics.jsonl and the checkpoint's log; `more` writes what the stage has to add.
  Status Log(StageRun& run, const StepLine& line, const std::function<void(json::Writer&)>& more);

  // checkpoint-<step>, after the metrics are on disk; `final_one`: without the optimizer's state.
  Result<checkpoint::Found> Save(StageRun& run, const TrainingPoint& point, bool final_one);

 private:
  explicit StageTrainer(train::Schedule schedule) : schedule_(schedule) {}
  Status CreatePlugins(StageRun& run, engine::TrainerOptions* options);
  Status CreateLosses(StageRun& run, engine::TrainerOptions* options);
  std::vector<engine::StateTensor> State();
  // The weights as they are now: an HF folder, or the adapter's.
  Result<std::vector<io::FileDigest>> WriteModel(io::FileSystem& fs, const std::string& folder);

  StageModel base_;                      // of the texts of the HF folder
  std::optional<graph::LoraSpec> lora_;  // of the adapter that is trained
  std::vector<PluginInstance> plugins_;  // outlive trainer_
  std::unique_ptr<engine::Model> model_;
  std::unique_ptr<engine::Trainer> trainer_;
  std::vector<engine::StateTensor> beside_;
  checkpoint::TrainerState state_;
  checkpoint::Environment environment_;
  train::Schedule schedule_;
  double base_rate_ = 0;
  uint64_t sequence_needs_ = 0;
};

// What must be equal for a continued run to compute the same bits.
checkpoint::Environment EnvironmentOf(const engine::EngineInfo& info);

// The checkpoint to go on from, if there is one; passed-over ones are warned of.
// DATA_LOSS: one without an optimizer's state that isn't the last of `total_steps`.
Result<std::optional<checkpoint::Found>> FindStart(StageRun& run, int64_t total_steps);
// Whether it is the stage's last one: only the stage's manifest was missing.
bool IsLast(const checkpoint::Found& from, int64_t total_steps);
void NoteResumed(StageRun& run, const checkpoint::Found& from, int64_t total_steps);

// The files of a checkpoint as what the stage wrote.
StageOutput OutputOf(const checkpoint::Found& found);

}  // namespace retort::host
