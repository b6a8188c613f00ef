// Causal attention of query rows over cached keys and values: one row per sequence when decoding,
// many when prefilling; both kinds in one call.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_KERNELS_ATTENTION_H_
#define RETORT_KERNELS_ATTENTION_H_

#include "retort/kernels/base.h"

RETORT_KERNELS_BEGIN

enum { RETORT_KERNELS_MAX_HEAD_DIM = 512 };

typedef struct retort_attention_shape {
  int64_t n_heads, n_kv_heads, head_dim;  // n_heads is a multiple of n_kv_heads
  int64_t window;                         // a query sees its last `window` keys, itself included;
                                          // 0: all
  double scale;                           // of q.k
  double soft_cap;                        // c > 0: scores become c * tanh(score / c); 0: none
  int64_t kv_head_stride;                 // from one kv head of k and v to the next
  int64_t kv_row_stride;                  // from one position to the next
} retort_attention_shape;

// Query row r stands at position n_past + r and sees keys 0 .. n_past + r (all in the cache).
typedef struct retort_attention_sequence_f32 {
  const float* q;  // [n_q, n_heads * head_dim]
  const float* k;  // head g, position j: k + g * kv_head_stride + j * kv_row_stride
  const float* v;
  float* out;  // [n_q, n_heads * head_dim]
  int64_t q_stride, out_stride;
  int64_t n_q, n_past;
} retort_attention_sequence_f32;

// A row's result does not depend on the other rows, sequences or n_threads, nor on whether it came
// in a long or a short block. head_dim is at most RETORT_KERNELS_MAX_HEAD_DIM.
void retort_cached_attention_f32(const retort_attention_shape* shape,
                                 const retort_attention_sequence_f32* sequences,
                                 int64_t n_sequences, int n_threads) RETORT_KERNELS_NOEXCEPT;

RETORT_KERNELS_END
#endif  // RETORT_KERNELS_ATTENTION_H_
