// SPDX-License-Identifier: Apache-2.0
#include "core/engine/value_head.h"

#include <cstdint>
#include <vector>

#include "core/ops/dispatch.h"

namespace retort::engine {

void ValueHead::Forward(const TensorView& hidden, const TensorView& values) const {
  ops::ByType(hidden, [&](auto zero) {
    using T = decltype(zero);
    const T* w = weight_.as<T>();
    const int64_t width = weight_.numel();
    for (int64_t t = 0; t < hidden.shape[0]; ++t) {
      const T* h = hidden.as<T>() + t * hidden.strides[0];
      double sum = 0;
      for (int64_t d = 0; d < width; ++d) {
        sum += static_cast<double>(h[d]) * static_cast<double>(w[d]);
      }
      values.as<T>()[t] = static_cast<T>(sum);
    }
  });
}

void ValueHead::Backward(const TensorView& d_values, const TensorView& hidden,
                         const TensorView& d_hidden, Gradients& grads) const {
  ops::ByType(hidden, [&](auto zero) {
    using T = decltype(zero);
    const T* w = weight_.as<T>();
    const auto width = static_cast<size_t>(weight_.numel());
    std::vector<double> sums(width, 0.0);
    for (int64_t t = 0; t < hidden.shape[0]; ++t) {
      const T slope = d_values.as<T>()[t];
      if (slope == 0) continue;
      const T* h = hidden.as<T>() + t * hidden.strides[0];
      T* dh = d_hidden.as<T>() + t * d_hidden.strides[0];
      for (size_t d = 0; d < width; ++d) {
        dh[d] += slope * w[d];
        sums[d] += static_cast<double>(slope) * static_cast<double>(h[d]);
      }
    }
    if (!grads.Wanted(index_)) return;
    T* dw = grads.ForAdding(index_).as<T>();
    for (size_t d = 0; d < width; ++d) dw[d] += static_cast<T>(sums[d]);
  });
}

}  // namespace retort::engine
