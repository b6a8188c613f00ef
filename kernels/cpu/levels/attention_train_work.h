// One task's view of its sequence: packs blocks of rows, fills probabilities and their gradients,
// stores what the products gathered.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/levels/attention_train_block.h"

namespace retort::kernels::RETORT_KERNELS_NS {

template <class V>
struct Work {
  using S = ScalarOf<V>;
  const TrainAttentionArgs<S>& a;
  const TrainAttentionTask& task;
  Scratch<S> s;
  int64_t length, width, head_dim, window, blocks;

  Work(const TrainAttentionArgs<S>& args, const TrainAttentionTask& t, int64_t key_rows,
       bool backward, S* base)
      : a(args),
        task(t),
        s(args.shape, key_rows, backward, base),
        length(t.end - t.begin),
        width(RoundUp(args.shape.head_dim, 16)),
        head_dim(args.shape.head_dim),
        window(args.shape.window < length ? args.shape.window : 0),
        blocks((length + kB - 1) / kB) {}

  const S* Row(const S* x, int64_t stride, int64_t row, int64_t head) const {
    return x + (task.begin + row) * stride + head * head_dim;
  }
  S* Row(S* x, int64_t stride, int64_t row, int64_t head) const {
    return x + (task.begin + row) * stride + head * head_dim;
  }
  int64_t RowsOf(int64_t block) const { return Least(kB, length - block * kB); }
  Meeting Meet(int64_t query_block, int64_t key_block) const {
    return {.query = query_block * kB,
            .n_queries = RowsOf(query_block),
            .key = key_block * kB,
            .n_keys = RowsOf(key_block),
            .window = window};
  }
  int64_t FirstKeyBlock(int64_t query_block) const {
    return window > 0 ? Most(0, query_block * kB + 1 - window) / kB : 0;
  }
  int64_t LastQueryBlock(int64_t key_block) const {  // not included
    if (window <= 0) return blocks;
    return Least(blocks, (key_block * kB + RowsOf(key_block) - 1 + window - 1) / kB + 1);
  }

  // Packs the query block's rows of the chunk's heads.
  void LoadQueries(int64_t chunk, int64_t block) {
    const retort_train_attention_shape& shape = a.shape;
    const int64_t group = shape.n_heads / shape.n_kv_heads;
    for (int64_t i = 0; i < Heads(shape, chunk); ++i) {
      Item<S>& item = s.items[i];
      item.head = task.kv_head * group + chunk * kTrainHeads + i;
      Transpose(Row(a.q, shape.q_stride, block * kB, item.head), shape.q_stride, RowsOf(block),
                head_dim, static_cast<S>(shape.scale), kB, item.q_turned);
      memset(item.sum, 0, static_cast<size_t>(kB * width) * sizeof(S));
    }
  }
  void LoadGradients(int64_t chunk, int64_t block) {
    const retort_train_attention_shape& shape = a.shape;
    const int64_t n = RowsOf(block), stride = shape.d_out_stride;
    for (int64_t i = 0; i < Heads(shape, chunk); ++i) {
      Item<S>& item = s.items[i];
      const S* d_out = Row(a.d_out, stride, block * kB, item.head);
      PackRows<V>(Row(a.q, shape.q_stride, block * kB, item.head), shape.q_stride, n, head_dim,
                  static_cast<S>(shape.scale), width, item.q);
      PackRows<V>(d_out, stride, n, head_dim, S(1), width, item.d_out);
      Transpose(d_out, stride, n, head_dim, S(1), kB, item.d_out_turned);
      for (int64_t r = 0; r < kB; ++r) item.lse[r] = item.delta[r] = 0;
      for (int64_t r = 0; r < n; ++r) {
        const int64_t row = block * kB + r;
        const S* out = Row(a.out, shape.out_stride, row, item.head);
        V dot = V::Zero();
        ForLanes(head_dim, [&](int64_t d, auto part) {
          dot = Fma(LoadAt<V>(d_out + r * stride + d, part), LoadAt<V>(out + d, part), dot);
        });
        item.delta[r] = Sum(dot);
        item.lse[r] = a.lse[(task.begin + row) * shape.n_heads + item.head];
      }
    }
  }
  void LoadKeys(int64_t block, bool backward) {
    const int64_t k_stride = a.shape.k_stride, v_stride = a.shape.v_stride, n = RowsOf(block);
    const S* k = Row(a.k, k_stride, block * kB, task.kv_head);
    const S* v = Row(a.v, v_stride, block * kB, task.kv_head);
    Transpose(k, k_stride, n, head_dim, S(1), kB, s.k_turned);
    if (backward) {
      PackRows<V>(k, k_stride, n, head_dim, S(1), width, s.k);
      Transpose(v, v_stride, n, head_dim, S(1), kB, s.v_turned);
    } else {
      PackRows<V>(v, v_stride, n, head_dim, S(1), width, s.v);
    }
  }
  // Fills p and ds of an item.
  void Gradients(const Meeting& m, const Item<S>& item) {
    Scores<V>(m, head_dim, s.k_turned, item.q_turned, s.p);
    Scores<V>(m, head_dim, s.v_turned, item.d_out_turned, s.ds);
    for (int64_t c = 0; c * 16 < m.n_queries; ++c) {
      GradientLanes<V>(m, a.shape.soft_cap, c, item, s.p, s.ds);
    }
  }
  void AddKeys(const Meeting& m, const Item<S>& item, S* dk, S* dv) {
    GatherQueries<V>(m, width, s.p, item.d_out, dv);
    GatherQueries<V>(m, width, s.ds, item.q, dk);
  }
  void StoreRows(const S* src, S scale, int64_t n, S* dst, int64_t stride) const {
    const V factor = V::Set1(scale);
    for (int64_t r = 0; r < n; ++r) {
      ForLanes(head_dim, [&](int64_t d, auto part) {
        StoreAt(dst + r * stride + d, V::Load(src + r * width + d) * factor, part);
      });
    }
  }
  void StoreQueryGradients(int64_t chunk, int64_t block) {
    for (int64_t i = 0; i < Heads(a.shape, chunk); ++i) {
      const Item<S>& item = s.items[i];
      StoreRows(item.sum, static_cast<S>(a.shape.scale), RowsOf(block),
                Row(a.dq, a.shape.dq_stride, block * kB, item.head), a.shape.dq_stride);
    }
  }
  void StoreKeyGradients(int64_t block, const S* dk, const S* dv) {
    const int64_t n = RowsOf(block), k_stride = a.shape.dk_stride, v_stride = a.shape.dv_stride;
    StoreRows(dk, S(1), n, Row(a.dk, k_stride, block * kB, task.kv_head), k_stride);
    StoreRows(dv, S(1), n, Row(a.dv, v_stride, block * kB, task.kv_head), v_stride);
  }
  void ClearKeyGradients(int64_t rows) {
    memset(s.dk, 0, static_cast<size_t>(rows * width) * sizeof(S));
    memset(s.dv, 0, static_cast<size_t>(rows * width) * sizeof(S));
  }
  int64_t Chunks() const {
    return (a.shape.n_heads / a.shape.n_kv_heads + kTrainHeads - 1) / kTrainHeads;
  }
};

}  // namespace retort::kernels::RETORT_KERNELS_NS
