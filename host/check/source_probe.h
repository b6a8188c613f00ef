// Calls a source straight and looks at every record.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "host/check/raw_plugin.h"
#include "retort/abi/draft/source.h"

namespace retort::host::check {

struct SourceRecord {
  uint64_t uid = 0;
  retort_status status = RETORT_OK;
  std::string json, origin;
  friend bool operator==(const SourceRecord&, const SourceRecord&) = default;
};

// Records that rules look at, at most: sources may be endless.
inline constexpr size_t kSourceRecordsMax = 5000;

class SourceProbe {
 public:
  static Result<SourceProbe> Make(const Subject& subject, const CallKind& kind = {});

  // One call. Fails with what is wrong: the status, more than max_n records, a record after the
  // end, from another thread, with a struct too small, a status that is none, or (status OK) a text
  // that is no JSON object.
  Status Next(uint64_t max_n, std::vector<SourceRecord>* records);
  Status Next(uint64_t max_n, std::vector<SourceRecord>* records, RawCall& call, bool may_fail);
  // Until the end or `most` records, max_n at a time.
  Result<std::vector<SourceRecord>> Read(uint64_t max_n, size_t most = kSourceRecordsMax);
  bool at_end() const { return at_end_; }
  retort_status returned() const { return returned_; }

  Result<std::string> Save(uint64_t max_step = 0);
  Status Load(const std::string& state, uint64_t max_step = 0);
  // The status as given; what is wrong with it as a failure (no text) is an error.
  Result<retort_status> TryLoad(const std::string& state);

  RawInstance& instance() { return instance_; }

 private:
  SourceProbe(const Subject& subject, const CallKind& kind, RawInstance instance,
              const retort_source_v1* table);
  RngKey key_;
  CallKind kind_;
  RawInstance instance_;
  const retort_source_v1* table_;
  bool at_end_ = false;
  retort_status returned_ = RETORT_OK;
};

// "" or the first record that differs; `a` may be longer (or both the same length if `whole`).
std::string Difference(const std::vector<SourceRecord>& a, const std::vector<SourceRecord>& b,
                       bool whole = true);

}  // namespace retort::host::check
