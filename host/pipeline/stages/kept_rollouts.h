// Rounds of a grpo stage on disk, from when they are drawn and scored until a checkpoint has the
// steps on them: a run that was killed goes on with the same completions and the same verdicts,
// also of a reward that would judge otherwise the second time. Format: docs/grpo.md.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/base/status.h"
#include "core/io/filesystem.h"
#include "host/pipeline/stage.h"
#include "host/pipeline/stages/rollouts.h"

namespace retort::host {

class KeptRollouts {
 public:
  // In the folder of a grpo stage; of `run` only the file system is kept, which outlives the
  // object.
  explicit KeptRollouts(const StageRun& run)
      : fs_(run.folder->fs()),
        folder_(io::Join(run.dir, "rollouts")),
        group_size_(static_cast<size_t>(run.stage->grpo.num_generations)) {}

  // Whole on disk when it returns.
  Status Write(int64_t step, int64_t position, const Rollouts& rollouts) const;
  // Of the round that begins after `step` optimizer steps and `position` prompts: its samples and
  // counts, and of its rewards what training looks at (no status, info or errors). Nothing: it
  // wasn't kept. DATA_LOSS: it is not what was written.
  Result<std::optional<Rollouts>> Read(int64_t step, int64_t position, size_t n_rewards) const;
  // Removes the rounds that began before `step`, and what a killed process left half written.
  Status Forget(int64_t step) const;

 private:
  std::string PathOf(int64_t step) const;

  io::FileSystem& fs_;
  std::string folder_;
  size_t group_size_;
};

}  // namespace retort::host
