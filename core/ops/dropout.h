// Dropout with the mask in a key: the same call again gives the same mask, so nothing is stored.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/base/rng.h"
#include "core/base/tensor.h"

namespace retort::ops {

// y = x / (1 - p) where the element's 32-bit word of the key's stream is at least p * 2^32, else 0.
// Matrices, f32 or f64; y may be x. 0 <= p < 1. Also the way back, from dy to dx.
void Dropout(RngKey key, double p, const TensorView& x, const TensorView& y, int n_threads);

}  // namespace retort::ops
