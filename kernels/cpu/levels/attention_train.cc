// Training attention: one task at a time, each for one kv head and the query heads that share it.
// Method: blocks of kTrainBlock queries against blocks of kTrainBlock keys. Scores are kept turned
// (a row per key, a lane per query), so that the softmax runs along lanes and needs no horizontal
// sums; every product is an outer-product tile (outer_tile.h) over packed copies, which are zero
// where a row or column is missing. Probabilities that the mask hides are written as 0, and tiles
// wholly behind the mask are skipped. Backward works the scores out again from the log-sum-exps.
// A gradient's terms are added in one order (keys rising for dq; head chunk, query block, head
// for dk and dv), whichever kind of task adds them: both kinds give equal bits.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/levels/attention_train_work.h"

namespace retort::kernels::RETORT_KERNELS_NS {

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
