// A param with its gradient and state as an optimizer gets them, and the plugin that the rules of
// optimizer_rules.cc call on them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "host/check/raw_plugin.h"
#include "host/check/rule.h"
#include "host/check/tensors.h"
#include "retort/abi/draft/optimizer.h"

namespace retort::host::check {

// What spec is asked about.
struct ParamDescription {
  std::string name;
  std::vector<int64_t> shape;
  uint32_t roles = 0, group = 0;
  int64_t size() const;
};
// One of each role that there is, of sizes that no block divides.
std::vector<ParamDescription> SomeParams();

// A copy of what spec answered.
struct StateCopy {
  std::string name;
  uint32_t dtype = 0, shape = 0, init = 0;
  double init_value = 0;
  uint64_t block = 0;
  std::vector<int64_t> dims;
  bool operator==(const StateCopy&) const = default;
};
struct OptimizerSpecCopy {
  uint32_t grain = 0;
  std::vector<StateCopy> states;
  bool operator==(const OptimizerSpecCopy&) const = default;
};

struct Slot {
  // Whole, state as the spec says it starts; the param random.
  Slot(const ParamDescription& description, const OptimizerSpecCopy& spec, Rng* rng);

  ParamDescription description;
  OptimizerSpecCopy spec;
  Tensor param, grad;
  std::optional<Tensor> low_precision;
  std::vector<Tensor> states;
  int64_t shard_offset = 0;

  // Elements [begin, end) of an ELEMENTWISE slot.
  Slot Shard(int64_t begin, int64_t end) const;
  // A shard may begin at multiples of this.
  int64_t Unit() const;
  // The outputs, for comparisons: param, states, low_precision.
  std::vector<const Tensor*> Outputs() const;
  std::string Damage() const;  // of any tensor
};
// "" or the first output that differs in a bit.
std::string SlotsDiffer(const Slot& found, const Slot& expected);

class Optimizer {
 public:
  // OK without a table: not an optimizer.
  static Result<Optimizer> Open(const Subject& subject);
  bool there() const { return table_ != nullptr; }
  const retort_optimizer_v1& table() const { return *table_; }
  bool has_scalars() const { return table_->save != nullptr; }

  // The spec, checked for what no host could work with.
  Result<OptimizerSpecCopy> Spec(const ParamDescription& description) const;
  // A slot of each description, with the same numbers for the same rng.
  Result<std::vector<Slot>> Slots(std::span<const ParamDescription> descriptions, Rng* rng) const;

  struct How {
    std::vector<double> learning_rate = {1e-2, 3e-2}, weight_decay = {0.1, 0};  // per group
    std::optional<double> grad_scale = {};
    int32_t n_threads = 1;
    Growth growth = Growth::kExact;
  };
  // One step; `step` from 1. Fails also where an input was written to.
  Status Step(std::span<Slot> slots, int64_t step, const How& how) const;
  Status Step(std::span<Slot> slots, int64_t step) const { return Step(slots, step, How{}); }
  // For a step that must fail: its status.
  Result<retort_status> StepBroken(std::span<Slot> slots) const;

  Result<std::string> Save() const;
  // The status of load; a misuse of the call is the failure.
  Result<retort_status> Load(const std::string& bytes, uint64_t max_step) const;

 private:
  struct Args;
  explicit Optimizer(RawInstance plugin) : plugin_(std::move(plugin)) {}
  RawInstance plugin_;
  const retort_optimizer_v1* table_ = nullptr;
};

}  // namespace retort::host::check
