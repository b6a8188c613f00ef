// A run in progress, stage by stage: what RunPipeline loops over and the host API steps through.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "core/base/status.h"
#include "host/pipeline/config/config.h"
#include "host/pipeline/pipeline.h"
#include "host/session/session.h"

namespace retort::host {

class PipelineRun {
 public:
  // Plans, takes the run folder (its lock is held as long as this lives) and puts away what
  // options.fresh and options.from name. Errors as of RunPipeline. `session` outlives it.
  static Result<PipelineRun> Start(Session& session, const PipelineConfig& as_loaded,
                                   RunOptions options);
  PipelineRun(PipelineRun&&) noexcept;
  PipelineRun& operator=(PipelineRun&&) = delete;
  ~PipelineRun();

  // Passes over the stages that are done and runs the next one that isn't to its end. True: stages
  // are left to look at. After a failure, CANCELLED included, the next call tries the same stage
  // again. With nothing left it does nothing.
  Result<bool> Step();
  // Of the stages passed so far.
  RunReport Report() const;

 private:
  struct State;
  static Result<PipelineRun> Begin(Session& session, const PipelineConfig& as_loaded,
                                   RunOptions options);
  explicit PipelineRun(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace retort::host
