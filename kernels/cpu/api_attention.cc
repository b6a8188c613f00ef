// C interface: attention of packed sequences for training. Cuts the work into tasks.
// Method: backward has two plans of equal bits. One task per (sequence, kv head) works each block
// of scores out once (5 products); where such tasks are too few or too uneven for the threads,
// tasks of query blocks (dq) and key blocks (dk, dv) do it twice (7 products).
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/dispatch.h"

namespace retort::kernels {
namespace {

constexpr int64_t kMostThreads = 256;
constexpr int64_t kWholeRows = 8192;  // longest sequence whose dk and dv a task keeps in scratch
constexpr int64_t kProductsWhole = 5, kProductsSplit = 7;

int64_t BlocksOf(int64_t rows) { return (rows + kTrainBlock - 1) / kTrainBlock; }

// Sequences and what they are cut into.
class Packed {
 public:
  explicit Packed(const retort_train_attention_shape& shape) : shape_(shape) {
    const int64_t group = shape.n_heads / shape.n_kv_heads;
    chunks_ = (group + kTrainHeads - 1) / kTrainHeads;
    for (int64_t s = 0; s < shape.n_sequences; ++s) {
      blocks_ += BlocksOf(Length(s));
      longest_ = Length(s) > longest_ ? Length(s) : longest_;
      work_ += Cost(s);
    }
  }
  int64_t Length(int64_t s) const { return shape_.cu_seqlens[s + 1] - shape_.cu_seqlens[s]; }
  int64_t longest() const { return longest_; }
  // Multiply-adds of one product over one head of all sequences.
  int64_t work() const { return work_ * shape_.head_dim; }

  int64_t wholes() const { return shape_.n_sequences * shape_.n_kv_heads; }
  TrainAttentionTask Whole(int64_t i) const {
    return At(i / shape_.n_kv_heads, i % shape_.n_kv_heads);
  }
  // One task per (key block, kv head); a sequence's first blocks, which most queries see, first.
  int64_t key_blocks() const { return blocks_ * shape_.n_kv_heads; }
  TrainAttentionTask KeyBlock(int64_t i) const {
    int64_t block = i / shape_.n_kv_heads, s = 0;
    for (; block >= BlocksOf(Length(s)); ++s) block -= BlocksOf(Length(s));
    TrainAttentionTask task = At(s, i % shape_.n_kv_heads);
    task.block = block;
    return task;
  }
  // One task per (query block, kv head, chunk); the last blocks see most keys.
  int64_t query_blocks() const { return key_blocks() * chunks_; }
  TrainAttentionTask QueryBlock(int64_t i) const {
    TrainAttentionTask task = KeyBlock(i / chunks_);
    task.chunk = i % chunks_;
    task.block = BlocksOf(task.end - task.begin) - 1 - task.block;
    return task;
  }

  // Would whole tasks, handed out in order to whoever is free, end before split ones?
  bool PrefersWhole(int n_threads) const {
    if (longest_ > kWholeRows || n_threads > kMostThreads) return false;
    int64_t busy[kMostThreads] = {};
    int64_t end = 0;
    for (int64_t i = 0; i < wholes(); ++i) {
      int64_t* least = busy;
      for (int t = 1; t < n_threads; ++t) least = busy[t] < *least ? busy + t : least;
      *least += Cost(i / shape_.n_kv_heads);
      end = *least > end ? *least : end;
    }
    const int64_t split = work_ * shape_.n_kv_heads / n_threads;
    return end * kProductsWhole <= split * kProductsSplit;
  }

 private:
  TrainAttentionTask At(int64_t s, int64_t kv_head) const {
    return {.begin = shape_.cu_seqlens[s],
            .end = shape_.cu_seqlens[s + 1],
            .kv_head = kv_head,
            .chunk = 0,
            .block = 0};
  }
  int64_t Cost(int64_t s) const {  // visible pairs, to about a block
    const int64_t n = Length(s), seen = shape_.window > 0 ? shape_.window : n;
    return n <= seen ? n * (n + 1) / 2 : n * seen;
  }

  const retort_train_attention_shape& shape_;
  int64_t blocks_ = 0, longest_ = 0, work_ = 0, chunks_ = 0;
};

// Calls run(task index, the thread's scratch).
template <class S, class Run>
void Tasks(int64_t n, int64_t work, int n_threads, S* scratch, int64_t per_thread, Run run) {
  if (n_threads > n) n_threads = static_cast<int>(n);
  if (n_threads <= 1 || work < kSerialElements) {
    for (int64_t i = 0; i < n; ++i) run(i, scratch);
    return;
  }
#pragma omp parallel num_threads(n_threads)
  {
    S* const own = scratch + omp_get_thread_num() * per_thread;
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < n; ++i) run(i, own);
  }
}

template <class S>
int64_t ScratchPerThread(const retort_train_attention_shape& shape, int64_t longest,
                         bool backward) {
  const auto size = ActiveTable<S>().train_attention_scratch;
  const int64_t split = size(shape, 0, backward, false);
  if (!backward) return split;
  const int64_t whole = size(shape, longest < kWholeRows ? longest : kWholeRows, true, true);
  return whole > split ? whole : split;
}

template <class S>
int64_t ScratchBytes(const retort_train_attention_shape& shape, int64_t longest, bool backward,
                     int n_threads) {
  return ScratchPerThread<S>(shape, longest, backward) * (n_threads > 1 ? n_threads : 1) *
         static_cast<int64_t>(sizeof(S));
}

template <class S>
void FillStrides(TrainAttentionArgs<S>* a) {
  const int64_t wide = a->shape.n_heads * a->shape.head_dim;
  const int64_t narrow = a->shape.n_kv_heads * a->shape.head_dim;
  a->shape.q_stride = OrElse(a->shape.q_stride, wide);
  a->shape.out_stride = OrElse(a->shape.out_stride, wide);
  a->shape.k_stride = OrElse(a->shape.k_stride, narrow);
  a->shape.v_stride = OrElse(a->shape.v_stride, narrow);
  a->shape.dq_stride = OrElse(a->shape.dq_stride, a->shape.q_stride);
  a->shape.dk_stride = OrElse(a->shape.dk_stride, a->shape.k_stride);
  a->shape.dv_stride = OrElse(a->shape.dv_stride, a->shape.v_stride);
  a->shape.d_out_stride = OrElse(a->shape.d_out_stride, a->shape.out_stride);
}

template <class S>
void Forward(TrainAttentionArgs<S> a, S* scratch, int n_threads) noexcept {
  FillStrides(&a);
  const Packed packed(a.shape);
  auto* const kernel = ActiveTable<S>().train_attention;
  Tasks(packed.query_blocks(), packed.work() * a.shape.n_heads, n_threads, scratch,
        ScratchPerThread<S>(a.shape, packed.longest(), false),
        [&](int64_t i, S* own) { kernel(a, packed.QueryBlock(i), own); });
}

template <class S>
void Backward(TrainAttentionArgs<S> a, S* scratch, int n_threads) noexcept {
  FillStrides(&a);
  const Packed packed(a.shape);
  const Table<S>& table = ActiveTable<S>();
  const int64_t per_thread = ScratchPerThread<S>(a.shape, packed.longest(), true);
  const int64_t work = packed.work() * a.shape.n_heads * kProductsWhole;
  if (packed.PrefersWhole(n_threads > 1 ? n_threads : 1)) {
    Tasks(packed.wholes(), work, n_threads, scratch, per_thread,
          [&](int64_t i, S* own) { table.train_attention_whole(a, packed.Whole(i), own); });
    return;
  }
  const int64_t keys = packed.key_blocks();
  Tasks(keys + packed.query_blocks(), work, n_threads, scratch, per_thread, [&](int64_t i, S* own) {
    if (i < keys) {
      table.train_attention_dkv(a, packed.KeyBlock(i), own);
    } else {
      table.train_attention_dq(a, packed.QueryBlock(i - keys), own);
    }
  });
}

}  // namespace
}  // namespace retort::kernels

using namespace retort::kernels;  // NOLINT: this file is the C interface of that namespace

extern "C" {

#define RETORT_DEFINE(S, name)                                                                    \
  int64_t retort_train_attention_scratch_##name(const retort_train_attention_shape* shape,        \
                                                int64_t longest, int backward,                    \
                                                int n_threads) noexcept {                         \
    return ScratchBytes<S>(*shape, longest, backward != 0, n_threads);                            \
  }                                                                                               \
  void retort_train_attention_##name(const retort_train_attention_shape* shape, const S* q,       \
                                     const S* k, const S* v, S* out, S* lse, void* scratch,       \
                                     int n_threads) noexcept {                                    \
    Forward<S>({.shape = *shape, .q = q, .k = k, .v = v, .out = out, .lse = lse},                 \
               static_cast<S*>(scratch), n_threads);                                              \
  }                                                                                               \
  void retort_train_attention_backward_##name(const retort_train_attention_shape* shape,          \
                                              const S* d_out, const S* q, const S* k, const S* v, \
                                              const S* out, const S* lse, S* dq, S* dk, S* dv,    \
                                              void* scratch, int n_threads) noexcept {            \
    Backward<S>({.shape = *shape,                                                                 \
                 .q = q,                                                                          \
                 .k = k,                                                                          \
                 .v = v,                                                                          \
                 .out = const_cast<S*>(out),                                                      \
                 .lse = const_cast<S*>(lse),                                                      \
                 .d_out = d_out,                                                                  \
                 .dq = dq,                                                                        \
                 .dk = dk,                                                                        \
                 .dv = dv},                                                                       \
                static_cast<S*>(scratch), n_threads);                                             \
  }

RETORT_DEFINE(float, f32)
RETORT_DEFINE(double, f64)

}  // extern "C"
