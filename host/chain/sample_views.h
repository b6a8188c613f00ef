// Samples as plugins see them: retort_sample structs over data::Sample, with groups, the gold
// answer picked from the record and token ids where a plugin needs them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/data/sample.h"
#include "core/text/tokenizer.h"
#include "retort/abi/reward.h"

namespace retort::host {

// Runs of adjacent samples with one record_uid.
struct GroupSpan {
  size_t first = 0, n = 0;
  uint64_t record_uid = 0;
};
std::vector<GroupSpan> GroupsOf(std::span<const data::Sample> samples);

struct SampleRange {
  size_t first = 0, n = 0;
};

class SampleViews {
 public:
  // Borrows the samples' texts and ids. `with_ids`: samples without ids are encoded with
  // `tokenizer`; none given is an error that says so. gold is the record's "answer".
  static Result<SampleViews> Create(std::span<const data::Sample> samples, bool with_ids,
                                    const text::Tokenizer* tokenizer);

  size_t size() const { return views_.size(); }
  std::span<const GroupSpan> groups() const { return groups_; }

  // A call's samples: groups are numbered from 0.
  std::vector<retort_sample> Batch(SampleRange range) const;
  // Ranges of about `preferred` samples that cover all; `whole_groups`: cut between groups only.
  std::vector<SampleRange> Split(uint64_t preferred, bool whole_groups) const;

 private:
  Status AddIds(std::span<const data::Sample> samples, const text::Tokenizer* tokenizer);

  std::vector<retort_sample> views_;
  std::vector<GroupSpan> groups_;
  std::vector<std::string> golds_;
  std::vector<std::vector<int32_t>> ids_;  // of encoded samples: prompt, completion, prompt, …
};

}  // namespace retort::host
