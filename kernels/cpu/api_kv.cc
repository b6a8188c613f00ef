// C interface: attention over a blocked cache. Cuts the rows of a call into tasks.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/half.h"

namespace retort::kernels {
namespace {

constexpr int64_t kBlock = RETORT_KERNELS_KV_BLOCK;

int64_t RoundUp16(int64_t n) { return (n + 15) / 16 * 16; }

int64_t HeadBytes(int kv_type, int64_t head_dim) {
  const int64_t elements = RoundUp16(head_dim) * kBlock;
  if (kv_type == RETORT_KERNELS_KV_F32) return elements * 4;
  return kv_type == RETORT_KERNELS_KV_BF16 ? elements * 2 : elements + kBlock * 4;
}

// Cuts the sequences into runs: several short ones that begin with the same block, whose rows fit
// one task together, or a single one of any length.
class Runs {
 public:
  explicit Runs(const KvArgs& args)
      : a_(args), group_(args.shape.n_heads / args.cache.n_kv_heads) {}

  struct Run {
    int64_t first = 0, n = 1, rows = 0;  // rows: virtual ones
    int64_t tasks() const { return (rows + kKvRows - 1) / kKvRows; }
  };
  Run At(int64_t first) const {
    Run run{.first = first, .n = 1, .rows = RowsOf(first)};
    while (first + run.n < a_.n_sequences && run.rows > 0 && BeginAlike(first, first + run.n) &&
           run.rows + RowsOf(first + run.n) <= kKvRows) {
      run.rows += RowsOf(first + run.n);
      ++run.n;
    }
    return run;
  }
  int64_t Tasks() const {
    int64_t n = 0;
    for (int64_t s = 0; s < a_.n_sequences;) {
      const Run run = At(s);
      n += run.tasks();
      s += run.n;
    }
    return n * a_.cache.n_kv_heads;
  }
  KvTask Task(int64_t i) const {
    KvTask task = {.kv_head = i % a_.cache.n_kv_heads};
    int64_t piece = i / a_.cache.n_kv_heads;
    Run run = At(0);
    while (piece >= run.tasks()) {
      piece -= run.tasks();
      for (int64_t s = run.first; s < run.first + run.n; ++s) task.row += a_.sequences[s].n_rows;
      run = At(run.first + run.n);
    }
    task.first = run.first;
    task.n_sequences = run.n;
    task.begin = (run.tasks() - 1 - piece) * kKvRows;  // the last rows see most keys
    task.end = task.begin + kKvRows < run.rows ? task.begin + kKvRows : run.rows;
    return task;
  }
  // About how many elements the call touches.
  int64_t Work() const {
    int64_t work = 0;
    for (int64_t s = 0; s < a_.n_sequences; ++s) {
      const retort_kv_sequence& seq = a_.sequences[s];
      work += seq.n_rows * (seq.n_past + seq.n_rows);
    }
    return work * a_.shape.n_heads * a_.cache.head_dim;
  }

 private:
  int64_t RowsOf(int64_t s) const { return a_.sequences[s].n_rows * group_; }
  int64_t FirstBlock(int64_t s) const {
    const int64_t position = a_.sequences[s].n_past, window = a_.shape.window;
    return window > 0 && position >= window ? (position - window + 1) / kBlock : 0;
  }
  bool BeginAlike(int64_t s, int64_t t) const {
    const int64_t block = FirstBlock(s);
    return RowsOf(t) > 0 && block == FirstBlock(t) &&
           a_.sequences[s].table[block] == a_.sequences[t].table[block];
  }

  const KvArgs& a_;
  const int64_t group_;
};

void Attend(const KvArgs& a, int n_threads) noexcept {
  const Runs runs(a);
  const int64_t n_tasks = runs.Tasks();
  auto* const kernel = Active().kv_attention;
  if (n_threads > n_tasks) n_threads = static_cast<int>(n_tasks);
  if (n_threads <= 1 || runs.Work() < kSerialElements) {
    for (int64_t i = 0; i < n_tasks; ++i) kernel(a, runs.Task(i));
    return;
  }
#pragma omp parallel for schedule(dynamic) num_threads(n_threads)
  for (int64_t i = 0; i < n_tasks; ++i) kernel(a, runs.Task(i));
}

void Append(const KvArgs& a, int n_threads) noexcept {
  int64_t rows = 0;
  for (int64_t s = 0; s < a.n_sequences; ++s) rows += a.sequences[s].n_rows;
  auto* const kernel = Active().kv_append;
  // Each element of a key goes to a cache line of its own.
  const int64_t touched = (1 + 16) * rows * a.cache.n_kv_heads * a.cache.head_dim;
  Split(rows, 1, touched, n_threads, [&](int64_t begin, int64_t end) { kernel(a, begin, end); });
}

float Element(int kv_type, const unsigned char* head, int64_t index, float scale) {
  if (kv_type == RETORT_KERNELS_KV_F32) return reinterpret_cast<const float*>(head)[index];
  if (kv_type == RETORT_KERNELS_KV_BF16) return Bf16ToFloat(LoadU16(head + 2 * index));
  return static_cast<float>(reinterpret_cast<const int8_t*>(head)[index]) * scale;
}

}  // namespace
}  // namespace retort::kernels

using namespace retort::kernels;  // NOLINT: this file is the C interface of that namespace

extern "C" {

int64_t retort_kv_head_bytes(int kv_type, int64_t head_dim) noexcept {
  return HeadBytes(kv_type, head_dim);
}

void retort_kv_append_f32(const retort_kv_cache* cache, const retort_kv_sequence* sequences,
                          int64_t n_sequences, const float* k, int64_t k_stride, const float* v,
                          int64_t v_stride, int n_threads) noexcept {
  const int64_t width = cache->n_kv_heads * cache->head_dim;
  Append({.cache = *cache,
          .sequences = sequences,
          .n_sequences = n_sequences,
          .k = k,
          .v = v,
          .k_stride = OrElse(k_stride, width),
          .v_stride = OrElse(v_stride, width)},
         n_threads);
}

void retort_kv_attention_f32(const retort_kv_attention_shape* shape, const retort_kv_cache* cache,
                             const retort_kv_sequence* sequences, int64_t n_sequences,
                             const float* q, int64_t q_stride, float* out, int64_t out_stride,
                             int n_threads) noexcept {
  const int64_t width = shape->n_heads * cache->head_dim;
  Attend({.shape = *shape,
          .cache = *cache,
          .sequences = sequences,
          .n_sequences = n_sequences,
          .q = q,
          .out = out,
          .q_stride = OrElse(q_stride, width),
          .out_stride = OrElse(out_stride, width)},
         n_threads);
}

void retort_kv_read_f32(const retort_kv_cache* cache, const int32_t* table, int64_t position,
                        float* k, float* v) noexcept {
  const int64_t dim = cache->head_dim, bytes = HeadBytes(cache->kv_type, dim);
  const int64_t slot = position % kBlock;
  for (int64_t g = 0; g < cache->n_kv_heads; ++g) {
    const int64_t offset = table[position / kBlock] * cache->block_stride + g * bytes;
    const unsigned char *keys = cache->keys + offset, *values = cache->values + offset;
    const auto scale = [&](const unsigned char* head) {
      return reinterpret_cast<const float*>(head + bytes - 4 * kBlock)[slot];
    };
    for (int64_t d = 0; d < dim; ++d) {
      k[g * dim + d] = Element(cache->kv_type, keys, d * kBlock + slot, scale(keys));
      v[g * dim + d] = Element(cache->kv_type, values, slot * RoundUp16(dim) + d, scale(values));
    }
  }
}

}  // extern "C"
