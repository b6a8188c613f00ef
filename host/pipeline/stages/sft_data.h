// The data of an sft stage: records and samples to training examples, and the loader over them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/base/status.h"
#include "core/data/loader.h"
#include "core/data/sft_example.h"
#include "core/engine/engine.h"
#include "host/pipeline/stage.h"
#include "host/pipeline/stage_models.h"

namespace retort::host {

struct SftData {
  data::SftBuild build;  // the loader looks into it: keep in one place
  std::unique_ptr<data::Loader> loader;
  int64_t total_steps = 0;
};

Result<std::unique_ptr<SftData>> LoadSftData(StageRun& run, const SftStage& config,
                                             const StageModel& model);

// The examples of eval_data, each once, and how the loader packs them; no batches without the key.
struct SftEvalData {
  data::SftBuild build;
  std::vector<data::PackedBatch> batches;
};
Result<std::unique_ptr<SftEvalData>> LoadSftEvalData(StageRun& run, const SftStage& config,
                                                     const StageModel& model);

// All examples once, in order, packed as the options say.
Result<std::vector<data::PackedBatch>> PackOnce(std::span<const data::SftExample> examples,
                                                data::LoaderOptions options);

// The order, packing and batches that the config says; sources are to be filled in.
Result<data::LoaderOptions> LoaderOptionsFor(const StageRun& run, const SftStage& config);

// The loader's batches in the engine's form.
std::vector<engine::MicroBatch> ToMicroBatches(std::vector<data::PackedBatch> batches);

}  // namespace retort::host
