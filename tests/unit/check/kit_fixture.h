// The conformance kit on a library, from a test: the report, and which rules failed in it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "host/check/kit.h"

namespace retort::host::check {

inline KitOptions OptionsFor(const std::string& file) {
  KitOptions options;
  options.file = file;
  options.worker_path = RETORT_WORKER_PROGRAM;
  return options;
}

inline KitReport Check(const KitOptions& options) {
  Result<KitReport> report = CheckLibrary(options);
  EXPECT_TRUE(report.ok()) << report.status().ToString();
  return report.ok() ? std::move(*report) : KitReport{};
}

inline std::set<std::string> Failed(const KitReport& report) {
  std::set<std::string> rules;
  for (const Row& row : report.rows) {
    if (row.finding.verdict == Verdict::kFail) rules.insert(row.rule->id);
  }
  return rules;
}

// What the rule found; "" if it did not fail.
inline std::string Found(const KitReport& report, const std::string& rule) {
  for (const Row& row : report.rows) {
    if (row.rule->id == rule && row.finding.verdict == Verdict::kFail) return row.finding.text;
  }
  return "";
}

}  // namespace retort::host::check
