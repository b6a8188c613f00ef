// What training attention is made of: a task's scratch, where query and key blocks meet, products
// of such blocks, and the softmax along lanes. Method: attention_train.cc.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/levels/outer_pack.h"
#include "kernels/cpu/levels/outer_tile.h"

namespace retort::kernels::RETORT_KERNELS_NS {

static constexpr int64_t kB = kTrainBlock, kVectors = kTrainBlock / 16;

static inline int64_t Least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t Most(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t RoundUp(int64_t n, int64_t step) { return (n + step - 1) / step * step; }
static inline int64_t Heads(const retort_train_attention_shape& shape, int64_t chunk) {
  return Least(kTrainHeads, shape.n_heads / shape.n_kv_heads - chunk * kTrainHeads);
}

// A query block of one head.
template <class S>
struct Item {
  int64_t head;
  S *q_turned, *q, *d_out_turned, *d_out;  // [H, kB], [kB, W]; q times scale
  S* sum;                                  // out or dq, [kB, W]
  S *max, *total, *lse, *delta;            // [kB]
};

// What a task carves out of its scratch. W: H rounded up to whole vectors.
template <class S>
struct Scratch {
  S *k_turned, *k, *v_turned, *v;  // of the key block
  S *p, *ds;                       // [keys, queries]
  S *dk, *dv;                      // [keys of the sequence, W] or of one key block
  Item<S> items[kTrainHeads];
  int64_t used;

  // base NULL: counts only.
  Scratch(const retort_train_attention_shape& shape, int64_t key_rows, bool backward, S* base)
      : used(0) {
    const int64_t turned = shape.head_dim * kB, rows = RoundUp(shape.head_dim, 16) * kB;
    const auto take = [&](int64_t n) {
      S* const at = base == nullptr ? nullptr : base + used;
      used += RoundUp(n, 16);
      return at;
    };
    k_turned = take(turned);
    v = take(backward ? 0 : rows);
    k = take(backward ? rows : 0);
    v_turned = take(backward ? turned : 0);
    p = take(kB * kB);
    ds = take(backward ? kB * kB : 0);
    const int64_t group = shape.n_heads / shape.n_kv_heads;
    for (int64_t i = 0; i < Least(kTrainHeads, group); ++i) {
      Item<S>& item = items[i];
      item.q_turned = take(turned);
      item.sum = take(rows);
      item.max = item.lse = take(kB);
      item.total = item.delta = take(kB);
      item.q = take(backward ? rows : 0);
      item.d_out_turned = take(backward ? turned : 0);
      item.d_out = take(backward ? rows : 0);
    }
    const int64_t key_elements = key_rows * RoundUp(shape.head_dim, 16);
    dk = take(key_elements);
    dv = take(key_elements);
  }
};

// Where a query block meets a key block; positions count from the start of the sequence.
struct Meeting {
  int64_t query, n_queries, key, n_keys, window;  // window 0: none

  // Keys [0, LastKey(i)) of the block are visible to query i or an earlier one.
  int64_t LastKey(int64_t i) const { return Least(n_keys, query + i + 1 - key); }
  int64_t FirstKey(int64_t i) const {
    return window > 0 ? Least(n_keys, Most(0, query + i + 1 - window - key)) : 0;
  }
  int64_t FirstQuery(int64_t key_row) const { return Most(0, key + key_row - query); }
  // All keys of [begin, end) are visible to all 16 queries of a vector.
  bool Full(int64_t vector, int64_t begin, int64_t end) const {
    return LastKey(vector * 16) >= end && FirstKey(vector * 16 + 15) <= begin;
  }
};

// c[keys, queries] = a^T b over H: scores, or d_out . v.
template <class V>
static void Scores(const Meeting& m, int64_t head_dim, const ScalarOf<V>* keys,
                   const ScalarOf<V>* queries, ScalarOf<V>* c) {
  const int64_t end = (m.n_queries + 15) / 16;
  for (int64_t r = 0; r < m.n_keys; r += OuterShape<V>::kRows) {
    OuterRow<V, 1, kB, false>(keys + r, queries, kB, head_dim, c + r * kB, kB, m.FirstQuery(r) / 16,
                              end);
  }
}

// sum[queries, W] += p[keys, queries]^T rows[keys, W].
template <class V>
static void GatherKeys(const Meeting& m, int64_t width, const ScalarOf<V>* p,
                       const ScalarOf<V>* rows, ScalarOf<V>* sum) {
  constexpr int64_t kRows = OuterShape<V>::kRows;
  for (int64_t r = 0; r < m.n_queries; r += kRows) {
    const int64_t depth = m.LastKey(r + kRows - 1);
    if (depth <= 0) continue;
    OuterRow<V, 1, kB, true>(p + r, rows, width, depth, sum + r * width, width, 0, width / 16);
  }
}

// sum[keys, W] += p[keys, queries] rows[queries, W].
template <class V>
static void GatherQueries(const Meeting& m, int64_t width, const ScalarOf<V>* p,
                          const ScalarOf<V>* rows, ScalarOf<V>* sum) {
  for (int64_t r = 0; r < m.n_keys; r += OuterShape<V>::kRows) {
    const int64_t first = m.FirstQuery(r);
    if (first >= m.n_queries) continue;
    OuterRow<V, kB, 1, true>(p + r * kB + first, rows + first * width, width, m.n_queries - first,
                             sum + r * width, width, 0, width / 16);
  }
}

// Lanes where query `lane` does not see the key become `hidden`.
template <class V>
static inline V Masked(const Meeting& m, V lanes, int64_t key_row, V value, V hidden) {
  using S = ScalarOf<V>;
  const V key = V::Set1(static_cast<S>(m.key + key_row - m.query));  // relative to the first query
  value = BlendLess(lanes, key, hidden, value);
  if (m.window > 0) {
    value = BlendLess(key, lanes - V::Set1(static_cast<S>(m.window - 1)), hidden, value);
  }
  return value;
}

// 0, 1 .. 15 and on: the queries of a vector, relative to the block's first.
template <class V>
static V Lanes(int64_t vector) {
  ScalarOf<V> lanes[16];
  for (int64_t i = 0; i < 16; ++i) lanes[i] = static_cast<ScalarOf<V>>(vector * 16 + i);
  return V::Load(lanes);
}

// Rows of a vector's lanes that later products read beyond what the loop wrote.
template <class V>
static void ClearKeys(const Meeting& m, int64_t begin, int64_t end, ScalarOf<V>* p) {
  constexpr int64_t kRows = OuterShape<V>::kRows;
  for (int64_t j = 0; j < begin; ++j) V::Zero().Store(p + j * kB);
  const int64_t last = Least(RoundUp(m.n_keys, kRows), end + 2 * kRows);
  for (int64_t j = end; j < last; ++j) V::Zero().Store(p + j * kB);
}

template <class V>
static void ScaleRows(const ScalarOf<V>* factors, int64_t width, ScalarOf<V>* rows) {
  for (int64_t i = 0; i < 16; ++i) {
    if (factors[i] == 1) continue;
    const V factor = V::Set1(factors[i]);
    for (int64_t d = 0; d < width; d += 16) {
      (V::Load(rows + i * width + d) * factor).Store(rows + i * width + d);
    }
  }
}

// Turns one vector of queries' scores into weights, and rescales what they have gathered.
template <class V>
static void SoftmaxLanes(const Meeting& m, double soft_cap, int64_t width, int64_t vector,
                         ScalarOf<V>* scores, Item<ScalarOf<V>>* item) {
  using S = ScalarOf<V>;
  const int64_t first = m.FirstKey(vector * 16), last = Most(first, m.LastKey(vector * 16 + 15));
  S* const p = scores + vector * 16;
  const bool full = m.Full(vector, first, last);
  const V lanes = Lanes<V>(vector), hidden = V::Set1(-static_cast<S>(INFINITY));
  const V cap = V::Set1(static_cast<S>(soft_cap)), before = V::Load(item->max + vector * 16);
  V top = before;
  for (int64_t j = first; j < last; ++j) {
    V s = V::Load(p + j * kB);
    if (soft_cap > 0) s = cap * Tanh(s / cap);
    if (!full) s = Masked(m, lanes, j, s, hidden);
    if (soft_cap > 0 || !full) s.Store(p + j * kB);
    top = Max(s, top);
  }
  // A lane that has seen no key yet stays at -inf; its weights must be 0, not exp(-inf + inf).
  const V shift = BlendLess(hidden, top, top, V::Zero());
  V sum = V::Zero();
  for (int64_t j = first; j < last; ++j) {
    const V e = Exp(V::Load(p + j * kB) - shift);
    e.Store(p + j * kB);
    sum = sum + e;
  }
  ClearKeys<V>(m, first, last, p);
  const V keep = Exp(before - shift);
  S factors[16];
  keep.Store(factors);
  top.Store(item->max + vector * 16);
  S* const total = item->total + vector * 16;
  (V::Load(total) * keep + sum).Store(total);
  ScaleRows<V>(factors, width, item->sum + vector * 16 * width);
}

// p: scores become probabilities; ds: d_out . v becomes the gradient of the scaled q . k.
template <class V>
static void GradientLanes(const Meeting& m, double soft_cap, int64_t vector,
                          const Item<ScalarOf<V>>& item, ScalarOf<V>* scores, ScalarOf<V>* grads) {
  using S = ScalarOf<V>;
  const int64_t first = m.FirstKey(vector * 16), last = Most(first, m.LastKey(vector * 16 + 15));
  S *const p = scores + vector * 16, *const ds = grads + vector * 16;
  const bool full = m.Full(vector, first, last);
  const V lanes = Lanes<V>(vector), one = V::Set1(1), cap = V::Set1(static_cast<S>(soft_cap));
  const V lse = V::Load(item.lse + vector * 16), delta = V::Load(item.delta + vector * 16);
  for (int64_t j = first; j < last; ++j) {
    V s = V::Load(p + j * kB), slope = one;
    if (soft_cap > 0) {
      const V t = Tanh(s / cap);
      s = cap * t;
      slope = one - t * t;
    }
    V e = Exp(s - lse);
    if (!full) e = Masked(m, lanes, j, e, V::Zero());
    V d = e * (V::Load(ds + j * kB) - delta);
    if (soft_cap > 0) d = d * slope;
    if (!full) d = Masked(m, lanes, j, d, V::Zero());
    e.Store(p + j * kB);
    d.Store(ds + j * kB);
  }
  ClearKeys<V>(m, first, last, p);
  ClearKeys<V>(m, first, last, ds);
}

}  // namespace retort::kernels::RETORT_KERNELS_NS
