// Training attention: one task at a time, each for one kv head and the query heads that share it.
// Method: blocks of kTrainBlock queries against blocks of kTrainBlock keys. Scores are kept turned
// (a row per key, a lane per query), so that the softmax runs along lanes and needs no horizontal
// sums; every product is an outer-product tile (outer_tile.h) over packed copies, which are zero
// where a row or column is missing. Probabilities that the mask hides are written as 0, and tiles
// wholly behind the mask are skipped. Backward works the scores out again from the log-sum-exps.
// A gradient's terms are added in one order (keys rising for dq; head chunk, query block, head
// for dk and dv), whichever kind of task adds them: both kinds give equal bits.
// SPDX-License-Identifier: Apache-2.0
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

// One task's view of its sequence.
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

template <class V>
int64_t TrainAttention<V>::Scratch(const retort_train_attention_shape& shape, int64_t longest,
                                   bool backward, bool whole) {
  const int64_t rows = !backward ? 0 : whole ? RoundUp(longest, kB) : kB;
  return RETORT_KERNELS_NS::Scratch<S>(shape, rows, backward, nullptr).used;
}

template <class V>
static void FinishForward(const Work<V>& w, Item<ScalarOf<V>>* item, int64_t block) {
  using S = ScalarOf<V>;
  const TrainAttentionArgs<S>& a = w.a;
  for (int64_t r = 0; r < w.RowsOf(block); ++r) {
    w.StoreRows(item->sum + r * w.width, S(1) / item->total[r], 1,
                w.Row(a.out, a.shape.out_stride, block * kB + r, item->head), a.shape.out_stride);
    if (a.lse == nullptr) continue;
    const int64_t row = w.task.begin + block * kB + r;
    a.lse[row * a.shape.n_heads + item->head] = static_cast<S>(
        static_cast<double>(item->max[r]) + log(static_cast<double>(item->total[r])));
  }
}

template <class V>
void TrainAttention<V>::Forward(const TrainAttentionArgs<S>& a, const TrainAttentionTask& task,
                                S* scratch) {
  Work<V> w(a, task, 0, false, scratch);
  const int64_t heads = Heads(a.shape, task.chunk);
  w.LoadQueries(task.chunk, task.block);
  for (int64_t i = 0; i < heads; ++i) {
    for (int64_t r = 0; r < kB; ++r) {
      w.s.items[i].max[r] = -static_cast<S>(INFINITY);
      w.s.items[i].total[r] = 0;
    }
  }
  for (int64_t key = w.FirstKeyBlock(task.block); key <= task.block; ++key) {
    const Meeting m = w.Meet(task.block, key);
    w.LoadKeys(key, false);
    for (int64_t i = 0; i < heads; ++i) {
      Item<S>* const item = &w.s.items[i];
      Scores<V>(m, w.head_dim, w.s.k_turned, item->q_turned, w.s.p);
      for (int64_t c = 0; c * 16 < m.n_queries; ++c) {
        SoftmaxLanes<V>(m, a.shape.soft_cap, w.width, c, w.s.p, item);
      }
      GatherKeys<V>(m, w.width, w.s.p, w.s.v, item->sum);
    }
  }
  for (int64_t i = 0; i < heads; ++i) FinishForward<V>(w, &w.s.items[i], task.block);
}

template <class V>
void TrainAttention<V>::BackwardWhole(const TrainAttentionArgs<S>& a,
                                      const TrainAttentionTask& task, S* scratch) {
  const int64_t rows = RoundUp(task.end - task.begin, kB);
  Work<V> w(a, task, rows, true, scratch);
  w.ClearKeyGradients(rows);
  for (int64_t chunk = 0; chunk < w.Chunks(); ++chunk) {
    for (int64_t block = 0; block < w.blocks; ++block) {
      w.LoadQueries(chunk, block);
      w.LoadGradients(chunk, block);
      for (int64_t key = w.FirstKeyBlock(block); key <= block; ++key) {
        const Meeting m = w.Meet(block, key);
        w.LoadKeys(key, true);
        for (int64_t i = 0; i < Heads(a.shape, chunk); ++i) {
          const Item<S>& item = w.s.items[i];
          w.Gradients(m, item);
          w.AddKeys(m, item, w.s.dk + m.key * w.width, w.s.dv + m.key * w.width);
          GatherKeys<V>(m, w.width, w.s.ds, w.s.k, item.sum);
        }
      }
      w.StoreQueryGradients(chunk, block);
    }
  }
  for (int64_t key = 0; key < w.blocks; ++key) {
    w.StoreKeyGradients(key, w.s.dk + key * kB * w.width, w.s.dv + key * kB * w.width);
  }
}

template <class V>
void TrainAttention<V>::BackwardQueries(const TrainAttentionArgs<S>& a,
                                        const TrainAttentionTask& task, S* scratch) {
  Work<V> w(a, task, 0, true, scratch);
  w.LoadQueries(task.chunk, task.block);
  w.LoadGradients(task.chunk, task.block);
  for (int64_t key = w.FirstKeyBlock(task.block); key <= task.block; ++key) {
    const Meeting m = w.Meet(task.block, key);
    w.LoadKeys(key, true);
    for (int64_t i = 0; i < Heads(a.shape, task.chunk); ++i) {
      const Item<S>& item = w.s.items[i];
      w.Gradients(m, item);
      GatherKeys<V>(m, w.width, w.s.ds, w.s.k, item.sum);
    }
  }
  w.StoreQueryGradients(task.chunk, task.block);
}

template <class V>
void TrainAttention<V>::BackwardKeys(const TrainAttentionArgs<S>& a, const TrainAttentionTask& task,
                                     S* scratch) {
  Work<V> w(a, task, kB, true, scratch);
  w.ClearKeyGradients(kB);
  w.LoadKeys(task.block, true);
  for (int64_t chunk = 0; chunk < w.Chunks(); ++chunk) {
    for (int64_t block = task.block; block < w.LastQueryBlock(task.block); ++block) {
      const Meeting m = w.Meet(block, task.block);
      w.LoadQueries(chunk, block);
      w.LoadGradients(chunk, block);
      for (int64_t i = 0; i < Heads(a.shape, chunk); ++i) {
        w.Gradients(m, w.s.items[i]);
        w.AddKeys(m, w.s.items[i], w.s.dk, w.s.dv);
      }
    }
  }
  w.StoreKeyGradients(task.block, w.s.dk, w.s.dv);
}

RETORT_KERNELS_EMIT(TrainAttention);

}  // namespace retort::kernels::RETORT_KERNELS_NS
