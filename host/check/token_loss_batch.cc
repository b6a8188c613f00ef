// SPDX-License-Identifier: Apache-2.0
#include "host/check/token_loss_batch.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "host/check/guarded.h"

namespace retort::host::check {
namespace {

constexpr int64_t kSequenceRows = 3;
constexpr double kWeights[] = {1, -0.5, 2.5, 0.01, 1, -1};

Elem OutputElem(Elem logits) { return logits == Elem::kF64 ? Elem::kF64 : Elem::kF32; }

std::optional<Tensor> PartOf(const std::optional<Tensor>& tensor, int64_t begin, int64_t end) {
  if (!tensor.has_value()) return std::nullopt;
  return tensor->Rows(begin, end);
}

retort_tensor* RawOf(std::optional<Tensor>& tensor) {
  return tensor.has_value() ? tensor->get() : nullptr;
}

// Distinct ids 0 .. n - 1 in random order.
std::vector<int64_t> Shuffled(int64_t n, Rng* rng) {
  std::vector<int64_t> ids(static_cast<size_t>(n));
  std::iota(ids.begin(), ids.end(), 0);
  for (size_t i = ids.size(); i > 1; --i) std::swap(ids[i - 1], ids[rng->Below(i)]);
  return ids;
}

}  // namespace

TokenBatch::TokenBatch(const retort_loss_spec& spec, const TokenShape& shape, uint64_t inputs,
                       Rng* rng)
    : logits("logits", shape.elem, {shape.rows, shape.vocab}, shape.pad),
      labels("labels", Elem::kI64, {shape.rows}),
      weight("weight", Elem::kF32, {shape.rows}),
      loss("loss", OutputElem(shape.elem), {shape.rows}),
      aux("aux", OutputElem(shape.elem), {shape.rows, int64_t{spec.n_aux}}, shape.pad) {
  // Numbers that f32 holds too, so that runs with several dtypes see the same.
  for (int64_t i = 0; i < logits.size(); ++i) {
    logits.Set(i, double{static_cast<float>(2 * rng->Normal())});
  }
  for (int64_t r = 0; r < shape.rows; ++r) {
    const auto random = static_cast<int64_t>(rng->Below(static_cast<uint64_t>(shape.vocab)));
    labels.Set(r, static_cast<double>(r % 4 == 0 ? shape.vocab - 1 : r % 4 == 1 ? 0 : random));
    weight.Set(r, kWeights[static_cast<size_t>(r) % std::size(kWeights)]);
  }
  FillTeacher(spec, shape, inputs, rng);
  if ((inputs & RETORT_TOKEN_SEQUENCE_ID) != 0) {
    sequence_id.emplace("sequence_id", Elem::kI32, std::vector<int64_t>{shape.rows});
    for (int64_t r = 0; r < shape.rows; ++r) {
      sequence_id->Set(r, static_cast<double>(r / kSequenceRows));
    }
  }
  if ((inputs & RETORT_TOKEN_POSITION) != 0) {
    position.emplace("position", Elem::kI32, std::vector<int64_t>{shape.rows});
    for (int64_t r = 0; r < shape.rows; ++r) {
      position->Set(r, static_cast<double>(4 + r % kSequenceRows));
    }
  }
}

void TokenBatch::FillTeacher(const retort_loss_spec& spec, const TokenShape& shape, uint64_t inputs,
                             Rng* rng) {
  const int64_t rows = shape.rows, vocab = shape.vocab;
  if ((inputs & RETORT_TOKEN_TEACHER_LOGITS) != 0) {
    teacher_logits.emplace("teacher_logits", Elem::kF32, std::vector<int64_t>{rows, vocab},
                           shape.pad);
    teacher_logits->Randomise(rng, 2);
  }
  if ((inputs & RETORT_TOKEN_TEACHER_TOP_K) == 0) return;
  const int64_t k = spec.teacher_top_k != 0 ? int64_t{spec.teacher_top_k} : 4;
  teacher_ids.emplace("teacher_ids", Elem::kI32, std::vector<int64_t>{rows, k});
  teacher_logp.emplace("teacher_logp", Elem::kF32, std::vector<int64_t>{rows, k});
  teacher_tail.emplace("teacher_tail", Elem::kF32, std::vector<int64_t>{rows});
  for (int64_t r = 0; r < rows; ++r) {
    const std::vector<int64_t> ids = Shuffled(vocab, rng);
    // A small part always stays for the tail; entries beyond the vocabulary are unused.
    double left = 1;
    for (int64_t j = 0; j < k; ++j) {
      const bool used = j < vocab;
      const double p = left * (0.3 + 0.4 * rng->Uniform());
      teacher_ids->Set(r * k + j, used ? static_cast<double>(ids[static_cast<size_t>(j)]) : -1);
      teacher_logp->Set(r * k + j, used ? std::log(p) : 0);
      if (used) left -= p;
    }
    teacher_tail->Set(r, std::log(left));
  }
}

TokenBatch TokenBatch::Rows(int64_t begin, int64_t end) const {
  TokenBatch part = *this;
  for (Tensor* tensor : {&part.logits, &part.labels, &part.weight, &part.loss, &part.aux}) {
    *tensor = tensor->Rows(begin, end);
  }
  for (std::optional<Tensor>* tensor : {&part.teacher_logits, &part.teacher_ids, &part.teacher_logp,
                                        &part.teacher_tail, &part.sequence_id, &part.position}) {
    *tensor = PartOf(*tensor, begin, end);
  }
  return part;
}

TokenBatch TokenBatch::As(Elem elem, int64_t pad) const {
  TokenBatch other = *this;
  other.logits = logits.As(elem, pad);
  other.loss = Tensor("loss", OutputElem(elem), loss.shape());
  other.aux = Tensor("aux", OutputElem(elem), aux.shape(), pad);
  if (teacher_logits.has_value()) other.teacher_logits = teacher_logits->As(Elem::kF32, pad);
  return other;
}

double TokenBatch::LargestWeight() const {
  double largest = 0;
  for (int64_t r = 0; r < n_rows(); ++r) largest = std::max(largest, std::fabs(weight.At(r)));
  return largest;
}

double TokenBatch::WeightedLoss() const {
  double sum = 0;
  for (int64_t r = 0; r < n_rows(); ++r) {
    if (weight.At(r) != 0) sum += weight.At(r) * loss.At(r);
  }
  return sum;
}

std::vector<const Tensor*> TokenBatch::Inputs() const {
  std::vector<const Tensor*> all = {&labels, &weight};
  for (const std::optional<Tensor>* tensor :
       {&teacher_logits, &teacher_ids, &teacher_logp, &teacher_tail, &sequence_id, &position}) {
    if (tensor->has_value()) all.push_back(&**tensor);
  }
  return all;
}

void TokenBatch::Remember() {
  logits.Remember();
  for (const Tensor* tensor : Inputs()) const_cast<Tensor*>(tensor)->Remember();
}

std::string TokenBatch::Problem(bool want_grad) const {
  std::vector<const Tensor*> all = Inputs();
  for (const Tensor* tensor : all) {
    if (std::string text = tensor->Change(); !text.empty()) return text;
  }
  if (!want_grad) {
    if (std::string text = logits.Change(); !text.empty()) return text + " without WANT_GRAD";
  }
  for (const Tensor* tensor : {&logits, &loss, &aux}) all.push_back(tensor);
  for (const Tensor* tensor : all) {
    if (std::string text = tensor->Damage(); !text.empty()) return text;
  }
  return "";
}

retort_token_loss_args TokenBatch::Args(bool want_grad, bool want_aux) {
  retort_token_loss_args args{};
  args.struct_size = sizeof(args);
  args.flags = want_grad ? RETORT_TOKEN_WANT_GRAD : 0;
  args.logits = logits.get();
  args.labels = labels.get();
  args.weight = weight.get();
  args.teacher_logits = RawOf(teacher_logits);
  args.teacher_ids = RawOf(teacher_ids);
  args.teacher_logp = RawOf(teacher_logp);
  args.teacher_tail = RawOf(teacher_tail);
  args.sequence_id = RawOf(sequence_id);
  args.position = RawOf(position);
  args.loss = loss.get();
  args.aux = want_aux && aux.shape()[1] > 0 ? aux.get() : nullptr;
  return args;
}

std::vector<uint64_t> InputSets(const retort_loss_spec& spec) {
  const uint64_t all = spec.needs | spec.optional;
  const uint64_t both = RETORT_TOKEN_TEACHER_LOGITS | RETORT_TOKEN_TEACHER_TOP_K;
  if ((all & both) != both || (spec.needs & both) == both) return {all};
  std::vector<uint64_t> sets;
  for (const uint64_t bit : {RETORT_TOKEN_TEACHER_LOGITS, RETORT_TOKEN_TEACHER_TOP_K}) {
    if ((spec.needs & bit) == 0) sets.push_back(all & ~bit);
  }
  return sets;
}

std::string InputName(uint64_t bit) {
  switch (bit) {
    case RETORT_TOKEN_TEACHER_LOGITS: return "teacher_logits";
    case RETORT_TOKEN_TEACHER_TOP_K: return "teacher_ids, teacher_logp and teacher_tail";
    case RETORT_TOKEN_SEQUENCE_ID: return "sequence_id";
    case RETORT_TOKEN_POSITION: return "position";
    default: return "an unknown side input";
  }
}

Result<TokenLoss> TokenLoss::Open(const Subject& subject) {
  RETORT_ASSIGN_OR_RETURN(RawInstance plugin, RawInstance::Create(subject));
  TokenLoss loss(std::move(plugin));
  if (loss.plugin_.Find(RETORT_TOKEN_LOSS_INTERFACE) == nullptr) return loss;
  RETORT_ASSIGN_OR_RETURN(loss.table_,
                          loss.plugin_.Table<retort_token_loss_v1>(RETORT_TOKEN_LOSS_INTERFACE));
  return loss;
}

Status TokenLoss::Run(TokenBatch* batch, const How& how) const {
  batch->loss.Poison();
  batch->aux.Poison();
  batch->Remember();
  GuardedStruct<retort_token_loss_args> args(batch->Args(how.want_grad, how.want_aux), how.growth);
  RawCall call(how.growth);
  call.raw().n_threads = how.n_threads;
  return call.End(table_->rows(plugin_.get(), call.Begin(), args.get()),
                  "rows of [" + std::to_string(batch->n_rows()) + ", " +
                      std::to_string(batch->vocab()) + "] " + ElemName(batch->logits.elem()));
}

Result<retort_status> TokenLoss::RunBroken(const retort_token_loss_args& broken) const {
  GuardedStruct<retort_token_loss_args> args(broken);
  RawCall call;
  const retort_status status = table_->rows(plugin_.get(), call.Begin(), args.get());
  if (const Status misuse = call.EndFailed(status, "rows"); !misuse.ok()) return misuse;
  return status;
}

}  // namespace retort::host::check
