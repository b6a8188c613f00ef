// A micro-batch as the arguments of a sequence loss: views of its side inputs, checked.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/engine/engine.h"
#include "retort/abi/draft/loss.h"

namespace retort::engine {

struct SequenceCounts;

// One call's arguments. Points into the batch and the views given, which must outlive it.
class SequenceArgs {
 public:
  // Side inputs among the bits of `wanted` that the batch has. `dtype`: f32, or f64 for tests.
  SequenceArgs(const MicroBatch& batch, DType dtype, uint64_t wanted);
  SequenceArgs(const SequenceArgs&) = delete;
  SequenceArgs& operator=(const SequenceArgs&) = delete;

  // All inputs of `needs` are there, and each has its length. FAILED_PRECONDITION names one that
  // isn't.
  Status Check(uint64_t needs) const;
  void SetTokens(const TensorView& mask, const TensorView& logp, const TensorView* entropy);
  void SetValues(const TensorView& value, const TensorView* d_value);
  void SetCounts(const SequenceCounts& counts, double max_completion_length);
  void SetOutputs(double* loss, std::span<double> aux);
  void SetGradients(const TensorView& d_logp, const TensorView* d_entropy);
  const retort_sequence_loss_args* raw() const { return &args_; }

 private:
  // Both live as long as this object.
  retort_tensor* Tensor(const TensorView& view);
  retort_tensor* Floats(const std::vector<float>& values);

  const MicroBatch& batch_;
  const DType dtype_;
  retort_sequence_loss_args args_{};
  std::deque<TensorView> views_;
  std::deque<retort_tensor> tensors_;
  std::deque<std::vector<double>> wide_;  // f64 copies
};

}  // namespace retort::engine
