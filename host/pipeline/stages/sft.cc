// Records and samples to a checkpoint, each window as the loader gives it.
// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <utility>

#include "host/pipeline/stage.h"
#include "host/pipeline/stages/sft_data.h"
#include "host/pipeline/stages/training_loop.h"

namespace retort::host {

Result<StageOutput> RunSft(StageRun& run) {
  const SftStage& config = run.stage->sft;
  RETORT_ASSIGN_OR_RETURN(const StageModel base, OpenStageModel(*run.session, *run.pipeline,
                                                                config.model, run.folder->path()));
  RETORT_ASSIGN_OR_RETURN(const std::unique_ptr<SftData> data, LoadSftData(run, config, base));
  RETORT_ASSIGN_OR_RETURN(const std::unique_ptr<SftEvalData> held_back,
                          LoadSftEvalData(run, config, base));
  const WindowMaker as_they_are = [](std::vector<data::PackedBatch> batches, int64_t,
                                     StageTrainer&) {
    return Result(ToMicroBatches(std::move(batches)));
  };
  return TrainOn(run, base, *data, {}, as_they_are, {held_back->batches, as_they_are});
}

}  // namespace retort::host
