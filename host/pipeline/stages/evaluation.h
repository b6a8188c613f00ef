// What is measured of a model between the steps that train it, on data that it does not learn from:
// the loss of held-back examples, and rewards of answers. Nothing of it changes what a later step
// computes, and it depends on the weights, the data and the seed alone.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/checkpoint/checkpoint.h"
#include "core/data/record.h"
#include "core/data/sample.h"
#include "core/engine/engine.h"
#include "host/pipeline/stage.h"
#include "host/pipeline/stage_models.h"
#include "host/pipeline/stages/stage_trainer.h"

namespace retort::host {

class Evaluation {
 public:
  // Everything outlives the object; `model`: what is trained, as the stage opened it.
  Evaluation(StageRun& run, const StageModel& model)
      : run_(run), config_(run.stage->training()->evaluation), model_(model) {}

  // Reads the prompts of `eval`.
  Status Init();
  // What the loss is measured on: eval_data, packed.
  void SetWindow(std::vector<engine::MicroBatch> window) { window_ = std::move(window); }

  // Whether one follows `step` if the last one was after step `evaluated` (0: there was none).
  bool IsDue(int64_t step, int64_t evaluated, int64_t total_steps) const;
  // Measures and logs. True: better than all before, so that a checkpoint of it is to be saved.
  // CANCELLED: as if it had not begun.
  Result<bool> Run(StageTrainer& trainer, int64_t step, double epoch);

 private:
  using Numbers = checkpoint::EvalNumbers;
  Status MeasureLoss(StageTrainer& trainer, Numbers* numbers);
  Status MeasureAnswers(StageTrainer& trainer, int64_t step, Numbers* numbers);
  Result<std::vector<double>> Score(const std::vector<data::Sample>& samples, int64_t step,
                                    Numbers* numbers);
  Status Log(StageTrainer& trainer, int64_t step, double epoch, double seconds,
             const Numbers& numbers);
  Result<bool> IsBest(checkpoint::TrainerState& state, int64_t step, const Numbers& numbers) const;

  StageRun& run_;
  const EvaluationConfig& config_;
  const StageModel& model_;
  std::vector<engine::MicroBatch> window_;
  std::vector<data::Record> prompts_;
};

// What a stage that trains gives: the last checkpoint, or with load_best_model_at_end the best one,
// which is checked.
Result<StageOutput> ResultOf(StageRun& run, const checkpoint::Found& last);

}  // namespace retort::host
