// The ops of the layer graph on packed rows: forward and hand-written backward of each, one .cc
// per op. Views are f32 or f64 (all of one call alike), rows contiguous unless said otherwise.
// Legend: T packed tokens, D width, N query heads, G key/value heads, H head size, V vocabulary.
// Backward functions overwrite their d_ outputs, except where a flag or the comment says "adds".
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/packed_rows.h"
#include "core/base/tensor.h"
#include "core/graph/graph.h"
#include "core/graph/rope.h"
#include "core/ops/workspace.h"

namespace retort::ops {

// embed: y[t] = table[ids[t]] * scale. Ids are in range (the engine checks a batch once). The table
// may be of a stored type.
void EmbedForward(const TensorView& table_VD, std::span<const int32_t> ids, double scale,
                  const TensorView& y_TD, int n_threads);
void EmbedBackward(const TensorView& dy_TD, std::span<const int32_t> ids, double scale,
                   const TensorView& d_table_VD, int n_threads);  // adds

// linear: y = x W^T + b. With at most kSkinnyRows rows in f32 the product is batch-invariant: a
// row's result doesn't depend on the others. `bias` may be NULL. W is of x's type or, with f32
// rows, of any stored one (core/model/packed.h); `exact`: then too no product rounds x.
inline constexpr int64_t kSkinnyRows = 16;
// any_company: f32 products of more rows are batch-invariant, too, and need no LibTorch; their sums
// then run in another order than training's.
void LinearForward(const TensorView& x_TI, const TensorView& w_OI, const TensorView* bias_O,
                   const TensorView& y_TO, int n_threads, bool exact = false,
                   bool any_company = false);
// n_threads counts where W is of a stored type (never rounding dy); else LibTorch's threads work.
void LinearBackwardInput(const TensorView& dy_TO, const TensorView& w_OI, const TensorView& dx_TI,
                         bool accumulate, int n_threads = 1);
void LinearBackwardWeight(const TensorView& dy_TO, const TensorView& x_TI, const TensorView& dw_OI,
                          bool accumulate);
void LinearBackwardBias(const TensorView& dy_TO, const TensorView& db_O, int n_threads);  // adds

// rms_norm and head_norm: each of `groups` equal parts of a row is normed on its own.
struct NormSpec {
  int64_t groups = 1;
  double eps = 0, weight_offset = 0;
};
// rstd: [T, groups] or NULL.
void NormForward(const NormSpec& spec, const TensorView& x_TD, const TensorView& w,
                 const TensorView& y_TD, const TensorView* rstd, int n_threads);
// sum = a + b, y = norm(sum) in one pass; groups is 1.
void AddNormForward(const NormSpec& spec, const TensorView& a_TD, const TensorView& b_TD,
                    const TensorView& w, const TensorView& sum_TD, const TensorView& y_TD,
                    const TensorView* rstd, int n_threads);
// dw: adds.
void NormBackward(const NormSpec& spec, const TensorView& dy_TD, const TensorView& x_TD,
                  const TensorView& w, const TensorView& rstd, const TensorView& dx_TD,
                  bool accumulate, const TensorView& dw, int n_threads);
// The same bits in one pass over dy and x. With accumulate it is the whole backward of
// AddNormForward: dx holds the gradient of the sum, which both of its inputs get. dw: adds; data
// NULL: not wanted.
void AddNormBackward(const NormSpec& spec, const TensorView& dy_TD, const TensorView& x_TD,
                     const TensorView& w, const TensorView& rstd, const TensorView& dx_TD,
                     bool accumulate, const TensorView& dw, Workspace& workspace, int n_threads);

// layer_norm: y = (x - mean x) * rsqrt(var x + eps) * w + b. `b` may be NULL. stats: [T, 2], mean
// and rstd, or NULL.
void LayerNormForward(const TensorView& x_TD, const TensorView& w, const TensorView* b, double eps,
                      const TensorView& y_TD, const TensorView* stats_T2, int n_threads);
// dw and db: adds; data NULL: not wanted. dx may be dy.
void LayerNormBackward(const TensorView& dy_TD, const TensorView& x_TD, const TensorView& w,
                       const TensorView& stats_T2, const TensorView& dx_TD, bool accumulate,
                       const TensorView& dw, const TensorView& db, int n_threads);

// rope: cos and sin for the rows of a pass. By position alone, in tables grown as positions do; but
// where the spec's frequencies depend on the length of the text and one is long, row by row.
class RopeAngles {
 public:
  // The spec was checked when the graph was built.
  explicit RopeAngles(const graph::RopeSpec& spec, DType dtype);
  // For the sequences of a pass; lengths as RowBatch::lengths.
  void Cover(std::span<const int32_t> positions, std::span<const int32_t> cu_seqlens,
             std::span<const int32_t> lengths);
  const void* cos_table() const { return cos_.data(); }
  const void* sin_table() const { return sin_.data(); }
  // Each row's row in the tables: its position, or its own number.
  std::span<const int32_t> TableRows(std::span<const int32_t> positions) const {
    return by_row_ ? std::span<const int32_t>(row_numbers_) : positions;
  }

 private:
  void CoverPositions(int64_t n_positions);
  void CoverRows(std::span<const int32_t> positions, std::span<const int32_t> cu_seqlens,
                 std::span<const int32_t> lengths);
  void Resize(int64_t n_rows);
  void Fill(int64_t row, int64_t position, const std::vector<double>& inv_freq);

  const graph::RopeSpec spec_;
  const graph::RopeLengths lengths_;
  std::vector<double> inv_freq_, long_inv_freq_;  // the latter where keys are stale above the limit
  double factor_ = 1;
  int64_t covered_ = 0;  // positions in the tables
  bool by_row_ = false;
  std::vector<int32_t> row_numbers_;
  DType dtype_;
  std::vector<unsigned char> cos_, sin_;
};
enum class Rotation : uint8_t { kForward, kBackward };
// y may be x. Backward is the rotation by the opposite angle.
void Rope(const graph::Node& node, const RopeAngles& angles, Rotation rotation,
          std::span<const int32_t> positions, const TensorView& x, const TensorView& y,
          int n_threads);

// attention: causal within each sequence and what comes before its own rows. lse_TN (log-sum-exp of
// the scores, for backward) may be NULL. `longest`: rows of the longest sequence.
int64_t AttentionWorkspaceBytes(const graph::AttentionSpec& spec, DType dtype, int64_t longest,
                                bool backward, int n_threads);
void AttentionForward(const graph::AttentionSpec& spec, const PackedRows& rows, const TensorView& q,
                      const TensorView& k, const TensorView& v, const TensorView& out,
                      const TensorView* lse_TN, Workspace& workspace, int n_threads);
struct AttentionGradients {
  TensorView dq, dk, dv;
};
void AttentionBackward(const graph::AttentionSpec& spec, const PackedRows& rows,
                       const TensorView& d_out, const TensorView& q, const TensorView& k,
                       const TensorView& v, const TensorView& out, const TensorView& lse_TN,
                       const AttentionGradients& grads, Workspace& workspace, int n_threads);

// activation: y = act(x); gated: y = act(gate) * up. Kinds are RETORT_ACTIVATION_*.
void ActivationForward(uint32_t kind, const TensorView& x, const TensorView& y, int n_threads);
void ActivationBackward(uint32_t kind, const TensorView& dy, const TensorView& x,
                        const TensorView& dx, int n_threads);
void GatedForward(uint32_t kind, const TensorView& gate, const TensorView& up, const TensorView& y,
                  int n_threads);
void GatedBackward(uint32_t kind, const TensorView& dy, const TensorView& gate,
                   const TensorView& up, const TensorView& d_gate, const TensorView& d_up,
                   int n_threads);
// Also writes product = act(gate) * up again, for the weight gradient of the linear that read it.
// d_gate may be gate, d_up may be up, product may be dy.
void GatedBackwardAgain(uint32_t kind, const TensorView& dy, const TensorView& gate,
                        const TensorView& up, const TensorView& d_gate, const TensorView& d_up,
                        const TensorView& product, int n_threads);

// add: y = a + b (its gradient is dy itself). y may be a or b.
void AddForward(const TensorView& a, const TensorView& b, const TensorView& y, int n_threads);
// mul: y = a * b; b has a's width, or width 1.
void MulForward(const TensorView& a, const TensorView& b, const TensorView& y, int n_threads);
void MulBackward(const TensorView& dy, const TensorView& a, const TensorView& b,
                 const TensorView& da, const TensorView& db, int n_threads);
// add and mul with a weight: w [D] for every row, or for mul [1] for all. y may be x.
void AddWeightForward(const TensorView& x_TD, const TensorView& w_D, const TensorView& y_TD,
                      int n_threads);  // dx is dy, dw its column sums (LinearBackwardBias)
void MulWeightForward(const TensorView& x_TD, const TensorView& w, const TensorView& y_TD,
                      int n_threads);
void MulWeightBackwardInput(const TensorView& dy_TD, const TensorView& w, const TensorView& dx_TD,
                            bool accumulate, int n_threads);
void MulWeightBackwardWeight(const TensorView& dy_TD, const TensorView& x_TD, const TensorView& dw,
                             int n_threads);  // adds
// scale: y = x * factor, and its gradient by the same call.
void ScaleForward(const TensorView& x, double factor, const TensorView& y, int n_threads);

// slice: y has the elements from `begin` on of each of n_heads equal parts of x's rows.
void SliceForward(const TensorView& x, int64_t n_heads, int64_t begin, const TensorView& y,
                  int n_threads);
void SliceBackward(const TensorView& dy, int64_t n_heads, int64_t begin, const TensorView& dx,
                   bool accumulate, int n_threads);
// concat, one input at a time: x becomes the elements from `begin` on of each head of y. `repeat`:
// x is one head, which every head of y gets.
struct ConcatPart {
  int64_t n_heads = 1, begin = 0;
  bool repeat = false;
};
void ConcatForward(const TensorView& x, const ConcatPart& part, const TensorView& y, int n_threads);
void ConcatBackward(const TensorView& dy, const ConcatPart& part, const TensorView& dx,
                    bool accumulate, int n_threads);

// Rows between packed and chunked layout: out[r] = x[rows[r]], and the way back.
void GatherRows(const TensorView& x, std::span<const int32_t> rows, const TensorView& out);
void ScatterRows(const TensorView& x, std::span<const int32_t> rows, const TensorView& out);
void AddRows(const TensorView& x, std::span<const int32_t> rows, const TensorView& out);

}  // namespace retort::ops
