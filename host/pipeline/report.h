// What a run tells at its end: seconds, tokens and memory per stage, and the evaluation tables.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "host/pipeline/pipeline.h"
#include "host/pipeline/scores.h"
#include "host/pipeline/stage.h"

namespace retort::host {

struct StageReport {
  std::string name = {}, kind = {};
  bool skipped = false;  // finished before this run
  StageNumbers numbers = {};
  std::vector<ScoreRow> scores = {};  // of an eval stage
};

// One line for an event: "40 samples, 1,234 tokens, 56 tokens/s".
std::string NumbersLine(const StageReport& report);

RunReport MakeReport(const std::vector<StageReport>& stages, const std::string& output);

// The process's peak resident memory so far (VmHWM), in bytes; 0 if the system doesn't tell.
double PeakMemoryBytes();

}  // namespace retort::host
