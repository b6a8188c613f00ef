// A param of a stored type as kernels/packed.h sees it. One matrix [out, in] is one packed block of
// memory; experts [E, F, D] are E of them, one after another. f32, f16 and bf16 lie row by row.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cassert>
#include <cstdint>
#include <span>

#include "core/base/tensor.h"
#include "retort/kernels/packed.h"

namespace retort::model {

inline constexpr int64_t kStoreAlignment = 64;

// RETORT_PACKED_*; -1: no type that weights are kept in.
constexpr int PackedType(DType dtype) {
  switch (dtype) {
    case DType::kF32: return RETORT_PACKED_F32;
    case DType::kF16: return RETORT_PACKED_F16;
    case DType::kBF16: return RETORT_PACKED_BF16;
    case DType::kQ8_0: return RETORT_PACKED_Q8_0;
    case DType::kQ4_0: return RETORT_PACKED_Q4_0;
    case DType::kQ4_1: return RETORT_PACKED_Q4_1;
    case DType::kQ4_K: return RETORT_PACKED_Q4_K;
    case DType::kQ6_K: return RETORT_PACKED_Q6_K;
    case DType::kNF4: return RETORT_PACKED_NF4;
    default: return -1;
  }
}

// A param as `count` matrices [rows, cols]; a vector is one matrix of one column.
struct Matrices {
  int64_t count = 1, rows = 1, cols = 1;
};
inline Matrices MatricesOf(std::span<const int64_t> shape) {
  Matrices m;
  if (shape.empty()) return m;
  if (shape.size() == 1) return {.count = 1, .rows = shape[0], .cols = 1};
  for (size_t d = 0; d + 2 < shape.size(); ++d) m.count *= shape[d];
  m.rows = shape[shape.size() - 2];
  m.cols = shape.back();
  return m;
}

// From one matrix of a param to the next.
inline int64_t MatrixBytes(DType dtype, int64_t rows, int64_t cols) {
  const int64_t bytes = retort_packed_bytes(PackedType(dtype), rows, cols);
  if (!IsBlockType(dtype)) return bytes;
  return (bytes + kStoreAlignment - 1) / kStoreAlignment * kStoreAlignment;
}

// Matrix `index` of a param (of experts: the expert). `exact`: products never round the other
// operand to int8, as training through frozen weights wants it.
inline retort_packed_matrix PackedMatrix(const TensorView& w, int64_t index = 0,
                                         bool exact = false) {
  assert(PackedType(w.dtype) >= 0 && (IsBlockType(w.dtype) || w.contiguous()));
  const Matrices m = MatricesOf({w.shape.data(), static_cast<size_t>(w.ndim)});
  const auto* data = static_cast<const unsigned char*>(w.data);
  return {.type = PackedType(w.dtype),
          .exact = exact ? 1 : 0,
          .rows = m.rows,
          .cols = m.cols,
          .data = data + index * MatrixBytes(w.dtype, m.rows, m.cols)};
}

}  // namespace retort::model
