// Records and samples to a checkpoint: the loop of every stage that trains on the loader's windows.
// The order of windows, the schedule and every random number follow from (seed, stage, step), so a
// stopped run goes on from a checkpoint bit by bit.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/base/status.h"
#include "core/data/loader.h"
#include "core/engine/engine.h"
#include "host/pipeline/stage.h"
#include "host/pipeline/stages/sft_data.h"
#include "host/pipeline/stages/stage_trainer.h"

namespace retort::host {

// What a step (from 0) trains on, made of the loader's batches: a function of them, the step and
// the trainer's weights. CANCELLED: as if the step had not begun.
using WindowMaker = std::function<Result<std::vector<engine::MicroBatch>>(
    std::vector<data::PackedBatch> batches, int64_t step, StageTrainer& trainer)>;

// What the stage's loss is evaluated on: eval_data as the loader packs it, and how it becomes
// micro-batches (step: -1). Without batches no loss is evaluated.
struct HeldBack {
  std::vector<data::PackedBatch> batches = {};
  WindowMaker make_window = {};
};

// From the last checkpoint, or the beginning, to the end; the stage's on_nonfinite is followed, and
// its evaluations are made. `extra`: what the trainer gets beside the config.
Result<StageOutput> TrainOn(StageRun& run, const StageModel& base, SftData& data,
                            const engine::TrainerOptions& extra, const WindowMaker& make_window,
                            const HeldBack& held_back);

}  // namespace retort::host
