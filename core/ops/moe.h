// moe: each token's row goes through the top_k experts of its router scores, gated MLPs that share
// a stack of weights; the results add up, weighted.
//   y[t] = scale * sum_k w[t,k] * down_e(act(gate_e(x[t])) * up_e(x[t])),   e = ids[t,k]
// Method: tokens are sorted by expert, so that each expert with tokens runs as two products over
// adjacent rows; the weighted results are added to the tokens' rows in the order of the experts.
// A token's result doesn't depend on the others where the products don't (kSkinnyRows).
// Legend: T rows, E experts, K chosen per row, A = T*K assignments, D width, F width in an expert.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/tensor.h"
#include "core/graph/graph.h"

namespace retort::ops {

// Matrix `expert` of a stack of experts [E, O, I], of any stored type.
TensorView ExpertMatrix(const TensorView& stack_EOI, int64_t expert);

// Which experts each row takes, and with which weights.
struct MoeRouting {
  std::span<int32_t> ids;  // [A], of row t at t*K; by score, best first
  TensorView weights_TK;   // of the logits' dtype
};
// Scores are softmax or sigmoid of the logits. The top_k are chosen by score + bias, the lowest
// index first on ties. With groups only experts of the top_k_groups best groups are open; a group's
// score is its best expert's, with a bias the sum of its two best. bias_E may be NULL.
void MoeRoute(const graph::MoeSpec& spec, const TensorView& logits_TE, const TensorView* bias_E,
              const MoeRouting& routing, int n_threads);
// d_logits from the gradient of the weights, through their renormalisation; adds if `accumulate`.
void MoeRouteBackward(const graph::MoeSpec& spec, const TensorView& logits_TE,
                      const MoeRouting& routing, const TensorView& d_weights_TK,
                      const TensorView& d_logits_TE, bool accumulate, int n_threads);

// Assignments sorted by expert. Keeps its memory: sorting as many rows again allocates nothing.
struct MoeOrder {
  std::vector<int32_t> begin;        // [E+1], of each expert in `assignments`
  std::vector<int32_t> assignments;  // [A], each t*K + k, rising within an expert
  std::vector<int32_t> cursor;       // scratch
  void Sort(std::span<const int32_t> ids, int64_t n_experts);
};

struct MoeWeights {
  TensorView gate_up_E2FD, down_EDF;
};
// Elements of scratch per row, of the rows' dtype.
// Forward: x and y of an expert, h; gate_up where it isn't kept.
inline int64_t MoeForwardScratch(const graph::MoeSpec& spec, int64_t width, bool keeps_gate_up) {
  return 2 * width + (keeps_gate_up ? 1 : 3) * spec.hidden;
}
// Backward: x, dy (then dx), h, dh; and the gradient of the weights.
inline int64_t MoeBackwardScratch(const graph::MoeSpec& spec, int64_t width) {
  return 2 * width + 2 * spec.hidden;
}

// gate_up_A2F: what backward reads, in the order's order; data NULL: not kept.
void MoeForward(const graph::MoeSpec& spec, const TensorView& x_TD, const MoeRouting& routing,
                const MoeOrder& order, const MoeWeights& weights, const TensorView& gate_up_A2F,
                const TensorView& y_TD, void* scratch, int n_threads);

struct MoeGradients {
  TensorView dx_TD, d_weights_TK;  // the latter is overwritten
  bool accumulate_dx = false;
  // Of the stacks; data NULL: not wanted. Else overwritten or added to, experts without tokens too.
  TensorView d_gate_up, d_down;
  bool accumulate_gate_up = false, accumulate_down = false;
};
// Destroys gate_up.
void MoeBackward(const graph::MoeSpec& spec, const TensorView& dy_TD, const TensorView& x_TD,
                 const MoeRouting& routing, const MoeOrder& order, const MoeWeights& weights,
                 const TensorView& gate_up_A2F, const MoeGradients& grads, void* scratch,
                 int n_threads);

// The load-balancing loss of Switch Transformer (arXiv 2101.03961, eq. 4 to 6) as transformers has
// it, over all layers of experts of a pass together:
//   E * sum_e (share of rows that chose e, counting each of K) * (mean softmax probability of e)
// Tallies of one layer: [E] choices and probability sums.
struct MoeTally {
  std::vector<double> choices, probabilities;
  int64_t rows = 0;
};
void MoeCount(const graph::MoeSpec& spec, const TensorView& logits_TE, const MoeRouting& routing,
              MoeTally* tally);
// The loss from the sum of all layers' tallies.
double MoeBalanceLoss(const MoeTally& all);
// d_logits += factor * its gradient.
void MoeBalanceBackward(const MoeTally& all, const TensorView& logits_TE, double factor,
                        const TensorView& d_logits_TE, int n_threads);

}  // namespace retort::ops
