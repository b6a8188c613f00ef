// A stage at work: what it is given, what it reports, and the kinds of this version. Each is
// a function of (config, inputs, seed) that writes into its folder; stopped by cancel it keeps
// what is written and, called again, goes on from there.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/clock.h"
#include "core/base/rng.h"
#include "core/base/status.h"
#include "core/engine/engine.h"
#include "host/pipeline/artifact.h"
#include "host/pipeline/config/config.h"
#include "host/pipeline/pipeline.h"
#include "host/pipeline/run_folder.h"
#include "host/session/session.h"

namespace retort::host {

// Counts and seconds of a stage by name, added up over continuations: "seconds", "samples",
// "completion_tokens", "tokens", "steps" … Kept in the stage's manifest.
class StageNumbers {
 public:
  void Add(std::string_view name, double value) { values_[std::string(name)] += value; }
  void Set(std::string_view name, double value) { values_[std::string(name)] = value; }
  // "errors/<entry>" and "timeouts/<entry>" of a chain's entry, where there are any.
  void AddFailures(const std::string& entry, uint64_t errors, uint64_t timeouts) {
    if (errors > 0) Add("errors/" + entry, static_cast<double>(errors));
    if (timeouts > 0) Add("timeouts/" + entry, static_cast<double>(timeouts));
  }
  double Get(std::string_view name) const;
  bool Has(std::string_view name) const { return values_.count(std::string(name)) != 0; }
  std::string ToJson() const;
  static StageNumbers FromJson(std::string_view json);  // what can't be read is left out

 private:
  std::map<std::string, double> values_ = {};
};

struct StageRun {
  Session* session = nullptr;
  const PipelineConfig* pipeline = nullptr;
  const StageConfig* stage = nullptr;
  RunFolder* folder = nullptr;
  std::string dir = {};    // the stage's folder, there already
  std::string nonce = {};  // of this process
  const RunOptions* options = nullptr;
  StageNumbers numbers = {};
  Stopwatch clock;
  int64_t last_progress_ns = 0;

  RngKey key() const { return RootKey(pipeline->seed, stage->name); }
  bool cancelled() const {
    return options->cancel != nullptr && options->cancel->load(std::memory_order_relaxed) != 0;
  }
  Status CancelledStatus() const {
    return Cancelled("stage " + stage->name + " was stopped; the same command continues");
  }
  void Emit(RunEvent event);  // fills in the stage
  void Resumed(const std::string& text);
  void Warn(const std::string& text);  // also into events.jsonl
  // Says in events.jsonl in which types the weights of a model are kept.
  void NoteWeights(const std::string& label, const engine::Model& weights);
};

struct StageOutput {
  std::vector<io::FileDigest> files = {};  // relative to the stage's folder
};

Result<StageOutput> RunGenerate(StageRun& run);
Result<StageOutput> RunFilter(StageRun& run);
Result<StageOutput> RunSft(StageRun& run);
Result<StageOutput> RunDistill(StageRun& run);
Result<StageOutput> RunRewardModel(StageRun& run);
Result<StageOutput> RunGrpo(StageRun& run);
Result<StageOutput> RunEval(StageRun& run);

}  // namespace retort::host
