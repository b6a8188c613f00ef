// A second model that looks at the same tokens as the one being trained, and gives its logits for
// the rows that a loss asks for, chunk by chunk.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/engine/engine.h"
#include "core/engine/inference.h"

namespace retort::engine {

class Teacher {
 public:
  // `model`, by its first adapter if it has one, outlives the object and is used by nobody else
  // between Forward and Logits. Refuses vocabularies that differ by more than padding.
  static Result<std::unique_ptr<Teacher>> Make(Model& model, const graph::Graph& student);

  // All tokens of a micro-batch; keeps its hidden rows until the next one.
  void Forward(const MicroBatch& batch, const PluginCallSettings& call);
  // Of some rows of that micro-batch, into `logits` [R, vocab()]; `hidden` [R, width()] is scratch.
  void Logits(std::span<const int32_t> rows, const TensorView& hidden, const TensorView& logits);

  int64_t vocab() const { return vocab_; }
  int64_t width() const { return width_; }
  // Columns that both vocabularies have.
  int64_t shared() const { return shared_; }

 private:
  Teacher(Inference& inference, const graph::Graph& graph, int64_t shared)
      : inference_(inference),
        adapter_(graph.adapters.empty() ? -1 : 0),
        vocab_(graph.vocab()),
        width_(graph.width()),
        shared_(shared) {}

  Inference& inference_;
  const int32_t adapter_;
  const int64_t vocab_, width_, shared_;
  TensorView hidden_TD_;
};

}  // namespace retort::engine
