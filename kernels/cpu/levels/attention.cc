// Causal attention over cached keys and values, one block of query rows of one kv head at a time.
// Method: up to 16 "virtual rows" (query row x query head of the group) share each tile of 64 keys
// while it is in L1/L2: scores by dot_tile.h, online softmax, then p * V in registers. Tiles start
// at multiples of 64 positions and masked scores count as exp(-inf) = 0, so a row's bits do not
// depend on which rows share its block. Scratch lives on the stack (70 kB).
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/levels/dot_tile.h"

namespace retort::kernels::RETORT_KERNELS_NS {

static constexpr int64_t kR = kAttentionRows, kK = kAttentionKeys;
static constexpr int64_t kH = RETORT_KERNELS_MAX_HEAD_DIM;

struct BlockState {
  alignas(64) float q[kR * kH];
  alignas(64) float out[kR * kH];
  alignas(64) float p[kR * kK];  // scores, then exp(score - max)
  float max[kR], sum[kR];
  int64_t position[kR];
  float* target[kR];
  int64_t rows, first_key, last_key;  // keys that some row of the block sees, both included
};

static void LoadBlock(const retort_attention_shape& shape, const retort_attention_sequence_f32& seq,
                      int64_t kv_head, int64_t block, BlockState* s) {
  const int64_t group = shape.n_heads / shape.n_kv_heads, dim = shape.head_dim;
  const int64_t begin = block * kR, all = seq.n_q * group;
  s->rows = all - begin < kR ? all - begin : kR;
  for (int64_t r = 0; r < s->rows; ++r) {
    const int64_t row = (begin + r) / group, head = kv_head * group + (begin + r) % group;
    memcpy(s->q + r * dim, seq.q + row * seq.q_stride + head * dim,
           static_cast<size_t>(dim) * sizeof(float));
    s->target[r] = seq.out + row * seq.out_stride + head * dim;
    s->position[r] = seq.n_past + row;
    s->max[r] = -INFINITY;
    s->sum[r] = 0;
  }
  memset(s->out, 0, static_cast<size_t>(s->rows * dim) * sizeof(float));
  const int64_t window = shape.window;
  s->first_key = window > 0 && s->position[0] >= window ? s->position[0] - window + 1 : 0;
  s->last_key = s->position[s->rows - 1];
}

// Turns the row's raw scores of keys tile .. tile + 63 into weights and rescales what the row has
// gathered. Keys the row does not see get weight 0. False: it sees none of them.
static bool SoftmaxRow(const retort_attention_shape& shape, int64_t tile, int64_t r,
                       BlockState* s) {
  const int64_t position = s->position[r];
  int64_t begin = shape.window > 0 ? position - shape.window + 1 - tile : 0;
  int64_t end = position + 1 - tile;
  begin = begin > 0 ? begin : 0;
  end = end < kK ? end : kK;
  if (begin >= end) return false;
  float* p = s->p + r * kK;
  for (int64_t j = 0; j < begin; ++j) p[j] = -INFINITY;
  for (int64_t j = end; j < kK; ++j) p[j] = -INFINITY;
  const F16 scale = F16::Set1(static_cast<float>(shape.scale));
  const F16 cap = F16::Set1(static_cast<float>(shape.soft_cap));
  F16 max = F16::Set1(-INFINITY);
  for (int64_t j = 0; j < kK; j += 16) {
    F16 v = F16::Load(p + j) * scale;
    if (shape.soft_cap > 0) {  // tanh(-inf) = -1: the masked ones must stay -inf
      v = BlendLess(F16::Set1(-INFINITY), v, cap * Tanh(v / cap), v);
    }
    v.Store(p + j);
    max = Max(v, max);
  }
  const float before = s->max[r], tile_max = MaxAll(max);
  const float now = tile_max > before ? tile_max : before;
  F16 sum = F16::Zero();
  for (int64_t j = 0; j < kK; j += 16) {
    const F16 e = Exp(F16::Load(p + j) - F16::Set1(now));
    e.Store(p + j);
    sum = sum + e;
  }
  if (now != before) {
    const F16 keep = Exp(F16::Set1(before) - F16::Set1(now));
    float* out = s->out + r * shape.head_dim;
    ForLanes(shape.head_dim,
             [&](int64_t i, auto n) { StoreAt(out + i, LoadAt<F16>(out + i, n) * keep, n); });
    float lanes[16];
    keep.Store(lanes);
    s->sum[r] *= lanes[0];
    s->max[r] = now;
  }
  s->sum[r] += Sum(sum);
  return true;
}

// out[r + k, columns] += sum over keys of p * v, for kRows rows; columns are kCols vectors wide
// (or one partial vector).
template <int kRows, int kCols, class Part>
static inline void GatherTile(const float* p, const float* v, int64_t v_stride, int64_t keys,
                              float* out, int64_t out_stride, Part n) {
  F16 acc[kRows][kCols];
  for (int k = 0; k < kRows; ++k) {
    for (int c = 0; c < kCols; ++c) acc[k][c] = LoadAt<F16>(out + k * out_stride + c * 16, n);
  }
  for (int64_t j = 0; j < keys; ++j) {
    F16 value[kCols];
    for (int c = 0; c < kCols; ++c) value[c] = LoadAt<F16>(v + j * v_stride + c * 16, n);
    for (int k = 0; k < kRows; ++k) {
      const F16 weight = F16::Set1(p[k * kK + j]);
      for (int c = 0; c < kCols; ++c) acc[k][c] = Fma(weight, value[c], acc[k][c]);
    }
  }
  for (int k = 0; k < kRows; ++k) {
    for (int c = 0; c < kCols; ++c) StoreAt(out + k * out_stride + c * 16, acc[k][c], n);
  }
}

template <int kRows>
static void GatherRows(const float* p, const float* v, int64_t v_stride, int64_t keys, float* out,
                       int64_t dim) {
  int64_t c = 0;
  for (; c + 32 <= dim; c += 32)
    GatherTile<kRows, 2>(p, v + c, v_stride, keys, out + c, dim, Full{});
  for (; c + 16 <= dim; c += 16)
    GatherTile<kRows, 1>(p, v + c, v_stride, keys, out + c, dim, Full{});
  if (c < dim) GatherTile<kRows, 1>(p, v + c, v_stride, keys, out + c, dim, dim - c);
}

static void Gather(const float* v, int64_t v_stride, int64_t keys, int64_t dim, BlockState* s) {
#if RETORT_KERNELS_LEVEL == 2
  constexpr int kRows = 4;
#else
  constexpr int kRows = 2;
#endif
  int64_t r = 0;
  for (; r + kRows <= s->rows; r += kRows) {
    GatherRows<kRows>(s->p + r * kK, v, v_stride, keys, s->out + r * dim, dim);
  }
  for (; r < s->rows; ++r) GatherRows<1>(s->p + r * kK, v, v_stride, keys, s->out + r * dim, dim);
}

void AttentionBlock(const retort_attention_shape& shape, const retort_attention_sequence_f32& seq,
                    int64_t kv_head, int64_t block) {
  BlockState s;
  LoadBlock(shape, seq, kv_head, block, &s);
  const int64_t dim = shape.head_dim;
  const float* k = seq.k + kv_head * shape.kv_head_stride;
  const float* v = seq.v + kv_head * shape.kv_head_stride;
  for (int64_t tile = s.first_key / kK * kK; tile <= s.last_key; tile += kK) {
    const int64_t keys = s.last_key + 1 - tile < kK ? s.last_key + 1 - tile : kK;
    Dots<F16>({.x = s.q,
               .w = k + tile * shape.kv_row_stride,
               .bias = nullptr,
               .y = s.p,
               .x_stride = dim,
               .w_stride = shape.kv_row_stride,
               .y_stride = kK,
               .cols = dim,
               .streams = false},
              s.rows, keys);
    for (int64_t r = 0; r < s.rows; ++r) {
      if (!SoftmaxRow(shape, tile, r, &s)) memset(s.p + r * kK, 0, kK * sizeof(float));
    }
    Gather(v + tile * shape.kv_row_stride, shape.kv_row_stride, keys, dim, &s);
  }
  for (int64_t r = 0; r < s.rows; ++r) {
    const F16 scale = F16::Set1(1.0f / s.sum[r]);
    ForLanes(dim, [&](int64_t i, auto n) {
      StoreAt(s.target[r] + i, LoadAt<F16>(s.out + r * dim + i, n) * scale, n);
    });
  }
}

}  // namespace retort::kernels::RETORT_KERNELS_NS
