// Causal attention of packed sequences for training: forward with log-sum-exps, and backward.
// Each sequence attends within itself; grouped heads, window and soft cap as in kv_attention.h.
// Results do not depend on n_threads, bit for bit, nor a sequence's on its neighbours.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_KERNELS_ATTENTION_TRAIN_H_
#define RETORT_KERNELS_ATTENTION_TRAIN_H_

#include "retort/kernels/base.h"

RETORT_KERNELS_BEGIN

typedef struct retort_train_attention_shape {
  int64_t n_heads, n_kv_heads, head_dim;  // n_heads is a multiple of n_kv_heads
  int64_t window;                         // a query sees its last `window` keys, itself included;
                                          // 0: all
  double scale;                           // of q.k
  double soft_cap;                        // c > 0: scores become c * tanh(score / c); 0: none
  int64_t n_sequences;
  const int32_t* cu_seqlens;  // [n_sequences + 1], rising from 0 to the number of rows
  int64_t q_stride, k_stride, v_stride, out_stride;       // from a row to the next; 0: contiguous
  int64_t dq_stride, dk_stride, dv_stride, d_out_stride;  // 0: as the value's
} retort_train_attention_shape;

// Bytes of scratch that a call with at most n_threads threads and sequences of at most `longest`
// rows needs (of shape: the head counts and head_dim). It does not shrink as `longest` grows.
int64_t retort_train_attention_scratch_f32(const retort_train_attention_shape* shape,
                                           int64_t longest, int backward,
                                           int n_threads) RETORT_KERNELS_NOEXCEPT;
int64_t retort_train_attention_scratch_f64(const retort_train_attention_shape* shape,
                                           int64_t longest, int backward,
                                           int n_threads) RETORT_KERNELS_NOEXCEPT;

// out[t, n_heads * head_dim]; lse[t, n_heads] (contiguous; may be NULL): log of the sum of the
// exponentials of a row's scores. scratch: 64-byte aligned.
void retort_train_attention_f32(const retort_train_attention_shape* shape, const float* q,
                                const float* k, const float* v, float* out, float* lse,
                                void* scratch, int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_train_attention_f64(const retort_train_attention_shape* shape, const double* q,
                                const double* k, const double* v, double* out, double* lse,
                                void* scratch, int n_threads) RETORT_KERNELS_NOEXCEPT;

// Overwrites dq, dk, dv, which overlap no input. out and lse are those of the forward call.
void retort_train_attention_backward_f32(const retort_train_attention_shape* shape,
                                         const float* d_out, const float* q, const float* k,
                                         const float* v, const float* out, const float* lse,
                                         float* dq, float* dk, float* dv, void* scratch,
                                         int n_threads) RETORT_KERNELS_NOEXCEPT;
void retort_train_attention_backward_f64(const retort_train_attention_shape* shape,
                                         const double* d_out, const double* q, const double* k,
                                         const double* v, const double* out, const double* lse,
                                         double* dq, double* dk, double* dv, void* scratch,
                                         int n_threads) RETORT_KERNELS_NOEXCEPT;

RETORT_KERNELS_END
#endif  // RETORT_KERNELS_ATTENTION_TRAIN_H_
