// The data of a reward_model stage: preferences and scored samples to pairs of texts.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "core/base/status.h"
#include "core/data/loader.h"
#include "core/data/preference.h"
#include "core/engine/engine.h"
#include "host/pipeline/stage.h"
#include "host/pipeline/stage_models.h"
#include "host/pipeline/stages/sft_data.h"

namespace retort::host {

struct PairData {
  SftData sft;  // an example is a pair: both texts, one after the other
  std::vector<data::Pair> pairs;
};

Result<std::unique_ptr<PairData>> LoadPairData(StageRun& run, const StageModel& model);

// The pairs of eval_data, each once, and how the loader packs them; nothing without the key.
struct PairEvalData {
  std::vector<data::Pair> pairs;
  std::vector<data::PackedBatch> batches;
};
Result<std::unique_ptr<PairEvalData>> LoadPairEvalData(StageRun& run, const StageModel& model);

// Each pair as two sequences of one group, the preferred one with the higher target.
std::vector<engine::MicroBatch> ToPairs(std::vector<data::PackedBatch> batches,
                                        const std::vector<data::Pair>& pairs);

}  // namespace retort::host
