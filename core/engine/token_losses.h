// LM head and token losses together, over the rows that have a label, chunk by chunk: logits,
// then each loss plugin on its own copy, then the gradients of the head's two operands.
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
#include "core/engine/teacher.h"

namespace retort::engine {

// Whether a row is scored: a label and a weight other than 0; and how many of a batch are.
bool IsScored(const MicroBatch& batch, size_t t);
int64_t CountLabels(const MicroBatch& batch);
// Labels of scored rows lie in the vocabulary.
Status CheckLabels(const MicroBatch& batch, int64_t vocab);

struct HeadLossInputs {
  const MicroBatch& batch;
  TensorView hidden_TD;
  // Labels of the whole accumulation window: losses are sums over it.
  double n_labels = 0;
  // NULL: values only. Else overwritten, [T, D], and `grads` gets the head's share.
  const TensorView* d_hidden_TD = nullptr;
  Gradients* grads = nullptr;
  // To work in, if it is large enough (ScratchBytes); else an arena is kept for it.
  std::span<unsigned char> scratch = {};
};

class TokenLosses {
 public:
  // `teacher`: or NULL. Refuses losses that need what there is not (a teacher, sequence grain), a
  // dtype that a loss doesn't take, names given twice.
  static Result<std::unique_ptr<TokenLosses>> Make(const graph::Graph& graph,
                                                   std::span<const TensorView> params,
                                                   std::vector<TokenLoss> losses, int64_t head_rows,
                                                   int n_threads,
                                                   std::unique_ptr<Teacher> teacher = nullptr);

  // What Run works in for a micro-batch of so many labels.
  int64_t ScratchBytes(int64_t n_labels, int64_t teacher_k) const;
  // A new window: totals are zero again.
  void BeginWindow();
  // One micro-batch. A plugin's failure, a label out of range or a non-finite loss is a Status.
  Status Run(const HeadLossInputs& inputs, const PluginCallSettings& settings);
  // Of the window so far: sum of the chain by entry weights, and "loss name" / "name/aux" means.
  double loss() const;
  // Names live as long as the object; nothing is allocated once all have been seen.
  void AppendMetrics(std::vector<StepMetric>* metrics);

  int64_t arena_growths() const { return arena_.growths(); }

 private:
  struct Entry {
    TokenLoss loss;
    const retort_loss_spec* spec = nullptr;
    double sum = 0;                // of loss * row weight / n_labels
    std::vector<double> aux_sums;  // weighted like it
    std::vector<std::string> aux_names = {};
    double aux_weight = 0;
  };
  struct Chunk;  // views of one chunk's buffers

  TokenLosses(const graph::Graph& graph, std::span<const TensorView> params, int64_t head_rows,
              int n_threads);
  Status CheckSpec(const Entry& entry) const;
  bool Wants(uint64_t bits) const;  // whether any entry takes one of these inputs
  void FillTeacher(const MicroBatch& batch, std::span<const int32_t> rows, const Chunk& chunk);
  void CollectRows(const MicroBatch& batch);
  // Views into `memory`; with NULL, of nothing. The bytes that they take go to *bytes.
  Chunk Layout(int64_t rows, int64_t teacher_k, unsigned char* memory, int64_t* bytes) const;
  void FillRows(const HeadLossInputs& inputs, std::span<const int32_t> rows,
                const Chunk& chunk) const;
  Status RunChunk(const HeadLossInputs& inputs, std::span<const int32_t> rows,
                  unsigned char* memory, const PluginCallSettings& settings);
  Status RunEntry(size_t index, const Chunk& chunk, const TensorView& logits,
                  const HeadLossInputs& inputs, const PluginCallSettings& settings);
  template <class T>
  Status AddTotals(Entry& entry, const Chunk& chunk);

  const graph::Graph& graph_;
  Head head_;
  DType dtype_;
  int64_t head_rows_;
  int n_threads_;
  std::unique_ptr<Teacher> teacher_;  // or NULL
  std::vector<Entry> entries_;
  std::deque<PluginCall> calls_;  // one per entry
  uint32_t n_aux_ = 0;            // the most of any entry
  Arena arena_;
  MetricNames names_;
  std::vector<int32_t> rows_;  // of the batch that are scored
  std::vector<int32_t> sequence_of_;
};

}  // namespace retort::engine
