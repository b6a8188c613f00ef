// Steps on what the student itself writes (Agarwal et al., "On-Policy Distillation of Language
// Models", arXiv 2306.13649): prompts of the loader's batch, completions of the weights as they
// are. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/status.h"
#include "core/data/loader.h"
#include "core/data/sft_example.h"
#include "core/engine/engine.h"
#include "host/pipeline/stage.h"
#include "host/pipeline/stage_models.h"
#include "host/pipeline/stages/stage_trainer.h"

namespace retort::host {

// All random numbers follow from (seed, stage, step): a resumed run draws the same.
class OwnSamples {
 public:
  // Everything outlives the object; `examples` are those that the loader's pieces name.
  OwnSamples(StageRun& run, const StageModel& student, std::span<const data::SftExample> examples)
      : run_(run), student_(student), examples_(examples) {}

  // Whether this step trains on the student's samples.
  bool IsDue(int64_t step) const;
  // One completion of each piece's prompt, trained on; a piece without a prompt, or whose prompt
  // leaves no room, stays as it is. CANCELLED when the run is stopped.
  Result<std::vector<engine::MicroBatch>> Draw(std::span<const data::PackedBatch> batches,
                                               int64_t step, StageTrainer& trainer);

 private:
  engine::GenerateRequest RequestOf(size_t index, const data::SftExample& document,
                                    int64_t step) const;
  Status Generate(std::span<const engine::GenerateRequest> requests, StageTrainer& trainer,
                  std::vector<data::SftExample>* documents);

  StageRun& run_;
  const StageModel& student_;
  std::span<const data::SftExample> examples_;
};

}  // namespace retort::host
