// The function table of one level.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/levels/levels.h"

namespace retort::kernels::RETORT_KERNELS_NS {

template <class V>
static constexpr Table<ScalarOf<V>> MakeTable() {
  return {
      .rms_norm = Norm<V>::Forward,
      .add_rms_norm = Norm<V>::AddForward,
      .rms_norm_dx = Norm<V>::BackwardX,
      .rms_norm_dw_columns = Norm<V>::BackwardWColumns,
      .rms_norm_chunks = Norm<V>::BackwardChunks,
      .rms_norm_reduce_columns = Norm<V>::ReduceColumns,
      .add = Elementwise<V>::Add,
      .mul = Elementwise<V>::Mul,
      .scale = Elementwise<V>::Scale,
      .axpy = Elementwise<V>::Axpy,
      .add_bias = Elementwise<V>::AddBias,
      .col_sum_columns = Elementwise<V>::ColSumColumns,
      .embed = Elementwise<V>::Embed,
      .embed_backward_columns = Elementwise<V>::EmbedBackwardColumns,
      .rope = Rope<V>::Apply,
      .activation = Activation<V>::Forward,
      .activation_backward = Activation<V>::Backward,
      .gated = Activation<V>::Gated,
      .gated_backward = Activation<V>::GatedBackward,
      .row_logsumexp = Softmax<V>::LogSumExp,
      .row_argmax = Softmax<V>::ArgMax,
      .row_logp = Softmax<V>::LogP,
      .row_logp_backward = Softmax<V>::LogPBackward,
      .cross_entropy = Softmax<V>::CrossEntropy,
      .kd_rows = Distill<V>::Rows,
      .softmax_mix = Distill<V>::SoftmaxMix,
      .exp_blocks = Softmax<V>::ExpBlocks,
      .adamw = Optimizer<V>::AdamW,
      .sum_squares_block = Optimizer<V>::SumSquaresBlock,
      .gemm_outputs = Gemm<V>::Outputs,
      .train_attention_scratch = TrainAttention<V>::Scratch,
      .train_attention = TrainAttention<V>::Forward,
      .train_attention_whole = TrainAttention<V>::BackwardWhole,
      .train_attention_dq = TrainAttention<V>::BackwardQueries,
      .train_attention_dkv = TrainAttention<V>::BackwardKeys,
  };
}

extern constexpr Tables kTables = {.f32 = MakeTable<F16>(),
                                   .kv_attention = KvAttention,
                                   .kv_append = KvAppend,
                                   .logit_bins = LogitBins,
                                   .blocked_gemm = BlockedGemm,
                                   .logit_bin_ids = LogitBinIds,
                                   .lion = Lion,
                                   .sgd = Sgd,
                                   .adamw8 = AdamW8,
                                   .square_row = SquareRow,
                                   .square_columns = SquareColumns,
                                   .factored_update = FactoredUpdate};
#if RETORT_KERNELS_LEVEL == 0
extern constexpr Table<double> kTableF64 = MakeTable<D16>();
#endif

}  // namespace retort::kernels::RETORT_KERNELS_NS
