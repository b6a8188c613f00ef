// Pairs of answers to a reward model: a causal model whose LM head gives way to a value head.
// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <utility>
#include <vector>

#include "host/pipeline/stage.h"
#include "host/pipeline/stages/pair_data.h"
#include "host/pipeline/stages/training_loop.h"

namespace retort::host {

Result<StageOutput> RunRewardModel(StageRun& run) {
  RETORT_ASSIGN_OR_RETURN(
      const StageModel base,
      OpenStageModel(*run.session, *run.pipeline, run.stage->sft.model, run.folder->path()));
  RETORT_ASSIGN_OR_RETURN(const std::unique_ptr<PairData> data, LoadPairData(run, base));
  RETORT_ASSIGN_OR_RETURN(const std::unique_ptr<PairEvalData> held_back,
                          LoadPairEvalData(run, base));
  const auto maker = [](const std::vector<data::Pair>& pairs) -> WindowMaker {
    return [&pairs](std::vector<data::PackedBatch> batches, int64_t, StageTrainer&) {
      return Result(ToPairs(std::move(batches), pairs));
    };
  };
  return TrainOn(run, base, data->sft, {}, maker(data->pairs),
                 {held_back->batches, maker(held_back->pairs)});
}

}  // namespace retort::host
