// Rows of logits [rows, cols]: reductions over the vocabulary and the cross-entropy with its
// gradient. `scale` multiplies the logits first (1 / temperature); it must be finite and positive.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_KERNELS_SOFTMAX_H_
#define RETORT_KERNELS_SOFTMAX_H_

#include "retort/kernels/base.h"

RETORT_KERNELS_BEGIN

// lse[r] = log(sum_c exp(scale * x[r,c])).
void retort_row_logsumexp_f32(const float* x, int64_t x_stride, int64_t rows, int64_t cols,
                              double scale, float* lse, int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_row_logsumexp_f64(const double* x, int64_t x_stride, int64_t rows, int64_t cols,
                              double scale, double* lse, int n_threads) RETORT_KERNELS_NOEXCEPT;

// Index of the largest element, the lowest one on ties; NaN never wins. A row of NaN gives 0.
// max (may be NULL) receives the value.
void retort_row_argmax_f32(const float* x, int64_t x_stride, int64_t rows, int64_t cols,
                           int32_t* index, float* max, int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_row_argmax_f64(const double* x, int64_t x_stride, int64_t rows, int64_t cols,
                           int32_t* index, double* max, int n_threads) RETORT_KERNELS_NOEXCEPT;

// logp[r] = scale * x[r, index[r]] - lse; a negative index gives 0. entropy[r] (may be NULL) is
// that of the scaled row, in nats.
void retort_row_logp_f32(const float* x, int64_t x_stride, int64_t rows, int64_t cols, double scale,
                         const int64_t* index, float* logp, float* entropy,
                         int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_row_logp_f64(const double* x, int64_t x_stride, int64_t rows, int64_t cols,
                         double scale, const int64_t* index, double* logp, double* entropy,
                         int n_threads) RETORT_KERNELS_NOEXCEPT;

// The way back, in place: with p = softmax(scale * x[r]), logp and entropy (H) as row_logp gave
// them,
//   x[r,c] becomes scale * (d_logp[r] * ([c = index[r]] - p_c) - d_entropy[r] * p_c (log p_c + H)).
// A row with a negative index becomes 0. d_entropy may be NULL (0), entropy too then.
typedef struct retort_logp_backward_shape {
  int64_t rows, cols, stride;  // stride 0: cols
  double scale;
} retort_logp_backward_shape;
void retort_row_logp_backward_f32(const retort_logp_backward_shape* shape, float* x,
                                  const int64_t* index, const float* logp, const float* entropy,
                                  const float* d_logp, const float* d_entropy,
                                  int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_row_logp_backward_f64(const retort_logp_backward_shape* shape, double* x,
                                  const int64_t* index, const double* logp, const double* entropy,
                                  const double* d_logp, const double* d_entropy,
                                  int n_threads) RETORT_KERNELS_NOEXCEPT;

typedef struct retort_cross_entropy_shape {
  int64_t rows, cols, stride;  // stride 0: cols
  double label_smoothing;      // epsilon: (1-e) * nll + e * (lse - mean(x))
  double z_loss;               // c: adds c * lse^2
} retort_cross_entropy_shape;

// Per row with label y >= 0, in place: logits become weight[r] * d loss / d logits, where
//   loss = (1-e) * nll + e * (lse - mean(x)) + c * lse^2,  nll = lse - x[y].
// A row with a negative label or zero weight becomes 0 and its outputs are 0 (label < 0) or as
// usual. weight NULL: 1. Outputs [rows] are not weighted; loss, nll and entropy may be NULL.
void retort_cross_entropy_f32(const retort_cross_entropy_shape* shape, float* logits,
                              const int64_t* labels, const float* weight, float* loss, float* nll,
                              float* entropy, int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_cross_entropy_f64(const retort_cross_entropy_shape* shape, double* logits,
                              const int64_t* labels, const double* weight, double* loss,
                              double* nll, double* entropy, int n_threads) RETORT_KERNELS_NOEXCEPT;

// One row, in the calling thread: p[c] = exp(scale * (x[c] - max)), block_sums[b] = sum of p over
// columns [b * 256, (b + 1) * 256). Returns the total, summed over blocks in order.
double retort_exp_blocks_f32(const float* x, int64_t cols, double scale, double max, float* p,
                             double* block_sums) RETORT_KERNELS_NOEXCEPT;

// Bins of one row of finite logits (or -inf) below its maximum, in the calling thread: column c
// lies in bin min(floor((max - x[c]) * bins_per_unit), n_bins - 1), in f32. counts and masses
// [n_bins] become the number of columns and the sum of p in each (the last bin's in lanes within
// blocks of 256 columns, the others in column order).
void retort_logit_bins_f32(const float* x, const float* p, int64_t cols, float max,
                           float bins_per_unit, int64_t n_bins, int64_t* counts,
                           double* masses) RETORT_KERNELS_NOEXCEPT;
// Writes the columns of one bin in rising order; returns how many. ids: room for counts[bin].
int64_t retort_logit_bin_ids_f32(const float* x, int64_t cols, float max, float bins_per_unit,
                                 int64_t n_bins, int64_t bin, int32_t* ids) RETORT_KERNELS_NOEXCEPT;

RETORT_KERNELS_END
#endif  // RETORT_KERNELS_SOFTMAX_H_
