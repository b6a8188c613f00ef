// The conformance kit: every rule on every plugin of a library, each in a child process.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "host/check/rule.h"

namespace retort::host::check {

struct KitOptions {
  std::string file;    // the library
  std::string plugin;  // "ID" or "KIND/ID"; "": all of the library
  std::string config;  // of that plugin; "": {}
  uint64_t seed = 0;
  std::vector<std::string> only;  // beginnings of rule ids; empty: all
  int64_t timeout_ms = 30'000;    // for each rule
  std::string worker_path, engine_path;
  std::string model;   // families: a config.json, its text; "": one that the kit knows
  std::string inputs;  // ops: shapes of the inputs, "Tx64,64"; "": the kit tries some
  std::function<bool()> cancelled;
  std::function<void(size_t done, size_t total, std::string_view rule)> progress;
};

struct Row {
  const Rule* rule = nullptr;
  std::string plugin;  // "reward/format"; "": the library
  Finding finding;
  double seconds = 0;
};

struct KitReport {
  std::string file, hash;            // hash: XXH3-128 of the file, hex; "": can't be loaded
  std::string library, version;      // as it says; "": can't be loaded
  std::vector<std::string> plugins;  // that were checked: "reward/format"
  uint64_t seed = 0;
  int64_t timeout_ms = 0;
  std::vector<Row> rows;  // in the order of the tables

  size_t Count(Verdict verdict) const;
  bool passed() const { return Count(Verdict::kFail) == 0; }
};

// Fails only for what is wrong in the options (no such file, plugin or rule; a config that its
// schema refuses: INVALID_ARGUMENT or NOT_FOUND), with UNAVAILABLE without the worker program, and
// with CANCELLED. Everything that is wrong with the library is in the report.
Result<KitReport> CheckLibrary(const KitOptions& options);

// For people: a table of the rules, what failed in full, a summary with the seed.
std::string RenderText(const KitReport& report);
// One JSON object, docs/conformance.md has its keys.
std::string RenderJson(const KitReport& report);

}  // namespace retort::host::check
