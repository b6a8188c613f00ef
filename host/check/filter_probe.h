// Calls a filter straight, with the rewards and answer classes that the host would hand over, and
// looks at everything that comes back.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "host/check/raw_plugin.h"
#include "host/check/samples.h"

namespace retort::host::check {

struct FilterDecision {
  uint32_t action = RETORT_KEEP;
  uint32_t reason_code = 0;
  std::string reason;
  std::optional<std::string> completion, record;
  friend bool operator==(const FilterDecision&, const FilterDecision&) = default;
};

struct FilterRun {
  std::vector<FilterDecision> decisions;  // per sample, in the order of the groups
  retort_status returned = RETORT_OK;
};

struct FilterCallShape {
  Growth growth = Growth::kExact;
  size_t stride_extra = 0;
  bool may_fail = false;  // a status that is not OK is no error (cancelled, say)
};

class FilterProbe {
 public:
  static Result<FilterProbe> Make(const Subject& subject, const CallKind& kind = {});

  uint32_t n_passes() const { return table_->n_observe_passes; }
  uint32_t flags() const { return table_->flags; }
  Status Observe(const std::vector<CheckGroup>& groups, uint32_t pass,
                 const FilterCallShape& shape = {}) const;
  Status EndPass(uint32_t pass) const;
  // Fails with what is wrong: the status, a decision for no sample, an unknown action, a DROP
  // without a reason, texts that are not what they must be, a write into an input.
  Result<FilterRun> Judge(const std::vector<CheckGroup>& groups, RawCall& call,
                          const FilterCallShape& shape = {}) const;
  Result<FilterRun> Judge(const std::vector<CheckGroup>& groups,
                          const FilterCallShape& shape = {}) const;
  // All passes and the judgement over the same groups, each in one call.
  Result<FilterRun> Everything(const std::vector<CheckGroup>& groups,
                               const FilterCallShape& shape = {}) const;
  // The end of pass 0 (begun by the caller), the other passes, the judgement.
  Result<FilterRun> Finish(const std::vector<CheckGroup>& groups) const;

  Result<std::string> Save(uint64_t max_step = 0) const;
  Status Merge(const std::string& state, uint64_t max_step = 0) const;
  // The status as given; what is wrong with it as a failure (no text) is an error.
  Result<retort_status> TryMerge(const std::string& state) const;

  RawInstance& instance() { return instance_; }

 private:
  using Function = retort_status (*)(retort_instance*, const retort_call*,
                                     const retort_filter_args*);
  FilterProbe(const Subject& subject, const CallKind& kind, RawInstance instance,
              const retort_filter_v1* table);
  Result<FilterRun> Call(Function function, const std::vector<CheckGroup>& groups, RawCall& call,
                         uint32_t pass, const FilterCallShape& shape) const;
  RngKey key_;
  CallKind kind_;
  RawInstance instance_;
  const retort_filter_v1* table_;
};

// "" or the first sample that is decided otherwise: b[i] belongs to a[from[i]].
std::string Difference(const FilterRun& a, const FilterRun& b, const std::vector<size_t>& from);
std::string Difference(const FilterRun& a, const FilterRun& b);

}  // namespace retort::host::check
