// The serial kernels of one instruction-set level, as a table of functions over ranges of rows,
// columns or elements; the C interface (api_*.cc) splits the ranges over threads.
// Method: each file under levels/ is compiled once per level with RETORT_KERNELS_NS naming its
// namespace, so no inline function of one level can stand in for another's at link time. Those
// files include libc headers and intrinsics only. f64 exists at the portable level alone.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdint.h>

#include "retort/kernels/activation.h"
#include "retort/kernels/attention_train.h"
#include "retort/kernels/distill.h"
#include "retort/kernels/gemm.h"
#include "retort/kernels/kv_attention.h"
#include "retort/kernels/norm.h"
#include "retort/kernels/optimizer.h"
#include "retort/kernels/rope.h"
#include "retort/kernels/softmax.h"

namespace retort::kernels {

// Columns per partial sum of a softmax row; elements per partial sum of squares.
constexpr int64_t kSoftmaxBlock = 256;
constexpr int64_t kSquaresBlock = 4096;
// Rows per partial sum of a column's squares.
constexpr int64_t kSquaresRows = 256;
// Numbers in [0, 1] that codes tell apart begin with these upper 16 bits: 2^-24.
constexpr uint32_t kFirstCodeBucket = 0x3380;
// Vectors per partial sum of a norm's weight gradient.
constexpr int64_t kNormChunk = 64;
// Virtual rows of one task of attention over a blocked cache.
constexpr int64_t kKvRows = 16;
// Up to so many rows a skinny GEMM is bound by memory alone.
constexpr int64_t kFewRows = 2;
// Query rows and keys of a block of training attention; query heads that share its tiles.
constexpr int64_t kTrainBlock = 48;
constexpr int64_t kTrainHeads = 4;

template <class S>
struct NormArgs {
  retort_norm_shape shape = {};
  const S* x = nullptr;  // add_rms_norm: a, with b
  const S* b = nullptr;
  S* sum = nullptr;
  const S* w = nullptr;
  S* y = nullptr;
  S* rstd = nullptr;  // out when forward, in when backward
  const S* dy = nullptr;
  S* dx = nullptr;
  S* dw = nullptr;
  int64_t x_stride = 0, y_stride = 0, dy_stride = 0, dx_stride = 0;
  bool accumulate = false;
};

template <class S>
struct RopeArgs {
  retort_rope_shape shape = {};
  const S* x = nullptr;
  S* y = nullptr;
  const S* cos_table = nullptr;
  const S* sin_table = nullptr;
  const int32_t* positions = nullptr;
  int64_t x_stride = 0, y_stride = 0;
};

template <class S>
struct GatedArgs {
  retort_gated_shape shape = {};
  const S* gate = nullptr;
  const S* up = nullptr;
  const S* dy = nullptr;
  S* y = nullptr;  // backward: the product again, or NULL
  S* d_gate = nullptr;
  S* d_up = nullptr;
};

template <class S>
struct RowsArgs {  // reductions over rows of logits
  const S* x = nullptr;
  int64_t stride = 0, cols = 0;
  double scale = 0;
  const int64_t* index = nullptr;
  int32_t* arg = nullptr;
  S* out = nullptr;
  S* entropy = nullptr;
};

template <class S>
struct CrossEntropyArgs {
  retort_cross_entropy_shape shape = {};
  S* logits = nullptr;
  const int64_t* labels = nullptr;
  const S* weight = nullptr;
  S* loss = nullptr;
  S* nll = nullptr;
  S* entropy = nullptr;
};

template <class S>
struct LogPBackwardArgs {
  retort_logp_backward_shape shape = {};
  S* x = nullptr;
  const int64_t* index = nullptr;
  const S* logp = nullptr;
  const S* entropy = nullptr;
  const S* d_logp = nullptr;
  const S* d_entropy = nullptr;
};

template <class S>
struct KdArgs {
  retort_kd_shape shape = {};
  S* student = nullptr;
  const S* teacher = nullptr;
  const int64_t* labels = nullptr;
  const S* weight = nullptr;
  S* divergence = nullptr;
  S* nll = nullptr;
  S* teacher_entropy = nullptr;
};

template <class S>
struct SoftmaxMixArgs {
  S* x = nullptr;
  int64_t stride = 0, cols = 0;
  double temperature = 1;
  const S* lse_t = nullptr;
  const S* share_t = nullptr;
  const S* lse = nullptr;
  const S* share = nullptr;
};

template <class S>
struct TrainAttentionArgs {
  retort_train_attention_shape shape = {};
  const S* q = nullptr;
  const S* k = nullptr;
  const S* v = nullptr;
  S* out = nullptr;
  S* lse = nullptr;  // may be NULL in forward
  const S* d_out = nullptr;
  S* dq = nullptr;
  S* dk = nullptr;
  S* dv = nullptr;
};
// What a task works on: rows [begin, end) are one sequence. `chunk`: kTrainHeads query heads of the
// kv head; `block`: of query rows, or of keys. Each kind of task leaves unused fields 0.
struct TrainAttentionTask {
  int64_t begin = 0, end = 0, kv_head = 0, chunk = 0, block = 0;
};

template <class S>
struct GemmArgs {
  retort_skinny_gemm_shape shape = {};
  const S* x = nullptr;
  const S* w = nullptr;
  const S* bias = nullptr;
  S* y = nullptr;
};

struct BlockedArgs {
  retort_gemm_shape shape = {};
  const retort_gemm_term* terms = nullptr;
  float* c = nullptr;
};
struct BlockedRange {
  int64_t m = 0, m_end = 0, n = 0, n_end = 0;
};
// Up to here rows of a don't pay for a copy of b.
constexpr int64_t kBlockedFewRows = 56;

template <class S>
struct ColumnArgs {  // embedding, bias and column sums
  const S* in = nullptr;
  S* out = nullptr;
  const int32_t* ids = nullptr;
  S scale = 0;
  int64_t rows = 0, cols = 0, stride = 0;
};

struct BinArgs {
  const float* x = nullptr;
  int64_t cols = 0;
  float max = 0, bins_per_unit = 0;
  int64_t n_bins = 0;
};

// Ranges: [begin, end) of rows unless the name says otherwise.
template <class S>
struct Table {
  void (*rms_norm)(const NormArgs<S>&, int64_t begin, int64_t end);
  void (*add_rms_norm)(const NormArgs<S>&, int64_t begin, int64_t end);
  void (*rms_norm_dx)(const NormArgs<S>&, int64_t begin, int64_t end);
  void (*rms_norm_dw_columns)(const NormArgs<S>&, int64_t begin, int64_t end);
  // Chunks of kNormChunk vectors: dx, and if dw is wanted the chunk's row of partial[chunks, cols];
  // then dw += partial over some columns.
  void (*rms_norm_chunks)(const NormArgs<S>&, S* partial, int64_t begin, int64_t end);
  void (*rms_norm_reduce_columns)(const NormArgs<S>&, const S* partial, int64_t begin, int64_t end);

  void (*add)(const S* a, const S* b, S* y, int64_t n);
  void (*mul)(const S* a, const S* b, S* y, int64_t n);
  void (*scale)(const S* x, S scale, S* y, int64_t n);
  void (*axpy)(const S* x, S scale, S* y, int64_t n);
  void (*add_bias)(const ColumnArgs<S>&, int64_t begin, int64_t end);
  void (*col_sum_columns)(const ColumnArgs<S>&, int64_t begin, int64_t end);
  void (*embed)(const ColumnArgs<S>&, int64_t begin, int64_t end);
  void (*embed_backward_columns)(const ColumnArgs<S>&, int64_t begin, int64_t end);

  void (*rope)(const RopeArgs<S>&, int64_t begin, int64_t end);
  void (*activation)(int kind, const S* x, S* y, int64_t n);
  void (*activation_backward)(int kind, const S* x, const S* dy, S* dx, int64_t n);
  void (*gated)(const GatedArgs<S>&, int64_t begin, int64_t end);
  void (*gated_backward)(const GatedArgs<S>&, int64_t begin, int64_t end);

  void (*row_logsumexp)(const RowsArgs<S>&, int64_t begin, int64_t end);
  void (*row_argmax)(const RowsArgs<S>&, int64_t begin, int64_t end);
  void (*row_logp)(const RowsArgs<S>&, int64_t begin, int64_t end);
  void (*row_logp_backward)(const LogPBackwardArgs<S>&, int64_t begin, int64_t end);
  void (*cross_entropy)(const CrossEntropyArgs<S>&, int64_t begin, int64_t end);
  void (*kd_rows)(const KdArgs<S>&, int64_t begin, int64_t end);
  void (*softmax_mix)(const SoftmaxMixArgs<S>&, int64_t begin, int64_t end);
  double (*exp_blocks)(const S* x, int64_t cols, double scale, double max, S* p, double* sums);

  void (*adamw)(const retort_adamw_params&, S* p, const S* grad, S* m, S* v, int64_t n);
  double (*sum_squares_block)(const S* x, int64_t n);

  void (*gemm_outputs)(const GemmArgs<S>&, int64_t begin, int64_t end);

  // Elements of scratch of one task; `longest` counts for `whole` only.
  int64_t (*train_attention_scratch)(const retort_train_attention_shape&, int64_t longest,
                                     bool backward, bool whole);
  void (*train_attention)(const TrainAttentionArgs<S>&, const TrainAttentionTask&, S* scratch);
  // Backward of a whole (sequence, kv head); or dq of a query block and dk, dv of a key block.
  void (*train_attention_whole)(const TrainAttentionArgs<S>&, const TrainAttentionTask&,
                                S* scratch);
  void (*train_attention_dq)(const TrainAttentionArgs<S>&, const TrainAttentionTask&, S* scratch);
  void (*train_attention_dkv)(const TrainAttentionArgs<S>&, const TrainAttentionTask&, S* scratch);
};

struct KvArgs {
  retort_kv_attention_shape shape = {};
  retort_kv_cache cache = {};
  const retort_kv_sequence* sequences = nullptr;
  int64_t n_sequences = 0;
  const float* q = nullptr;
  float* out = nullptr;
  const float* k = nullptr;  // to be appended
  const float* v = nullptr;
  int64_t q_stride = 0, out_stride = 0, k_stride = 0, v_stride = 0;
};
// Virtual rows (query row x head of the group) of one kv head: [begin, end) of one sequence, or all
// of several whose tables begin alike. `row`: the first query row of sequence `first` in the call.
struct KvTask {
  int64_t kv_head = 0, first = 0, n_sequences = 1, begin = 0, end = 0, row = 0;
};

struct Tables {
  Table<float> f32;
  void (*kv_attention)(const KvArgs&, const KvTask&);
  void (*kv_append)(const KvArgs&, int64_t begin, int64_t end);  // rows of the call
  void (*logit_bins)(const BinArgs&, const float* p, int64_t* counts, double* masses);
  void (*blocked_gemm)(const BlockedArgs&, const BlockedRange&);
  int64_t (*logit_bin_ids)(const BinArgs&, int64_t bin, int32_t* ids);
  void (*lion)(const retort_lion_params&, float* p, const float* grad, float* m, int64_t n);
  // m may be NULL.
  void (*sgd)(const retort_sgd_params&, float* p, const float* grad, float* m, int64_t n);
  // Elements [begin, end) of the tensor; begin is a whole block.
  void (*adamw8)(const retort_code_books&, const retort_adamw8_tensor&, int64_t begin, int64_t end);
  // The sum of (g * by_col)^2 over a row; by_col may be NULL (1).
  float (*square_row)(const float* g, const float* by_col, int64_t n);
  // means[j] of g^2 over all rows, j in [begin, end).
  void (*square_columns)(const retort_factored_matrix&, float* means, int64_t begin, int64_t end);
  // p = p * keep - scale * g * by_col, a row.
  void (*factored_update)(const float* g, const float* by_col, float keep, float scale, float* p,
                          int64_t n);
};

namespace portable {
extern const Tables kTables;
extern const Table<double> kTableF64;
}  // namespace portable
namespace avx2 {
extern const Tables kTables;
}
namespace avx512 {
extern const Tables kTables;
}

}  // namespace retort::kernels
