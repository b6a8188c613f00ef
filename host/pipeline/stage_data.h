// Data as stages see it: a file of the config or what an earlier stage wrote, as records or as
// samples, whichever the stage works on.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/data/record.h"
#include "core/data/sample.h"
#include "host/pipeline/config/config.h"
#include "host/session/session.h"

namespace retort::host {

// One entry of a stage's `data`.
struct StageData {
  std::string name = {};  // as the config names it
  double weight = 1;
  bool is_samples = false;  // of a stage: samples; of the data section: records
  std::vector<data::Record> records = {};
  std::vector<data::Sample> samples = {};
  int64_t bad_lines = 0;  // left out, within max_bad_lines
  size_t size() const { return is_samples ? samples.size() : records.size(); }
};

// Every entry, cut by its own limits and, over all, by `limit` (0: none).
Result<std::vector<StageData>> LoadData(Session& session, const PipelineConfig& config,
                                        const std::vector<DataRef>& refs, int64_t limit,
                                        const std::string& run_path);

// The file behind an entry: the config's, or the stage's samples.jsonl or kept.jsonl.
std::string DataPath(const PipelineConfig& config, const DataRef& ref, const std::string& run_path);

// All entries as records with uids of their own: what prompts are made of. A sample stands for
// the record it was made from; several samples of one record give it once.
Result<std::vector<data::Record>> AsRecords(const std::vector<StageData>& all);

// All entries as samples, groups adjacent. A record with an answer of its own (a completion, a
// last assistant turn, generations) is a sample that nobody sampled.
Result<std::vector<data::Sample>> AsSamples(std::vector<StageData> all);

}  // namespace retort::host
