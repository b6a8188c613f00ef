// SPDX-License-Identifier: Apache-2.0
#include "core/engine/sequence_inputs.h"

#include <algorithm>
#include <array>
#include <string>

#include "core/base/abi_tensor.h"
#include "core/engine/sequence_losses.h"

namespace retort::engine {
namespace {

// What a side input is called, where it lies in the batch and in the arguments, how long it is.
struct Side {
  uint64_t bit;
  const char* name;
  std::vector<float> SequenceInputs::*values;
  const retort_tensor* retort_sequence_loss_args::*argument;
  bool per_sequence = false;
};
constexpr std::array<Side, 8> kSides = {{
    {RETORT_SEQUENCE_OLD_LOGP, "old_logp", &SequenceInputs::old_logp,
     &retort_sequence_loss_args::old_logp},
    {RETORT_SEQUENCE_REF_LOGP, "ref_logp", &SequenceInputs::ref_logp,
     &retort_sequence_loss_args::ref_logp},
    {RETORT_SEQUENCE_BEHAVIOUR_LOGP, "behaviour_logp", &SequenceInputs::behaviour_logp,
     &retort_sequence_loss_args::behaviour_logp},
    {RETORT_SEQUENCE_POLICY_WEIGHT, "policy_weight", &SequenceInputs::policy_weight,
     &retort_sequence_loss_args::policy_weight},
    {RETORT_SEQUENCE_OLD_VALUE, "old_value", &SequenceInputs::old_value,
     &retort_sequence_loss_args::old_value},
    {RETORT_SEQUENCE_RETURNS, "returns", &SequenceInputs::returns,
     &retort_sequence_loss_args::returns},
    {RETORT_SEQUENCE_ADVANTAGE, "advantage", &SequenceInputs::advantage,
     &retort_sequence_loss_args::advantage},
    {RETORT_SEQUENCE_TARGET, "target", &SequenceInputs::target, &retort_sequence_loss_args::target,
     true},
}};

Status Missing(const std::string& name) {
  return FailedPrecondition("it needs " + name +
                            ", which this stage doesn't give; use a stage that does, or leave out "
                            "the option that asks for it");
}

Status WrongLength(const std::string& name, size_t size, size_t wanted) {
  return InvalidArgument(name + " has " + std::to_string(size) + " entries, must have " +
                         std::to_string(wanted));
}

}  // namespace

SequenceArgs::SequenceArgs(const MicroBatch& batch, DType dtype, uint64_t wanted)
    : batch_(batch), dtype_(dtype) {
  args_.struct_size = sizeof(args_);
  const auto n = static_cast<int64_t>(batch.cu_seqlens.size());
  args_.cu_seqlens = Tensor(
      TensorView::Contiguous(const_cast<int32_t*>(batch.cu_seqlens.data()), DType::kI32, {n}));
  for (const Side& side : kSides) {
    const std::vector<float>& values = batch.sequence.*side.values;
    if ((wanted & side.bit) == 0 || values.empty()) continue;
    args_.*side.argument = Floats(values);
  }
  const std::vector<int32_t>& groups = batch.sequence.group_id;
  if ((wanted & RETORT_SEQUENCE_GROUP_ID) == 0 || groups.empty()) return;
  args_.group_id = Tensor(TensorView::Contiguous(const_cast<int32_t*>(groups.data()), DType::kI32,
                                                 {static_cast<int64_t>(groups.size())}));
}

retort_tensor* SequenceArgs::Tensor(const TensorView& view) {
  return &tensors_.emplace_back(AbiTensor(views_.emplace_back(view)));
}

retort_tensor* SequenceArgs::Floats(const std::vector<float>& values) {
  const auto n = static_cast<int64_t>(values.size());
  if (dtype_ == DType::kF32) {
    return Tensor(TensorView::Contiguous(const_cast<float*>(values.data()), DType::kF32, {n}));
  }
  std::vector<double>& wide = wide_.emplace_back(values.begin(), values.end());
  return Tensor(TensorView::Contiguous(wide.data(), DType::kF64, {n}));
}

Status SequenceArgs::Check(uint64_t needs) const {
  const size_t n_tokens = batch_.ids.size(), n_sequences = batch_.cu_seqlens.size() - 1;
  for (const Side& side : kSides) {
    const size_t size = (batch_.sequence.*side.values).size();
    if ((needs & side.bit) != 0 && size == 0) return Missing(side.name);
    const size_t wanted = side.per_sequence ? n_sequences : n_tokens;
    if (size != 0 && size != wanted) return WrongLength(side.name, size, wanted);
  }
  const size_t groups = batch_.sequence.group_id.size();
  if ((needs & RETORT_SEQUENCE_GROUP_ID) != 0 && groups == 0) return Missing("group_id");
  if (groups != 0 && groups != n_sequences) return WrongLength("group_id", groups, n_sequences);
  return OkStatus();
}

void SequenceArgs::SetTokens(const TensorView& mask, const TensorView& logp,
                             const TensorView* entropy) {
  args_.mask = Tensor(mask);
  args_.logp = Tensor(logp);
  if (entropy != nullptr) args_.entropy = Tensor(*entropy);
}

void SequenceArgs::SetValues(const TensorView& value, const TensorView* d_value) {
  args_.value = Tensor(value);
  if (d_value != nullptr) args_.d_value = Tensor(*d_value);
}

void SequenceArgs::SetCounts(const SequenceCounts& counts, double max_completion_length) {
  args_.n_sequences_global = std::max(counts.sequences, 1.0);
  args_.n_scored_sequences_global = std::max(counts.scored_sequences, 1.0);
  args_.n_groups_global = std::max(counts.groups, 1.0);
  args_.n_tokens_global = std::max(counts.tokens, 1.0);
  args_.max_completion_length = max_completion_length;
  args_.accumulation_steps = std::max(counts.micro_batches, 1.0);
}

void SequenceArgs::SetOutputs(double* loss, std::span<double> aux) {
  args_.loss = Tensor(TensorView::Contiguous(loss, DType::kF64, {1}));
  if (aux.empty()) return;
  const auto n = static_cast<int64_t>(aux.size() / 2);
  args_.aux = Tensor(TensorView::Contiguous(aux.data(), DType::kF64, {n, 2}));
}

void SequenceArgs::SetGradients(const TensorView& d_logp, const TensorView* d_entropy) {
  args_.d_logp = Tensor(d_logp);
  if (d_entropy != nullptr) args_.d_entropy = Tensor(*d_entropy);
}

}  // namespace retort::engine
