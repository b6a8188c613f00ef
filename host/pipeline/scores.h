// scores.json of an eval stage, and the table that people read.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "host/pipeline/stages/eval_metrics.h"

namespace retort::host {

struct ScoreRow {
  std::string model = {}, task = {}, metric = {};
  Estimate estimate = {};
};

std::string WriteScores(const std::vector<ScoreRow>& rows);
Result<std::vector<ScoreRow>> ReadScores(std::string_view text, const std::string& what);

// Models down, metrics across, one table per task; 95% intervals in brackets.
std::string ScoreTable(const std::vector<ScoreRow>& rows);

}  // namespace retort::host
