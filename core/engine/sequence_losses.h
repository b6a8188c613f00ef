// Losses over whole sequences (policy and preference losses): log-probabilities of the labels'
// tokens chunk by chunk, each loss plugin on all sequences of a micro-batch, then the derivatives
// back through the head chunk by chunk. Logits of a whole batch never exist; with more than one
// chunk those of all but the last are computed again on the way back.
// Legend: T packed tokens, S sequences, R rows of a chunk, D width, V vocabulary.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/plugin_call.h"
#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/engine/arena.h"
#include "core/engine/engine.h"
#include "core/engine/gradients.h"
#include "core/engine/head.h"
#include "core/engine/metric_names.h"
#include "core/engine/value_head.h"

namespace retort::engine {

// Of the micro-batches of a window that sequence losses are for.
struct SequenceCounts {
  double sequences = 0, scored_sequences = 0, groups = 0, tokens = 0, micro_batches = 0;
};
SequenceCounts CountSequences(std::span<const MicroBatch> window);

struct SequenceLossOptions {
  int64_t head_rows = 0;             // rows of a head chunk; 0: chosen from shape
  double temperature = 1;            // of the log-probabilities
  double max_completion_length = 1;  // tokens that a completion may have
};

class SequenceLosses {
 public:
  struct Inputs {
    const MicroBatch& batch;
    TensorView hidden_TD;
    // NULL: values only. Else added to, [T, D], and `grads` gets the head's share.
    const TensorView* d_hidden_TD = nullptr;
    Gradients* grads = nullptr;
  };

  // Refuses inputs that the engine can't give, a dtype that a loss doesn't take, names given twice.
  static Result<std::unique_ptr<SequenceLosses>> Make(const graph::Graph& graph,
                                                      std::span<const TensorView> params,
                                                      std::vector<SequenceLoss> losses,
                                                      const SequenceLossOptions& options,
                                                      int n_threads);

  // A new window: totals are zero again.
  void BeginWindow(const SequenceCounts& counts);
  // One micro-batch. A side input that a loss needs and that isn't there or has another length, a
  // plugin's failure, a non-finite loss: a Status.
  Status Run(const Inputs& inputs, const PluginCallSettings& settings);
  // Of the window so far: the sum of the chain by entry weights.
  double loss() const;
  // Names live as long as the object.
  void AppendMetrics(std::vector<StepMetric>* metrics);

  int64_t arena_growths() const { return chunk_arena_.growths() + token_arena_.growths(); }

 private:
  struct Entry {
    SequenceLoss loss;
    const retort_loss_spec* spec = nullptr;
    double sum = 0;
    std::vector<double> aux;  // [n_aux, 2] of the window: sum, count
    std::vector<std::string> aux_names = {};
  };
  struct Chunk;   // views of one chunk's buffers
  struct Tokens;  // views of one entry per token

  SequenceLosses(const graph::Graph& graph, std::span<const TensorView> params,
                 const SequenceLossOptions& options, int n_threads);
  Status CheckSpec(const Entry& entry) const;
  void CollectRows(const MicroBatch& batch);
  Tokens LayoutTokens(int64_t n_tokens);
  Chunk LayoutChunk(int64_t rows);
  std::span<const int32_t> RowsOf(int64_t begin) const;
  void FillLogits(const Inputs& inputs, std::span<const int32_t> rows, const Chunk& chunk) const;
  void ScoreChunk(std::span<const int32_t> rows, const Chunk& chunk, const Tokens& tokens) const;
  Status RunEntry(size_t index, const MicroBatch& batch, const Tokens& tokens, bool want_grad,
                  const PluginCallSettings& settings);
  void BackwardChunk(const Inputs& inputs, std::span<const int32_t> rows, const Chunk& chunk,
                     const Tokens& tokens) const;

  const graph::Graph& graph_;
  Head head_;
  ValueHead value_head_;
  const DType dtype_;
  const SequenceLossOptions options_;
  const int n_threads_;
  bool wants_entropy_ = false, wants_values_ = false;
  std::vector<Entry> entries_;
  std::deque<PluginCall> calls_;  // one per entry
  SequenceCounts counts_;
  Arena chunk_arena_, token_arena_;
  MetricNames names_;
  std::vector<int32_t> rows_;  // of the batch that are scored
  int64_t chunk_rows_ = 0;
  std::vector<double> aux_;  // of the call at hand
};

}  // namespace retort::engine
