// SPDX-License-Identifier: Apache-2.0
#include "core/engine/teacher.h"

#include <algorithm>
#include <string>

#include "core/graph/value_head.h"
#include "core/ops/ops.h"

namespace retort::engine {
namespace {

// Checkpoints of one tokenizer pad the vocabulary to some multiple, never by more than this.
constexpr int64_t kMostPadding = 2048;

}  // namespace

Result<std::unique_ptr<Teacher>> Teacher::Make(Model& model, const graph::Graph& student) {
  RETORT_RETURN_IF_ERROR(graph::CheckHasLmHead(model.graph(), "the teacher"));
  const int64_t theirs = model.graph().vocab(), ours = student.vocab();
  if (std::max(theirs, ours) - std::min(theirs, ours) > kMostPadding) {
    return InvalidArgument("the teacher's vocabulary has " + std::to_string(theirs) +
                           " entries and the student's " + std::to_string(ours) +
                           ": they have different tokenizers, so their distributions can't be "
                           "compared; let the teacher write text and train on that");
  }
  return std::unique_ptr<Teacher>(
      new Teacher(model.inference(), model.graph(), std::min(theirs, ours)));
}

void Teacher::Forward(const MicroBatch& batch, const PluginCallSettings& call) {
  inference_.SetAdapter(adapter_);
  hidden_TD_ = inference_.Forward({.ids = batch.ids,
                                   .positions = batch.positions,
                                   .cu_seqlens = batch.cu_seqlens,
                                   .prefixes = batch.prefixes,
                                   .call = call},
                                  nullptr);
}

void Teacher::Logits(std::span<const int32_t> rows, const TensorView& hidden,
                     const TensorView& logits) {
  ops::GatherRows(hidden_TD_, rows, hidden);
  inference_.Logits(hidden, logits);
}

}  // namespace retort::engine
