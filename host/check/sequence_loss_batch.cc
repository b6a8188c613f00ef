// SPDX-License-Identifier: Apache-2.0
#include "host/check/sequence_loss_batch.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <set>

#include "host/check/guarded.h"

namespace retort::host::check {
namespace {

constexpr const char* kNames[SequenceBatch::kSides] = {
    "old_logp",  "ref_logp", "behaviour_logp", "entropy",  "policy_weight", "value",
    "old_value", "returns",  "advantage",      "group_id", "target"};
constexpr uint64_t kPerSequence = RETORT_SEQUENCE_GROUP_ID | RETORT_SEQUENCE_TARGET;
constexpr double kMaxCompletion = 16;

int64_t SumOf(const std::vector<int64_t>& lengths) {
  int64_t sum = 0;
  for (const int64_t n : lengths) sum += n;
  return sum;
}

double OnGrid(double x) { return std::round(x * 1024) / 1024; }

// A random number that suits the side input `bit` at a token whose logp is given.
double Draw(uint64_t bit, double logp, Rng* rng) {
  switch (bit) {
    case RETORT_SEQUENCE_OLD_LOGP: return logp + 0.15 * rng->Normal();
    case RETORT_SEQUENCE_REF_LOGP: return logp + 0.4 * rng->Normal();
    case RETORT_SEQUENCE_BEHAVIOUR_LOGP: return logp + 0.1 * rng->Normal();
    case RETORT_SEQUENCE_ENTROPY: return 0.1 + 3 * rng->Uniform();
    case RETORT_SEQUENCE_POLICY_WEIGHT: return 0.5 + rng->Uniform();
    default: return rng->Normal();
  }
}

}  // namespace

size_t SequenceBatch::Index(uint64_t bit) { return static_cast<size_t>(std::countr_zero(bit)); }

SequenceBatch::SequenceBatch(const retort_loss_spec& spec, const std::vector<int64_t>& lengths,
                             uint64_t inputs, Elem elem, Rng* rng)
    : cu_seqlens("cu_seqlens", Elem::kI32, {static_cast<int64_t>(lengths.size()) + 1}),
      mask("mask", Elem::kU8, {SumOf(lengths)}),
      logp("logp", elem, {SumOf(lengths)}),
      loss("loss", Elem::kF64, {1}),
      d_logp("d_logp", elem, {SumOf(lengths)}),
      d_entropy("d_entropy", elem, {SumOf(lengths)}),
      d_value("d_value", elem, {SumOf(lengths)}),
      aux("aux", Elem::kF64, {int64_t{spec.n_aux}, 2}) {
  const auto n = static_cast<int64_t>(lengths.size());
  cu_seqlens.Set(0, 0);
  int64_t t = 0;
  for (int64_t s = 0; s < n; ++s) {
    const int64_t length = lengths[static_cast<size_t>(s)];
    for (int64_t i = 0; i < length; ++i, ++t) mask.Set(t, i == 0 || i == 1 || i % 5 == 4 ? 0 : 1);
    cu_seqlens.Set(s + 1, static_cast<double>(t));
  }
  for (int64_t i = 0; i < t; ++i) logp.Set(i, OnGrid(-0.1 - std::fabs(rng->Normal())));
  if ((inputs & RETORT_SEQUENCE_VALUE_AFTER) != 0) inputs |= RETORT_SEQUENCE_VALUE;
  for (size_t k = 0; k < kSides; ++k) {
    const uint64_t bit = uint64_t{1} << k;
    if ((inputs & bit) == 0) continue;
    const bool per_sequence = (bit & kPerSequence) != 0;
    Tensor& tensor = side[k].emplace(kNames[k], bit == RETORT_SEQUENCE_GROUP_ID ? Elem::kI32 : elem,
                                     std::vector<int64_t>{per_sequence ? n : t});
    for (int64_t i = 0; i < tensor.size(); ++i) {
      const double near = per_sequence ? 0 : logp.At(i);
      tensor.Set(i, bit == RETORT_SEQUENCE_GROUP_ID ? static_cast<double>(i / 2)
                                                    : OnGrid(Draw(bit, near, rng)));
    }
  }
  // An advantage belongs to a sequence.
  if (std::optional<Tensor>& advantage = Side(RETORT_SEQUENCE_ADVANTAGE); advantage.has_value()) {
    for (int64_t s = 0; s < n; ++s) {
      const auto begin = static_cast<int64_t>(cu_seqlens.At(s));
      const auto end = static_cast<int64_t>(cu_seqlens.At(s + 1));
      for (int64_t i = begin; i < end; ++i) advantage->Set(i, advantage->At(begin));
    }
  }
  Count();
}

void SequenceBatch::Count() {
  const int64_t n = n_sequences_here();
  double scored = 0, tokens = 0;
  for (int64_t s = 0; s < n; ++s) {
    double here = 0;
    const auto end = static_cast<int64_t>(cu_seqlens.At(s + 1));
    for (auto t = static_cast<int64_t>(cu_seqlens.At(s)); t < end; ++t) {
      here += masked(t) ? 0 : 1;
    }
    tokens += here;
    scored += here > 0 ? 1 : 0;
  }
  n_sequences = std::max<double>(1, static_cast<double>(n));
  n_scored = std::max<double>(1, scored);
  n_groups = std::max<double>(1, static_cast<double>((n + 1) / 2));
  n_tokens = std::max<double>(1, tokens);
}

SequenceBatch SequenceBatch::Sequences(int64_t begin, int64_t end) const {
  SequenceBatch part = *this;
  const auto first = static_cast<int64_t>(cu_seqlens.At(begin));
  const auto last = static_cast<int64_t>(cu_seqlens.At(end));
  part.cu_seqlens = cu_seqlens.Rows(begin, end + 1);
  for (int64_t s = 0; s <= end - begin; ++s) {
    part.cu_seqlens.Set(s, cu_seqlens.At(begin + s) - static_cast<double>(first));
  }
  for (Tensor* tensor : {&part.mask, &part.logp, &part.d_logp, &part.d_entropy, &part.d_value}) {
    *tensor = tensor->Rows(first, last);
  }
  for (size_t k = 0; k < kSides; ++k) {
    if (!side[k].has_value()) continue;
    const bool per_sequence = (kPerSequence >> k & 1) != 0;
    part.side[k] = per_sequence ? side[k]->Rows(begin, end) : side[k]->Rows(first, last);
  }
  return part;
}

SequenceBatch SequenceBatch::As(Elem elem) const {
  SequenceBatch other = *this;
  for (Tensor* tensor : {&other.logp, &other.d_logp, &other.d_entropy, &other.d_value}) {
    *tensor = tensor->As(elem);
  }
  for (std::optional<Tensor>& tensor : other.side) {
    if (tensor.has_value() && tensor->elem() != Elem::kI32) *tensor = tensor->As(elem);
  }
  return other;
}

std::vector<Tensor*> SequenceBatch::TokenInputs() {
  std::vector<Tensor*> all = {&logp};
  for (size_t k = 0; k < kSides; ++k) {
    if (side[k].has_value() && (kPerSequence >> k & 1) == 0) all.push_back(&*side[k]);
  }
  return all;
}

std::vector<Tensor*> SequenceBatch::Outputs() {
  std::vector<Tensor*> all = {&loss, &d_logp, &aux};
  if (Side(RETORT_SEQUENCE_ENTROPY).has_value()) all.push_back(&d_entropy);
  if (Side(RETORT_SEQUENCE_VALUE).has_value()) all.push_back(&d_value);
  return all;
}

std::vector<const Tensor*> SequenceBatch::Inputs() const {
  std::vector<const Tensor*> all = {&cu_seqlens, &mask, &logp};
  for (const std::optional<Tensor>& tensor : side) {
    if (tensor.has_value()) all.push_back(&*tensor);
  }
  return all;
}

void SequenceBatch::Remember() {
  for (const Tensor* tensor : Inputs()) const_cast<Tensor*>(tensor)->Remember();
}

std::string SequenceBatch::Problem() const {
  std::vector<const Tensor*> all = Inputs();
  for (const Tensor* tensor : all) {
    if (std::string text = tensor->Change(); !text.empty()) return text;
  }
  for (const Tensor* tensor : {&loss, &d_logp, &d_entropy, &d_value, &aux}) all.push_back(tensor);
  for (const Tensor* tensor : all) {
    if (std::string text = tensor->Damage(); !text.empty()) return text;
  }
  return "";
}

retort_sequence_loss_args SequenceBatch::Args(const Wanted& wanted) {
  const auto raw = [&](uint64_t bit) {
    std::optional<Tensor>& tensor = Side(bit);
    return tensor.has_value() ? tensor->get() : nullptr;
  };
  retort_sequence_loss_args args{};
  args.struct_size = sizeof(args);
  args.cu_seqlens = cu_seqlens.get();
  args.mask = mask.get();
  args.logp = logp.get();
  args.old_logp = raw(RETORT_SEQUENCE_OLD_LOGP);
  args.ref_logp = raw(RETORT_SEQUENCE_REF_LOGP);
  args.behaviour_logp = raw(RETORT_SEQUENCE_BEHAVIOUR_LOGP);
  args.entropy = raw(RETORT_SEQUENCE_ENTROPY);
  args.policy_weight = raw(RETORT_SEQUENCE_POLICY_WEIGHT);
  args.value = raw(RETORT_SEQUENCE_VALUE);
  args.old_value = raw(RETORT_SEQUENCE_OLD_VALUE);
  args.returns = raw(RETORT_SEQUENCE_RETURNS);
  args.advantage = raw(RETORT_SEQUENCE_ADVANTAGE);
  args.group_id = raw(RETORT_SEQUENCE_GROUP_ID);
  args.target = raw(RETORT_SEQUENCE_TARGET);
  args.n_sequences_global = n_sequences;
  args.n_scored_sequences_global = n_scored;
  args.n_groups_global = n_groups;
  args.n_tokens_global = n_tokens;
  args.max_completion_length = kMaxCompletion;
  args.accumulation_steps = accumulation_steps;
  args.loss = loss.get();
  args.d_logp = wanted.logp ? d_logp.get() : nullptr;
  args.d_entropy = wanted.entropy && args.entropy != nullptr ? d_entropy.get() : nullptr;
  args.d_value = wanted.value && args.value != nullptr ? d_value.get() : nullptr;
  args.aux = aux.shape()[0] > 0 ? aux.get() : nullptr;
  return args;
}

std::string SequenceInputName(uint64_t bit) {
  return kNames[static_cast<size_t>(std::countr_zero(bit))];
}

Result<SequenceLoss> SequenceLoss::Open(const Subject& subject) {
  RETORT_ASSIGN_OR_RETURN(RawInstance plugin, RawInstance::Create(subject));
  SequenceLoss loss(std::move(plugin));
  if (loss.plugin_.Find(RETORT_SEQUENCE_LOSS_INTERFACE) == nullptr) return loss;
  RETORT_ASSIGN_OR_RETURN(
      loss.table_, loss.plugin_.Table<retort_sequence_loss_v1>(RETORT_SEQUENCE_LOSS_INTERFACE));
  return loss;
}

Status SequenceLoss::Run(SequenceBatch* batch, const How& how) const {
  for (Tensor* output : batch->Outputs()) output->Poison();
  batch->Remember();
  GuardedStruct<retort_sequence_loss_args> args(batch->Args(how.wanted), how.growth);
  RawCall call(how.growth);
  call.raw().n_threads = how.n_threads;
  return call.End(table_->eval(plugin_.get(), call.Begin(), args.get()),
                  "eval of " + std::to_string(batch->n_sequences_here()) + " sequences, " +
                      std::to_string(batch->n_tokens_here()) + " tokens, " +
                      ElemName(batch->logp.elem()));
}

Result<retort_status> SequenceLoss::RunBroken(SequenceBatch* batch) const {
  GuardedStruct<retort_sequence_loss_args> args(batch->Args({}));
  RawCall call;
  const retort_status status = table_->eval(plugin_.get(), call.Begin(), args.get());
  if (const Status misuse = call.EndFailed(status, "eval"); !misuse.ok()) return misuse;
  return status;
}

}  // namespace retort::host::check
