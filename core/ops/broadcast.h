// mul by a value of width 1: what MulForward and MulBackward do then.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/base/tensor.h"

namespace retort::ops {

void MulColumnForward(const TensorView& a_TD, const TensorView& b_T1, const TensorView& y_TD,
                      int n_threads);
void MulColumnBackward(const TensorView& dy_TD, const TensorView& a_TD, const TensorView& b_T1,
                       const TensorView& da_TD, const TensorView& db_T1, int n_threads);

}  // namespace retort::ops
