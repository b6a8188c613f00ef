// The rules of custom ops, one function each; their table is in op_rules.cc.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "host/check/op_run.h"
#include "host/check/rule.h"

namespace retort::host::check::op {

// run(op, layout) on a fresh instance with inputs that it takes; a plugin without the interface,
// or for whose inputs there is no example, is skipped.
template <class Fn>
Finding OnOp(const Subject& subject, Fn&& run) {
  RETORT_FIND(const Op plugin, Op::Open(subject));
  if (!plugin.there()) return Finding::Skip("it has no " RETORT_OP_INTERFACE);
  const Result<OpLayout> layout = plugin.FindLayout(subject);
  if (!layout.ok() && layout.status().code() == Code::kNotFound) {
    return Finding::Skip(layout.status().message());
  }
  RETORT_FAIL_IF_ERROR(layout.status());
  return run(plugin, *layout);
}

inline int64_t SumOf(const std::vector<int64_t>& lengths) {
  int64_t sum = 0;
  for (const int64_t n : lengths) sum += n;
  return sum;
}

inline Result<OpRun> MakeRun(const Op& plugin, const OpLayout& layout,
                             const std::vector<int64_t>& lengths, Elem elem, Rng* rng) {
  RETORT_ASSIGN_OR_RETURN(OpShapesCopy shapes, plugin.Infer(layout, SumOf(lengths), elem));
  return OpRun(layout, std::move(shapes), lengths, elem, rng);
}

Finding Infer(const Subject& subject);
Finding Dtypes(const Subject& subject);
Finding Memory(const Subject& subject);
Finding Outputs(const Subject& subject);
Finding Threads(const Subject& subject);
Finding Repeat(const Subject& subject);
Finding Grown(const Subject& subject);
Finding InPlace(const Subject& subject);
Finding Empty(const Subject& subject);

Finding Gradient(const Subject& subject);
Finding Sequences(const Subject& subject);
Finding Rowwise(const Subject& subject);
Finding Decode(const Subject& subject);

}  // namespace retort::host::check::op
