// The rules of token losses, one function each; their table is in token_loss_rules.cc.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "host/check/rule.h"
#include "host/check/token_loss_batch.h"

namespace retort::host::check::token_loss {

// run(loss, spec) on a fresh instance; a plugin without the interface is skipped.
template <class Fn>
Finding OnTokenLoss(const Subject& subject, Fn&& run) {
  RETORT_FIND(const TokenLoss loss, TokenLoss::Open(subject));
  if (!loss.there()) return Finding::Skip("it has no " RETORT_TOKEN_LOSS_INTERFACE);
  const retort_loss_spec* spec = loss.spec();
  if (spec == nullptr) return Finding::Fail("spec gave NULL, must never");
  return run(loss, *spec);
}

// Likewise run(loss, spec, inputs), for every form of teacher that it takes.
template <class Fn>
Finding OnEachTeacher(const Subject& subject, Fn&& run) {
  return OnTokenLoss(subject, [&](const TokenLoss& loss, const retort_loss_spec& spec) {
    for (const uint64_t inputs : InputSets(spec)) {
      if (Finding finding = run(loss, spec, inputs); finding.verdict != Verdict::kPass) {
        return finding;
      }
    }
    return Finding::Pass();
  });
}

Finding Gradient(const Subject& subject);
Finding Precisions(const Subject& subject);
Finding Finite(const Subject& subject);
Finding ZeroWeight(const Subject& subject);
Finding Weight(const Subject& subject);
Finding Chunks(const Subject& subject);

Finding Spec(const Subject& subject);
Finding Memory(const Subject& subject);
Finding Outputs(const Subject& subject);
Finding Threads(const Subject& subject);
Finding Repeat(const Subject& subject);
Finding Grown(const Subject& subject);
Finding Labels(const Subject& subject);
Finding Dtypes(const Subject& subject);
Finding SideInputs(const Subject& subject);

}  // namespace retort::host::check::token_loss
