// What the rules of both kinds of losses share: their spec.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "host/check/rule.h"
#include "retort/abi/draft/loss.h"

namespace retort::host::check {

// A copy of all that a spec says.
struct SpecCopy {
  retort_loss_spec spec{};
  std::vector<std::string> aux_names;
  explicit SpecCopy(const retort_loss_spec& from);
};

// Fails what no host could work with: sizes, unknown bits, names, a bit in needs and optional.
// `side_inputs`: the bits that this kind of loss has.
Finding CheckSpec(const retort_loss_spec* spec, uint64_t side_inputs);
// Fails where b says something else than a; `when`: how they were got.
Finding CheckSameSpec(const SpecCopy& a, const SpecCopy& b, std::string_view when);

}  // namespace retort::host::check
