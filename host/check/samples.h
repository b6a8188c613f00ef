// Samples for rewards and filters: made from a seed, then laid out in guarded memory as the host
// would hand them over.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "host/check/guarded.h"
#include "host/check/rule.h"
#include "retort/abi/filter.h"
#include "retort/abi/reward.h"

namespace retort::host::check {

struct CheckSample {
  std::optional<std::string> prompt, completion, record, gold;  // none: absent
  std::vector<int32_t> prompt_ids, completion_ids;
  std::vector<float> logp;
  uint64_t uid = 0, record_uid = 0;
  uint32_t index = 0;  // in its group
  uint32_t finish = RETORT_FINISH_STOP;
};
// Samples of one prompt.
using CheckGroup = std::vector<CheckSample>;

// n_groups of group_size: reasoning with tags and answers, some right, some cut, some empty-handed.
std::vector<CheckGroup> OrdinaryGroups(const Subject& subject, size_t n_groups, size_t group_size);

// What is odd about a text (all fields of every second sample; ids and records stay proper).
enum class Odd : uint8_t { kEmpty, kAbsent, kNul, kBrokenUtf8, kLong };
std::vector<CheckGroup> OddGroups(const Subject& subject, Odd odd);

// In guarded, read-only memory: each text ends at a page that can't be read.
class RawSamples {
 public:
  // with_ids: as for a plugin that asks for ids. stride_extra: bytes between samples.
  RawSamples(const std::vector<CheckGroup>& groups, bool with_ids, size_t stride_extra = 0);

  const retort_sample* samples() const { return array_->get(); }
  uint32_t stride() const { return array_->stride(); }
  uint64_t n() const { return n_; }
  const std::vector<retort_group>& groups() const { return groups_; }
  bool untouched() const { return array_->untouched(); }

 private:
  retort_str Text(const std::optional<std::string>& text);
  template <class T>
  const T* Numbers(const std::vector<T>& values);
  std::vector<GuardedBytes> memory_;
  std::vector<retort_group> groups_;
  uint64_t n_ = 0;
  std::optional<StridedArray<retort_sample>> array_;
};

// The groups in a random order; order[i] is where group i of the result was.
std::vector<size_t> RandomOrder(Rng rng, size_t n);
std::vector<CheckGroup> InOrder(const std::vector<CheckGroup>& groups,
                                const std::vector<size_t>& order);

}  // namespace retort::host::check
