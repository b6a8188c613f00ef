// Developer switches: the environment variable RETORT_DISABLE names techniques to leave out, by
// commas, so that a benchmark can show what each is worth. Results stay right whatever is off.
//   arena       buffers of a pass share memory by lifetimes, also with the gradients
//   blocked     large products by our own kernel where it is faster than the BLAS
//   merge       linear nodes with one input run as one product
//   addnorm     sum and norm, forward and backward, in one pass over memory
//   multitensor optimizer and gradient norm in one pass over all tensors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace retort {

// Whether RETORT_DISABLE names it. Reads the environment: ask once, at set-up.
bool IsDisabled(std::string_view feature);

// All that it may name, and the first of its names that isn't one of them; "": all are.
const std::vector<std::string>& FeatureNames();
std::string UnknownDisabled();

}  // namespace retort
