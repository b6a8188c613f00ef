// Calls a reward (and its answer classes) straight and looks at everything that comes back.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "host/check/raw_plugin.h"
#include "host/check/samples.h"

namespace retort::host::check {

struct RewardRun {
  std::vector<double> score;
  std::vector<uint8_t> status;
  std::vector<std::string> info;  // "" where none was reported
  retort_status returned = RETORT_OK;
};

struct RewardCallShape {
  Growth growth = Growth::kExact;
  size_t stride_extra = 0;
  bool may_fail = false;  // a status that is not OK is no error (cancelled, say)
};

class RewardProbe {
 public:
  static Result<RewardProbe> Make(const Subject& subject, const CallKind& kind = {});

  // The verdicts in the order of the groups. Fails with what is wrong: the status, a status byte
  // out of range, OK with a score that is not finite, a write beyond the arrays or into an input, a
  // report for no sample or not as a JSON object.
  Result<RewardRun> Score(const std::vector<CheckGroup>& groups, RawCall& call,
                          const RewardCallShape& shape = {}) const;
  Result<RewardRun> Score(const std::vector<CheckGroup>& groups,
                          const RewardCallShape& shape = {}) const;
  bool has_answers() const { return answers_ != nullptr; }
  // first_equal of one group; -1 or the first of its class, as legal as Score's verdicts.
  Result<std::vector<int64_t>> Classes(const CheckGroup& group, size_t stride_extra = 0) const;

  bool concurrent() const { return (table_->flags & RETORT_REWARD_CONCURRENT) != 0; }
  uint32_t flags() const { return table_->flags; }
  bool groupwise() const { return (table_->flags & RETORT_REWARD_GROUPWISE) != 0; }
  bool pure() const { return (table_->flags & RETORT_REWARD_PURE) != 0; }
  RawInstance& instance() { return instance_; }

 private:
  RewardProbe(const Subject& subject, const CallKind& kind, RawInstance instance,
              const retort_reward_v1* table);
  RngKey key_;
  CallKind kind_;
  RawInstance instance_;
  const retort_reward_v1* table_;
  const retort_answer_v1* answers_;
};

// "" or the first sample whose verdict differs: b[i] belongs to a[from[i]]. `exact`: bit for bit,
// else scores may differ by 1e-6 of their size.
std::string Difference(const RewardRun& a, const RewardRun& b, const std::vector<size_t>& from,
                       bool exact);
std::string Difference(const RewardRun& a, const RewardRun& b, bool exact = true);

}  // namespace retort::host::check
