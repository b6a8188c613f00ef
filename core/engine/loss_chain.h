// The losses of a trainer: token losses, sequence losses, or both, as one chain over the hidden
// states of a micro-batch.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/engine/sequence_losses.h"
#include "core/engine/token_losses.h"

namespace retort::engine {

class LossChain {
 public:
  // What the options name; refuses what either kind refuses, no loss at all, one name twice.
  static Result<std::unique_ptr<LossChain>> Make(const graph::Graph& graph,
                                                 std::span<const TensorView> params,
                                                 const TrainerOptions& options, int n_threads);

  // A new window: totals are zero again, and normalisers known.
  void BeginWindow(std::span<const MicroBatch> window);
  // The labels that some loss scores.
  int64_t CountLabels(const MicroBatch& batch) const;
  // `d_hidden` is overwritten; NULL: values only, without `grads`.
  Status Run(const MicroBatch& batch, const TensorView& hidden_TD, const TensorView* d_hidden_TD,
             Gradients* grads, const PluginCallSettings& settings,
             std::span<unsigned char> scratch = {});
  // What Run works in for the batch: in `scratch` if that is large enough, else in its own memory.
  int64_t ScratchBytes(const MicroBatch& batch) const;
  // Of the window so far, by entry weights.
  double loss() const;
  // Of each loss and its aux. Names live as long as the object.
  void AppendMetrics(std::vector<StepMetric>* metrics);

 private:
  bool RunsTokens(const MicroBatch& batch) const {
    return tokens_ != nullptr && (batch.losses & kTokenLosses) != 0;
  }
  bool RunsSequences(const MicroBatch& batch) const {
    return sequences_ != nullptr && (batch.losses & kSequenceLosses) != 0;
  }

  std::unique_ptr<TokenLosses> tokens_;        // or NULL
  std::unique_ptr<SequenceLosses> sequences_;  // or NULL
  double n_labels_ = 0;                        // of the window's token losses
};

}  // namespace retort::engine
