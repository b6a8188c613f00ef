// SPDX-License-Identifier: Apache-2.0
#include "core/model/packed.h"
#include "core/ops/dispatch.h"
#include "core/ops/ops.h"
#include "retort/kernels/elementwise.h"

namespace retort::ops {

void EmbedForward(const TensorView& table, std::span<const int32_t> ids, double scale,
                  const TensorView& y, int n_threads) {
  if (table.dtype != y.dtype && y.dtype == DType::kF32) {
    const retort_packed_matrix matrix = model::PackedMatrix(table);
    retort_packed_embed_f32(&matrix, ids.data(), y.rows(), scale, y.as<float>(), y.strides[0],
                            n_threads);
  } else if (y.dtype == DType::kF32) {
    retort_embed_f32(table.as<float>(), ids.data(), scale, y.as<float>(), y.rows(), y.cols(),
                     n_threads);
  } else {
    retort_embed_f64(table.as<double>(), ids.data(), scale, y.as<double>(), y.rows(), y.cols(),
                     n_threads);
  }
}

void EmbedBackward(const TensorView& dy, std::span<const int32_t> ids, double scale,
                   const TensorView& d_table, int n_threads) {
  if (dy.dtype == DType::kF32) {
    retort_embed_backward_f32(dy.as<float>(), ids.data(), scale, d_table.as<float>(), dy.rows(),
                              dy.cols(), n_threads);
  } else {
    retort_embed_backward_f64(dy.as<double>(), ids.data(), scale, d_table.as<double>(), dy.rows(),
                              dy.cols(), n_threads);
  }
}

}  // namespace retort::ops
