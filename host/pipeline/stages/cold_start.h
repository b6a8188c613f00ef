// Supervised examples beside the completions of a grpo stage: a share of each step's sequences.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/base/status.h"
#include "core/data/loader.h"
#include "core/engine/engine.h"
#include "host/pipeline/stage.h"
#include "host/pipeline/stage_models.h"
#include "host/pipeline/stages/sft_data.h"

namespace retort::host {

// Examples that make up `ratio` of a step's sequences beside those of its completions, rounded; at
// least one.
int64_t ColdStartExamples(double ratio, int64_t completions);

// Its state is the loader's: restored to it, the same steps follow.
class ColdStart {
 public:
  // The examples of the stage's cold_start, as `model` reads them.
  static Result<ColdStart> Open(StageRun& run, const StageModel& model);

  // Those of the next step, packed in order into micro-batches of at most `max_tokens` (one
  // example may be longer), for token losses alone. At an epoch's end there may be fewer.
  std::vector<engine::MicroBatch> Next(int64_t max_tokens);

  data::LoaderState state() const { return data_->loader->state(); }
  Status Restore(data::LoaderState state) { return data_->loader->Restore(state); }
  int64_t longest() const;  // tokens of an example

 private:
  std::unique_ptr<SftData> data_;
};

}  // namespace retort::host
