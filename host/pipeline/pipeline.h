// Pipelines: a JSON file becomes a checked config, a plan, and a run that can stop and go on.
// What the host API and the commands `run` and `plan` call; everything else here is internal.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/engine/engine.h"
#include "core/io/filesystem.h"
#include "host/pipeline/config/config.h"
#include "host/session/session.h"

namespace retort::host {

// What happens during a run, in order, from the calling thread.
struct RunEvent {
  enum class Kind : uint8_t {
    kStageStarted,
    kStageResumed,   // `text` says from where
    kStageSkipped,   // finished before, nothing changed
    kProgress,       // done, total, unit, rate; metric if there is one that matters
    kStageFinished,  // `text`: one line of numbers
    kStageFailed,    // `text`: the error; `code`: CANCELLED if it was stopped
    kWarning,
    kMetric,  // `step` and `json`, a line of metrics.jsonl
  };
  Kind kind = Kind::kProgress;
  std::string stage = {};
  std::string text = {};
  double done = 0, total = 0;  // total 0: unknown
  std::string unit = {};       // "samples", "steps"
  double rate = 0;             // tokens per second, 0: unknown
  std::string metric = {};     // "loss", "reward" or ""
  double value = 0;
  Code code = Code::kOk;
  int64_t step = -1;
  std::string json = {};
};
std::string_view RunEventName(RunEvent::Kind kind);  // "stage_started" …

struct RunOptions {
  std::string only = {};       // this stage alone; its inputs must exist
  std::string from = {};       // this stage and the later ones anew
  bool fresh = false;          // everything anew (old folders go to .trash)
  bool allow_inexact = false;  // resume although thread count, processor level or library differ
  const engine::Cancel* cancel = nullptr;
  std::function<void(const RunEvent&)> on_event;
  io::FileSystem* fs = nullptr;  // that the run folder is written with; NULL: the real one
};

// What the run prints at its end: a table of stages, then the evaluation tables.
struct RunReport {
  std::string text = {};
  std::string json = {};
};

// Resolves everything without running anything: plugins loaded, their configs checked, models
// opened, data counted. INVALID_ARGUMENT: the file or a plugin's config is wrong.
Result<std::string> PlanText(Session& session, const PipelineConfig& as_loaded);
Result<std::string> PlanJson(Session& session, const PipelineConfig& as_loaded);

// Plans, then runs or continues. CANCELLED: stopped cleanly, the same call continues.
// INVALID_ARGUMENT only for what the user wrote; a stage's own failures have other codes.
Result<RunReport> RunPipeline(Session& session, const PipelineConfig& as_loaded,
                              const RunOptions& options);

inline constexpr int kExitContinue = 75;
// The program's exit code: 0; 2 wrong in what the user wrote; 75 stopped, the same command
// continues; 1 anything else.
int ExitCode(const Status& status);

}  // namespace retort::host
