// The rules of sequence losses, one function each; their table is in sequence_loss_rules.cc.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "host/check/rule.h"
#include "host/check/sequence_loss_batch.h"

namespace retort::host::check::sequence_loss {

// run(loss, spec) on a fresh instance; a plugin without the interface is skipped.
template <class Fn>
Finding OnSequenceLoss(const Subject& subject, Fn&& run) {
  RETORT_FIND(const SequenceLoss loss, SequenceLoss::Open(subject));
  if (!loss.there()) return Finding::Skip("it has no " RETORT_SEQUENCE_LOSS_INTERFACE);
  const retort_loss_spec* spec = loss.spec();
  if (spec == nullptr) return Finding::Fail("spec gave NULL, must never");
  return run(loss, *spec);
}

// Every side input that the spec names, and the lengths that most rules use.
inline uint64_t AllInputs(const retort_loss_spec& spec) { return spec.needs | spec.optional; }
inline const std::vector<int64_t> kLengths = {7, 12, 3, 9, 1, 8};

Finding Derivative(const Subject& subject);
Finding OnPolicy(const Subject& subject);
Finding Precisions(const Subject& subject);
Finding Finite(const Subject& subject);
Finding Masked(const Subject& subject);
Finding Empty(const Subject& subject);
Finding Parts(const Subject& subject);

Finding Spec(const Subject& subject);
Finding Memory(const Subject& subject);
Finding Outputs(const Subject& subject);
Finding Threads(const Subject& subject);
Finding Repeat(const Subject& subject);
Finding Grown(const Subject& subject);
Finding Dtypes(const Subject& subject);
Finding SideInputs(const Subject& subject);

}  // namespace retort::host::check::sequence_loss
