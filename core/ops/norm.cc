// rms_norm and head_norm.
// SPDX-License-Identifier: Apache-2.0
#include "retort/kernels/norm.h"

#include "core/ops/ops.h"

namespace retort::ops {
namespace {

retort_norm_shape Shape(const NormSpec& spec, const TensorView& x) {
  return {.rows = x.shape[0],
          .groups = spec.groups,
          .cols = x.shape[1] / spec.groups,
          .eps = spec.eps,
          .offset = spec.weight_offset};
}

template <class T>
T* DataOrNull(const TensorView* view) {
  return view == nullptr ? nullptr : view->as<T>();
}

}  // namespace

void NormForward(const NormSpec& spec, const TensorView& x, const TensorView& w,
                 const TensorView& y, const TensorView* rstd, int n_threads) {
  const retort_norm_shape shape = Shape(spec, x);
  if (x.dtype == DType::kF32) {
    retort_rms_norm_f32(&shape, x.as<float>(), x.strides[0], w.as<float>(), y.as<float>(),
                        y.strides[0], DataOrNull<float>(rstd), n_threads);
  } else {
    retort_rms_norm_f64(&shape, x.as<double>(), x.strides[0], w.as<double>(), y.as<double>(),
                        y.strides[0], DataOrNull<double>(rstd), n_threads);
  }
}

void AddNormForward(const NormSpec& spec, const TensorView& a, const TensorView& b,
                    const TensorView& w, const TensorView& sum, const TensorView& y,
                    const TensorView* rstd, int n_threads) {
  const retort_norm_shape shape = Shape(spec, sum);
  if (a.dtype == DType::kF32) {
    retort_add_rms_norm_f32(&shape, a.as<float>(), b.as<float>(), w.as<float>(), sum.as<float>(),
                            y.as<float>(), DataOrNull<float>(rstd), n_threads);
  } else {
    retort_add_rms_norm_f64(&shape, a.as<double>(), b.as<double>(), w.as<double>(),
                            sum.as<double>(), y.as<double>(), DataOrNull<double>(rstd), n_threads);
  }
}

void NormBackward(const NormSpec& spec, const TensorView& dy, const TensorView& x,
                  const TensorView& w, const TensorView& rstd, const TensorView& dx,
                  bool accumulate, const TensorView& dw, int n_threads) {
  const retort_norm_shape shape = Shape(spec, x);
  const int add = accumulate ? 1 : 0;
  if (x.dtype == DType::kF32) {
    retort_rms_norm_backward_f32(&shape, dy.as<float>(), dy.strides[0], x.as<float>(), x.strides[0],
                                 w.as<float>(), rstd.as<float>(), dx.as<float>(), dx.strides[0],
                                 add, dw.as<float>(), n_threads);
  } else {
    retort_rms_norm_backward_f64(&shape, dy.as<double>(), dy.strides[0], x.as<double>(),
                                 x.strides[0], w.as<double>(), rstd.as<double>(), dx.as<double>(),
                                 dx.strides[0], add, dw.as<double>(), n_threads);
  }
}

void AddNormBackward(const NormSpec& spec, const TensorView& dy, const TensorView& x,
                     const TensorView& w, const TensorView& rstd, const TensorView& dx,
                     bool accumulate, const TensorView& dw, Workspace& workspace, int n_threads) {
  const retort_norm_shape shape = Shape(spec, x);
  const int add = accumulate ? 1 : 0;
  if (x.dtype == DType::kF32) {
    void* const scratch = workspace.Reserve(retort_rms_norm_scratch_f32(&shape));
    retort_rms_norm_backward_fused_f32(
        &shape, dy.as<float>(), dy.strides[0], x.as<float>(), x.strides[0], w.as<float>(),
        rstd.as<float>(), dx.as<float>(), dx.strides[0], add, dw.as<float>(), scratch, n_threads);
  } else {
    void* const scratch = workspace.Reserve(retort_rms_norm_scratch_f64(&shape));
    retort_rms_norm_backward_fused_f64(&shape, dy.as<double>(), dy.strides[0], x.as<double>(),
                                       x.strides[0], w.as<double>(), rstd.as<double>(),
                                       dx.as<double>(), dx.strides[0], add, dw.as<double>(),
                                       scratch, n_threads);
  }
}

}  // namespace retort::ops
