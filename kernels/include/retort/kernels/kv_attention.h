// Attention over a blocked cache of keys and values, for decoding and prefill in one call, and the
// kernel that appends to it. A block holds RETORT_KERNELS_KV_BLOCK positions of all kv heads of one
// layer; position j of a sequence lies in block table[j / RETORT_KERNELS_KV_BLOCK]. Blocks may
// stand in several tables (shared prefixes: rows that see them together read them once). Layout of
// one kv head's part of a block (retort_kv_head_bytes bytes, a multiple of 64):
//   keys:   elements [head_dim][64 positions], then for int8 f32 scales [64]
//   values: elements [64 positions][head_dim], then for int8 f32 scales [64]
// An int8 row (a position of a head) is scale * q, scale = max|x| / 127, rounding to nearest even.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_KERNELS_KV_ATTENTION_H_
#define RETORT_KERNELS_KV_ATTENTION_H_

#include "retort/kernels/base.h"

RETORT_KERNELS_BEGIN

enum { RETORT_KERNELS_KV_BLOCK = 64 };
enum {
  RETORT_KERNELS_KV_F32 = 0,
  RETORT_KERNELS_KV_BF16 = 1,
  RETORT_KERNELS_KV_INT8 = 2,
};
enum { RETORT_KERNELS_KV_MAX_HEAD_DIM = 512 };

// Bytes of one kv head's keys (or values) of a block.
int64_t retort_kv_head_bytes(int kv_type, int64_t head_dim) RETORT_KERNELS_NOEXCEPT;

// One layer's cache. Head g of block b: keys + b * block_stride + g * retort_kv_head_bytes(..), and
// values likewise. Both pointers and block_stride (in bytes) are multiples of 64.
typedef struct retort_kv_cache {
  unsigned char* keys;
  unsigned char* values;
  int64_t block_stride;
  int64_t n_kv_heads, head_dim;
  int32_t kv_type;  // RETORT_KERNELS_KV_*
  int32_t reserved;
} retort_kv_cache;

// Rows of one sequence in a call: they stand at positions n_past .. n_past + n_rows - 1.
typedef struct retort_kv_sequence {
  const int32_t* table;  // block ids; covers n_past + n_rows positions
  int64_t n_past, n_rows;
} retort_kv_sequence;

// Converts and writes the rows of all sequences. k and v: rows [total rows, n_kv_heads * head_dim]
// in the order of the sequences. No two sequences may write into the same block.
void retort_kv_append_f32(const retort_kv_cache* cache, const retort_kv_sequence* sequences,
                          int64_t n_sequences, const float* k, int64_t k_stride, const float* v,
                          int64_t v_stride, int n_threads) RETORT_KERNELS_NOEXCEPT;

typedef struct retort_kv_attention_shape {
  int64_t n_heads;  // a multiple of the cache's n_kv_heads
  int64_t window;   // a query sees its last `window` keys, itself included; 0: all. Table entries
                    // of blocks that lie before every row's window are not read.
  double scale;     // of q.k
  double soft_cap;  // c > 0: scores become c * tanh(score / c); 0: none
} retort_kv_attention_shape;

// q and out: rows [total rows, n_heads * head_dim] in the order of the sequences; out may be q.
// A row attends to keys 0 .. its own position, which were appended before. Its result depends on
// neither its neighbours, nor n_threads, nor how its sequence was cut into calls.
void retort_kv_attention_f32(const retort_kv_attention_shape* shape, const retort_kv_cache* cache,
                             const retort_kv_sequence* sequences, int64_t n_sequences,
                             const float* q, int64_t q_stride, float* out, int64_t out_stride,
                             int n_threads) RETORT_KERNELS_NOEXCEPT;

// Reads one position back as f32, [n_kv_heads * head_dim] each (tests, op states, debugging).
void retort_kv_read_f32(const retort_kv_cache* cache, const int32_t* table, int64_t position,
                        float* k, float* v) RETORT_KERNELS_NOEXCEPT;

RETORT_KERNELS_END
#endif  // RETORT_KERNELS_KV_ATTENTION_H_
