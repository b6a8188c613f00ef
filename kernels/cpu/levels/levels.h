// What the files of one level give to its table (table.cc): one function template per kernel over
// the vector type V, F16 or (portable level only) D16. Ranges: kernels/cpu/table.h.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cpu/levels/simd.h"
#include "kernels/cpu/table.h"

namespace retort::kernels::RETORT_KERNELS_NS {

template <class V>
using ScalarOf = typename V::Scalar;

template <class V>
struct Norm {
  using S = ScalarOf<V>;
  static void Forward(const NormArgs<S>& args, int64_t begin, int64_t end);
  static void AddForward(const NormArgs<S>& args, int64_t begin, int64_t end);
  static void BackwardX(const NormArgs<S>& args, int64_t begin, int64_t end);
  static void BackwardWColumns(const NormArgs<S>& args, int64_t begin, int64_t end);
  static void BackwardChunks(const NormArgs<S>& args, S* partial, int64_t begin, int64_t end);
  static void ReduceColumns(const NormArgs<S>& args, const S* partial, int64_t begin, int64_t end);
};

template <class V>
struct Elementwise {
  using S = ScalarOf<V>;
  static void Add(const S* a, const S* b, S* y, int64_t n);
  static void Mul(const S* a, const S* b, S* y, int64_t n);
  static void Scale(const S* x, S scale, S* y, int64_t n);
  static void Axpy(const S* x, S scale, S* y, int64_t n);
  static void AddBias(const ColumnArgs<S>& args, int64_t begin, int64_t end);
  static void ColSumColumns(const ColumnArgs<S>& args, int64_t begin, int64_t end);
  static void Embed(const ColumnArgs<S>& args, int64_t begin, int64_t end);
  static void EmbedBackwardColumns(const ColumnArgs<S>& args, int64_t begin, int64_t end);
};

template <class V>
struct Rope {
  using S = ScalarOf<V>;
  static void Apply(const RopeArgs<S>& args, int64_t begin, int64_t end);
};

template <class V>
struct Activation {
  using S = ScalarOf<V>;
  static void Forward(int kind, const S* x, S* y, int64_t n);
  static void Backward(int kind, const S* x, const S* dy, S* dx, int64_t n);
  static void Gated(const GatedArgs<S>& args, int64_t begin, int64_t end);
  static void GatedBackward(const GatedArgs<S>& args, int64_t begin, int64_t end);
};

template <class V>
struct Softmax {
  using S = ScalarOf<V>;
  static void LogSumExp(const RowsArgs<S>& args, int64_t begin, int64_t end);
  static void ArgMax(const RowsArgs<S>& args, int64_t begin, int64_t end);
  static void LogP(const RowsArgs<S>& args, int64_t begin, int64_t end);
  static void LogPBackward(const LogPBackwardArgs<S>& args, int64_t begin, int64_t end);
  static void CrossEntropy(const CrossEntropyArgs<S>& args, int64_t begin, int64_t end);
  static double ExpBlocks(const S* x, int64_t cols, double scale, double max, S* p, double* sums);
};

template <class V>
struct Distill {
  using S = ScalarOf<V>;
  static void Rows(const KdArgs<S>& args, int64_t begin, int64_t end);
  static void SoftmaxMix(const SoftmaxMixArgs<S>& args, int64_t begin, int64_t end);
};

template <class V>
struct Optimizer {
  using S = ScalarOf<V>;
  static void AdamW(const retort_adamw_params& params, S* p, const S* grad, S* m, S* v, int64_t n);
  static double SumSquaresBlock(const S* x, int64_t n);
};

template <class V>
struct Gemm {
  using S = ScalarOf<V>;
  static void Outputs(const GemmArgs<S>& args, int64_t begin, int64_t end);
};

template <class V>
struct TrainAttention {
  using S = ScalarOf<V>;
  static int64_t Scratch(const retort_train_attention_shape& shape, int64_t longest, bool backward,
                         bool whole);
  static void Forward(const TrainAttentionArgs<S>&, const TrainAttentionTask&, S* scratch);
  static void BackwardWhole(const TrainAttentionArgs<S>&, const TrainAttentionTask&, S* scratch);
  static void BackwardQueries(const TrainAttentionArgs<S>&, const TrainAttentionTask&, S* scratch);
  static void BackwardKeys(const TrainAttentionArgs<S>&, const TrainAttentionTask&, S* scratch);
};

void KvAttention(const KvArgs& args, const KvTask& task);
void KvAppend(const KvArgs& args, int64_t begin, int64_t end);
void BlockedGemm(const BlockedArgs& args, const BlockedRange& range);
void LogitBins(const BinArgs& args, const float* p, int64_t* counts, double* masses);
void Lion(const retort_lion_params& params, float* p, const float* grad, float* m, int64_t n);
void Sgd(const retort_sgd_params& params, float* p, const float* grad, float* m, int64_t n);
void AdamW8(const retort_code_books& books, const retort_adamw8_tensor& tensor, int64_t begin,
            int64_t end);
float SquareRow(const float* g, const float* by_col, int64_t n);
void SquareColumns(const retort_factored_matrix& matrix, float* means, int64_t begin, int64_t end);
void FactoredUpdate(const float* g, const float* by_col, float keep, float scale, float* p,
                    int64_t n);
int64_t LogitBinIds(const BinArgs& args, int64_t bin, int32_t* ids);

}  // namespace retort::kernels::RETORT_KERNELS_NS

// Emits a class of kernels for the vector types of this level; inside the level's namespace.
#if RETORT_KERNELS_LEVEL == 0
#define RETORT_KERNELS_EMIT(name) \
  template struct name<F16>;      \
  template struct name<D16>
#else
#define RETORT_KERNELS_EMIT(name) template struct name<F16>
#endif
