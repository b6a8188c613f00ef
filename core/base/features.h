// Developer switches: the environment variable RETORT_DISABLE names techniques to leave out, by
// commas, so that a benchmark can show what each is worth. Results stay right whatever is off.
//   arena       buffers of a pass share memory by lifetimes
//   blocked     large products by our own kernel where it is faster than the BLAS
//   merge       linear nodes with one input run as one product
//   addnorm     sum and norm, forward and backward, in one pass over memory
//   multitensor optimizer and gradient norm in one pass over all tensors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace retort {

// Whether RETORT_DISABLE names it. Reads the environment: ask once, at set-up.
bool IsDisabled(std::string_view feature);

}  // namespace retort
