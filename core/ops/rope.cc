// SPDX-License-Identifier: Apache-2.0
#include "core/graph/rope.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/ops/dispatch.h"
#include "core/ops/ops.h"
#include "retort/kernels/rope.h"

namespace retort::ops {

static_assert(RETORT_ROPE_HALVES == static_cast<uint32_t>(RETORT_KERNELS_ROPE_HALVES));
static_assert(RETORT_ROPE_INTERLEAVED == static_cast<uint32_t>(RETORT_KERNELS_ROPE_INTERLEAVED));

namespace {

// Of sequence `s`: what the batch says, or its last position here + 1.
int64_t LengthOf(size_t s, std::span<const int32_t> positions, std::span<const int32_t> cu_seqlens,
                 std::span<const int32_t> lengths) {
  if (!lengths.empty()) return lengths[s];
  const auto begin = static_cast<size_t>(cu_seqlens[s]);
  const auto end = static_cast<size_t>(cu_seqlens[s + 1]);
  return begin == end ? 0 : int64_t{positions[end - 1]} + 1;
}

}  // namespace

RopeAngles::RopeAngles(const graph::RopeSpec& spec, DType dtype)
    : spec_(spec), lengths_(graph::RopeLengthsOf(spec).value()), dtype_(dtype) {
  graph::RopeTable table = graph::MakeRopeTable(spec).value();
  inv_freq_ = std::move(table.inv_freq);
  factor_ = table.attention_factor;
  if (!lengths_.stale_above) return;
  long_inv_freq_ = graph::MakeRopeTable(spec, lengths_.limit + 1).value().inv_freq;
}

void RopeAngles::Resize(int64_t n_rows) {
  const auto half = static_cast<int64_t>(inv_freq_.size());
  const auto bytes = static_cast<size_t>(n_rows * half * DTypeSize(dtype_));
  cos_.resize(bytes);
  sin_.resize(bytes);
}

void RopeAngles::Fill(int64_t row, int64_t position, const std::vector<double>& inv_freq) {
  const auto fill = [&](auto zero) {
    using T = decltype(zero);
    const size_t half = inv_freq.size(), at = static_cast<size_t>(row) * half;
    T* cos = reinterpret_cast<T*>(cos_.data()) + at;
    T* sin = reinterpret_cast<T*>(sin_.data()) + at;
    for (size_t j = 0; j < half; ++j) {
      const double angle = static_cast<double>(position) * inv_freq[j];
      cos[j] = static_cast<T>(std::cos(angle) * factor_);
      sin[j] = static_cast<T>(std::sin(angle) * factor_);
    }
  };
  dtype_ == DType::kF32 ? fill(float{}) : fill(double{});
}

void RopeAngles::CoverPositions(int64_t n_positions) {
  if (by_row_) by_row_ = false, covered_ = 0;  // the tables hold rows of a pass
  if (n_positions <= covered_) return;
  n_positions = std::max(n_positions, 2 * covered_);
  Resize(n_positions);
  for (int64_t p = covered_; p < n_positions; ++p) Fill(p, p, inv_freq_);
  covered_ = n_positions;
}

void RopeAngles::CoverRows(std::span<const int32_t> positions, std::span<const int32_t> cu_seqlens,
                           std::span<const int32_t> lengths) {
  by_row_ = true;
  Resize(static_cast<int64_t>(positions.size()));
  row_numbers_.resize(positions.size());
  std::iota(row_numbers_.begin(), row_numbers_.end(), 0);
  std::vector<double> own;
  for (size_t s = 0; s + 1 < cu_seqlens.size(); ++s) {
    const int64_t length = LengthOf(s, positions, cu_seqlens, lengths);
    const std::vector<double>* inv_freq = &inv_freq_;
    if (length > lengths_.limit) {
      if (!lengths_.stale_above) own = graph::MakeRopeTable(spec_, length).value().inv_freq;
      inv_freq = lengths_.stale_above ? &long_inv_freq_ : &own;
    }
    for (int32_t row = cu_seqlens[s]; row < cu_seqlens[s + 1]; ++row) {
      Fill(row, positions[static_cast<size_t>(row)], *inv_freq);
    }
  }
}

void RopeAngles::Cover(std::span<const int32_t> positions, std::span<const int32_t> cu_seqlens,
                       std::span<const int32_t> lengths) {
  for (size_t s = 0; lengths_.limit > 0 && s + 1 < cu_seqlens.size(); ++s) {
    if (LengthOf(s, positions, cu_seqlens, lengths) > lengths_.limit) {
      return CoverRows(positions, cu_seqlens, lengths);
    }
  }
  CoverPositions(int64_t{*std::max_element(positions.begin(), positions.end())} + 1);
}

void Rope(const graph::Node& node, const RopeAngles& angles, Rotation rotation,
          std::span<const int32_t> positions, const TensorView& x, const TensorView& y,
          int n_threads) {
  positions = angles.TableRows(positions);
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
