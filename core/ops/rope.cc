// SPDX-License-Identifier: Apache-2.0
#include "core/graph/rope.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "core/ops/dispatch.h"
#include "core/ops/ops.h"
#include "retort/kernels/rope.h"

namespace retort::ops {

static_assert(RETORT_ROPE_HALVES == static_cast<uint32_t>(RETORT_KERNELS_ROPE_HALVES));
static_assert(RETORT_ROPE_INTERLEAVED == static_cast<uint32_t>(RETORT_KERNELS_ROPE_INTERLEAVED));

RopeAngles::RopeAngles(const graph::RopeSpec& spec, DType dtype) : dtype_(dtype) {
  auto table = graph::MakeRopeTable(spec);
  inv_freq_ = std::move(table->inv_freq);
  factor_ = table->attention_factor;
  limit_ = table->position_limit;
}

template <class T>
void RopeAngles::Extend(int64_t n_positions) {
  const auto half = static_cast<int64_t>(inv_freq_.size());
  const auto bytes = static_cast<size_t>(n_positions * half) * sizeof(T);
  cos_.resize(bytes);
  sin_.resize(bytes);
  T* cos = reinterpret_cast<T*>(cos_.data());
  T* sin = reinterpret_cast<T*>(sin_.data());
  for (int64_t position = covered_; position < n_positions; ++position) {
    for (int64_t j = 0; j < half; ++j) {
      const double angle = static_cast<double>(position) * inv_freq_[static_cast<size_t>(j)];
      cos[position * half + j] = static_cast<T>(std::cos(angle) * factor_);
      sin[position * half + j] = static_cast<T>(std::sin(angle) * factor_);
    }
  }
}

void RopeAngles::Cover(int64_t max_position) {
  if (max_position < covered_) return;
  if (limit_ > 0 && max_position >= limit_) {
    throw Error(OutOfRange("rope scaling \"dynamic\" is executed up to its " +
                           std::to_string(limit_) + " original positions; the batch has position " +
                           std::to_string(max_position) + ": use shorter texts"));
  }
  const int64_t n_positions = std::max(max_position + 1, 2 * covered_);
  if (dtype_ == DType::kF32) {
    Extend<float>(n_positions);
  } else {
    Extend<double>(n_positions);
  }
  covered_ = n_positions;
}

void Rope(const graph::Node& node, const RopeAngles& angles, Rotation rotation,
          std::span<const int32_t> positions, const TensorView& x, const TensorView& y,
          int n_threads) {
  const retort_rope_shape shape{.rows = x.shape[0],
                                .n_heads = node.n_heads,
                                .head_dim = x.shape[1] / node.n_heads,
                                .rotary_dim = node.rope.rotary_dim,
                                .layout = static_cast<int32_t>(node.rope.layout),
                                .inverse = rotation == Rotation::kBackward ? 1 : 0};
  ByType(x, [&](auto zero) {
    using T = decltype(zero);
    const auto* cos = static_cast<const T*>(angles.cos_table());
    const auto* sin = static_cast<const T*>(angles.sin_table());
    if constexpr (std::is_same_v<T, float>) {
      retort_rope_f32(&shape, x.as<T>(), x.strides[0], cos, sin, positions.data(), y.as<T>(),
                      y.strides[0], n_threads);
    } else {
      retort_rope_f64(&shape, x.as<T>(), x.strides[0], cos, sin, positions.data(), y.as<T>(),
                      y.strides[0], n_threads);
    }
  });
}

}  // namespace retort::ops
