// SPDX-License-Identifier: Apache-2.0
#include "core/engine/token_losses.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "core/base/abi_tensor.h"
#include "core/engine/arena_layout.h"
#include "core/engine/compute_type.h"
#include "core/ops/dispatch.h"
#include "core/ops/ops.h"

namespace retort::engine {

// Buffers of a chunk of R rows, all in the arena. `logits` holds the head's output; `gradient`
// the sum over the chain (with one loss and no soft cap: the same memory); `work` a loss's copy.
struct TokenLosses::Chunk {
  TensorView logits_RV, gradient_RV, work_RV, hidden_RD, d_hidden_RD;
  TensorView labels, base_weight, weight, loss, aux, sequence_id, position;
  TensorView teacher_RV, teacher_RD;                   // of the teacher's own vocabulary, width
  TensorView teacher_ids, teacher_logp, teacher_tail;  // [R,K], [R,K], [R]
};

namespace {

constexpr int64_t kIgnored = -100;

std::string Named(const TokenLoss& loss) { return "loss \"" + loss.name + "\""; }

void Copy(const TensorView& from, const TensorView& to) {
  std::memcpy(to.data, from.data, static_cast<size_t>(from.bytes()));
}

// The first columns of each row; the rest of a row belongs to one side's padding.
TensorView FirstColumns(TensorView view, int64_t columns) {
  view.shape[1] = columns;
  return view;
}

void ZeroColumnsFrom(const TensorView& view, int64_t first) {
  const int64_t size = DTypeSize(view.dtype), rest = view.shape[1] - first;
  if (rest == 0) return;
  for (int64_t r = 0; r < view.shape[0]; ++r) {
    auto* row = static_cast<unsigned char*>(view.data) + r * view.strides[0] * size;
    std::memset(row + first * size, 0, static_cast<size_t>(rest * size));
  }
}

Status CheckTeacherRows(const MicroBatch& batch) {
  const TeacherRows& teacher = batch.teacher;
  const size_t n = batch.ids.size(), k = static_cast<size_t>(std::max(teacher.k, 0));
  if (k == 0 ||
      (teacher.ids.size() == n * k && teacher.logp.size() == n * k && teacher.tail.size() == n)) {
    return OkStatus();
  }
  return InvalidArgument("the teacher's rows of a micro-batch of " + std::to_string(n) +
                         " tokens must have " + std::to_string(k) + " entries each; there are " +
                         std::to_string(teacher.ids.size()) + " ids, " +
                         std::to_string(teacher.logp.size()) + " logp and " +
                         std::to_string(teacher.tail.size()) + " tails");
}

}  // namespace

bool IsScored(const MicroBatch& batch, size_t t) {
  return batch.labels[t] != kIgnored && batch.weight[t] != 0;
}

Status CheckLabels(const MicroBatch& batch, int64_t vocab) {
  for (size_t t = 0; t < batch.labels.size(); ++t) {
    const int64_t label = batch.labels[t];
    if (!IsScored(batch, t) || (label >= 0 && label < vocab)) continue;
    return InvalidArgument("label " + std::to_string(label) + " of row " + std::to_string(t) +
                           " is outside the vocabulary of " + std::to_string(vocab) +
                           " (-100 means none)");
  }
  return OkStatus();
}

int64_t CountLabels(const MicroBatch& batch) {
  int64_t n = 0;
  for (size_t t = 0; t < batch.labels.size(); ++t) n += IsScored(batch, t) ? 1 : 0;
  return n;
}

TokenLosses::TokenLosses(const graph::Graph& graph, std::span<const TensorView> params,
                         int64_t head_rows, int n_threads)
    : graph_(graph),
      head_(graph, params, n_threads, /*exact=*/true),
      dtype_(ComputeType(params)),
      head_rows_(head_rows),
      n_threads_(n_threads) {}

// Rows of a teacher's cache come with the batches: whether they do is seen then.
Status TokenLosses::CheckSpec(const Entry& entry) const {
  const retort_loss_spec& spec = *entry.spec;
  uint64_t provided = RETORT_TOKEN_SEQUENCE_ID | RETORT_TOKEN_POSITION | RETORT_TOKEN_TEACHER_TOP_K;
  if (teacher_ != nullptr) provided |= RETORT_TOKEN_TEACHER_LOGITS;
  if ((spec.needs & ~provided) != 0) {
    return Unimplemented(Named(entry.loss) +
                         " needs a teacher or another input that this stage doesn't have; use it "
                         "in a stage that provides it");
  }
  if (spec.grain != RETORT_GRAIN_ROW) {
    return Unimplemented(Named(entry.loss) +
                         " wants whole sequences in one call, which the chunked head can't give");
  }
  if (dtype_ == DType::kF64 && (spec.flags & RETORT_LOSS_F64) == 0) {
    return Unimplemented(Named(entry.loss) + " doesn't take f64 logits");
  }
  if (!std::isfinite(entry.loss.weight)) {
    return InvalidArgument(Named(entry.loss) + ": its weight isn't finite");
  }
  return OkStatus();
}

Result<std::unique_ptr<TokenLosses>> TokenLosses::Make(const graph::Graph& graph,
                                                       std::span<const TensorView> params,
                                                       std::vector<TokenLoss> losses,
                                                       int64_t head_rows, int n_threads,
                                                       std::unique_ptr<Teacher> teacher) {
  std::unique_ptr<TokenLosses> made(new TokenLosses(graph, params, head_rows, n_threads));
  made->teacher_ = std::move(teacher);
  for (TokenLoss& loss : losses) {
    for (const Entry& other : made->entries_) {
      if (other.loss.name == loss.name) {
        return InvalidArgument(Named(loss) + " is in the chain twice; give one another name");
      }
    }
    Entry entry{.loss = std::move(loss), .aux_sums = {}};
    entry.spec = entry.loss.table->spec(entry.loss.instance);
    if (entry.spec == nullptr) return Internal(Named(entry.loss) + ": spec gave nothing");
    RETORT_RETURN_IF_ERROR(made->CheckSpec(entry));
    entry.aux_sums.resize(entry.spec->n_aux);
    for (uint32_t a = 0; a < entry.spec->n_aux; ++a) {
      entry.aux_names.push_back(entry.loss.name + "/" + entry.spec->aux_names[a]);
    }
    made->n_aux_ = std::max(made->n_aux_, entry.spec->n_aux);
    made->calls_.emplace_back(Named(entry.loss));
    made->entries_.push_back(std::move(entry));
  }
  return made;
}

bool TokenLosses::Wants(uint64_t bits) const {
  return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return ((entry.spec->needs | entry.spec->optional) & bits) != 0;
  });
}

void TokenLosses::BeginWindow() {
  for (size_t i = 0; i < entries_.size(); ++i) {
    entries_[i].sum = entries_[i].aux_weight = 0;
    std::fill(entries_[i].aux_sums.begin(), entries_[i].aux_sums.end(), 0.0);
    calls_[i].ClearMetrics();
  }
}

void TokenLosses::CollectRows(const MicroBatch& batch) {
  rows_.clear();
  for (size_t t = 0; t < batch.labels.size(); ++t) {
    if (IsScored(batch, t)) rows_.push_back(static_cast<int32_t>(t));
  }
  sequence_of_.resize(batch.ids.size());
  for (size_t s = 0; s + 1 < batch.cu_seqlens.size(); ++s) {
    std::fill(sequence_of_.begin() + batch.cu_seqlens[s],
              sequence_of_.begin() + batch.cu_seqlens[s + 1], static_cast<int32_t>(s));
  }
}

TokenLosses::Chunk TokenLosses::Layout(int64_t rows, int64_t teacher_k, unsigned char* memory,
                                       int64_t* bytes) const {
  const int64_t vocab = graph_.vocab(), width = graph_.width();
  const bool one_buffer = entries_.size() == 1 && !head_.NeedsLogits();
  Chunk chunk;
  ArenaLayout take(memory);
  take(chunk.logits_RV, dtype_, {rows, vocab});
  chunk.gradient_RV = chunk.work_RV = chunk.logits_RV;
  if (!one_buffer) take(chunk.gradient_RV, dtype_, {rows, vocab});
  if (entries_.size() > 1) take(chunk.work_RV, dtype_, {rows, vocab});
  take(chunk.hidden_RD, dtype_, {rows, width});
  take(chunk.d_hidden_RD, dtype_, {rows, width});
  take(chunk.labels, DType::kI64, {rows});
  take(chunk.base_weight, dtype_, {rows});
  take(chunk.weight, dtype_, {rows});
  take(chunk.loss, dtype_, {rows});
  take(chunk.aux, dtype_, {rows, n_aux_});
  take(chunk.sequence_id, DType::kI32, {rows});
  take(chunk.position, DType::kI32, {rows});
  if (teacher_ != nullptr) {
    take(chunk.teacher_RV, dtype_, {rows, teacher_->vocab()});
    take(chunk.teacher_RD, dtype_, {rows, teacher_->width()});
  }
  if (teacher_k > 0) {
    take(chunk.teacher_ids, DType::kI32, {rows, teacher_k});
    take(chunk.teacher_logp, DType::kF32, {rows, teacher_k});
    take(chunk.teacher_tail, DType::kF32, {rows});
  }
  *bytes = take.bytes();
  return chunk;
}

int64_t TokenLosses::ScratchBytes(int64_t n_labels, int64_t teacher_k) const {
  int64_t bytes = 0;
  Layout(HeadChunkRows(n_labels, graph_.vocab(), dtype_, head_rows_), teacher_k, nullptr, &bytes);
  return bytes;
}

Status TokenLosses::Run(const HeadLossInputs& inputs, const PluginCallSettings& settings) {
  RETORT_RETURN_IF_ERROR(CheckLabels(inputs.batch, graph_.vocab()));
  CollectRows(inputs.batch);
  if (inputs.d_hidden_TD != nullptr) {
    std::memset(inputs.d_hidden_TD->data, 0, static_cast<size_t>(inputs.d_hidden_TD->bytes()));
  }
  RETORT_RETURN_IF_ERROR(CheckTeacherRows(inputs.batch));
  if (teacher_ != nullptr && Wants(RETORT_TOKEN_TEACHER_LOGITS)) {
    teacher_->Forward(inputs.batch, settings);
  }
  const auto n = static_cast<int64_t>(rows_.size());
  const int64_t step = HeadChunkRows(n, graph_.vocab(), dtype_, head_rows_);
  const int64_t bytes = ScratchBytes(n, inputs.batch.teacher.k);
  unsigned char* memory = inputs.scratch.data();
  if (static_cast<int64_t>(inputs.scratch.size()) < bytes) {
    arena_.Reserve(bytes);
    memory = arena_.data();
  }
  for (int64_t begin = 0; begin < n; begin += step) {
    const int64_t count = std::min(step, n - begin);
    const std::span<const int32_t> rows(rows_.data() + begin, static_cast<size_t>(count));
    RETORT_RETURN_IF_ERROR(RunChunk(inputs, rows, memory, settings));
  }
  return OkStatus();
}

void TokenLosses::FillRows(const HeadLossInputs& inputs, std::span<const int32_t> rows,
                           const Chunk& chunk) const {
  ops::GatherRows(inputs.hidden_TD, rows, chunk.hidden_RD);
  for (size_t r = 0; r < rows.size(); ++r) {
    const auto t = static_cast<size_t>(rows[r]);
    chunk.labels.as<int64_t>()[r] = inputs.batch.labels[t];
    chunk.position.as<int32_t>()[r] = inputs.batch.positions[t];
    chunk.sequence_id.as<int32_t>()[r] = sequence_of_[t];
    ops::ByType(chunk.weight, [&](auto zero) {
      using T = decltype(zero);
      const double weight = static_cast<double>(inputs.batch.weight[t]) / inputs.n_labels;
      chunk.base_weight.as<T>()[r] = static_cast<T>(weight);
    });
  }
}

// The teacher's logits of the rows, or its cached rows.
void TokenLosses::FillTeacher(const MicroBatch& batch, std::span<const int32_t> rows,
                              const Chunk& chunk) {
  if (teacher_ != nullptr && Wants(RETORT_TOKEN_TEACHER_LOGITS)) {
    teacher_->Logits(rows, chunk.teacher_RD, chunk.teacher_RV);
  }
  const auto k = static_cast<size_t>(batch.teacher.k);
  for (size_t r = 0; r < rows.size() && k > 0; ++r) {
    const auto t = static_cast<size_t>(rows[r]);
    std::copy_n(batch.teacher.ids.data() + t * k, k, chunk.teacher_ids.as<int32_t>() + r * k);
    std::copy_n(batch.teacher.logp.data() + t * k, k, chunk.teacher_logp.as<float>() + r * k);
    chunk.teacher_tail.as<float>()[r] = batch.teacher.tail[t];
  }
}

Status TokenLosses::RunChunk(const HeadLossInputs& inputs, std::span<const int32_t> rows,
                             unsigned char* memory, const PluginCallSettings& settings) {
  int64_t bytes = 0;
  const Chunk chunk =
      Layout(static_cast<int64_t>(rows.size()), inputs.batch.teacher.k, memory, &bytes);
  FillRows(inputs, rows, chunk);
  FillTeacher(inputs.batch, rows, chunk);
  head_.Logits(chunk.hidden_RD, chunk.logits_RV);
  const bool in_place = chunk.gradient_RV.data == chunk.logits_RV.data;
  const bool want_grad = inputs.grads != nullptr;
  for (size_t i = 0; i < entries_.size(); ++i) {
    const TensorView& copy = i == 0 ? chunk.gradient_RV : chunk.work_RV;
    const TensorView& logits = want_grad ? copy : chunk.logits_RV;
    if (want_grad && !in_place) Copy(chunk.logits_RV, logits);
    RETORT_RETURN_IF_ERROR(RunEntry(i, chunk, logits, inputs, settings));
    if (want_grad && i > 0) {
      ops::AddForward(chunk.gradient_RV, logits, chunk.gradient_RV, n_threads_);
    }
  }
  if (!want_grad) return OkStatus();
  head_.Backward(chunk.gradient_RV, head_.NeedsLogits() ? &chunk.logits_RV : nullptr,
                 chunk.hidden_RD, chunk.d_hidden_RD, *inputs.grads);
  ops::ScatterRows(chunk.d_hidden_RD, rows, *inputs.d_hidden_TD);
  return OkStatus();
}

Status TokenLosses::RunEntry(size_t index, const Chunk& chunk, const TensorView& logits,
                             const HeadLossInputs& inputs, const PluginCallSettings& settings) {
  Entry& entry = entries_[index];
  Chunk view = chunk;
  view.work_RV = logits;
  const uint64_t wanted = entry.spec->needs | entry.spec->optional;
  const bool by_teacher = teacher_ != nullptr && (wanted & RETORT_TOKEN_TEACHER_LOGITS) != 0;
  if (by_teacher) view.work_RV = FirstColumns(logits, teacher_->shared());
  ops::ScaleForward(chunk.base_weight, entry.loss.weight, chunk.weight, 1);
  retort_tensor logits_tensor = AbiTensor(view.work_RV), labels = AbiTensor(view.labels),
                weight = AbiTensor(view.weight), loss = AbiTensor(view.loss);
  view.aux = TensorView::Contiguous(view.aux.data, dtype_,
                                    {view.loss.shape[0], int64_t{entry.spec->n_aux}});
  retort_tensor aux = AbiTensor(view.aux);
  const retort_tensor sequence_id = AbiTensor(view.sequence_id);
  const retort_tensor position = AbiTensor(view.position);
  view.teacher_RV = by_teacher ? FirstColumns(view.teacher_RV, teacher_->shared()) : TensorView{};
  const retort_tensor teacher_logits = AbiTensor(view.teacher_RV);
  const retort_tensor teacher_ids = AbiTensor(view.teacher_ids);
  const retort_tensor teacher_logp = AbiTensor(view.teacher_logp);
  const retort_tensor teacher_tail = AbiTensor(view.teacher_tail);
  const bool cached = inputs.batch.teacher.k > 0 && (wanted & RETORT_TOKEN_TEACHER_TOP_K) != 0;
  retort_token_loss_args args{};
  args.struct_size = sizeof(args);
  args.flags = inputs.grads != nullptr ? RETORT_TOKEN_WANT_GRAD : 0;
  args.logits = &logits_tensor;
  args.labels = &labels;
  args.weight = &weight;
  args.sequence_id = (wanted & RETORT_TOKEN_SEQUENCE_ID) != 0 ? &sequence_id : nullptr;
  args.position = (wanted & RETORT_TOKEN_POSITION) != 0 ? &position : nullptr;
  args.teacher_logits = by_teacher ? &teacher_logits : nullptr;
  args.teacher_ids = cached ? &teacher_ids : nullptr;
  args.teacher_logp = cached ? &teacher_logp : nullptr;
  args.teacher_tail = cached ? &teacher_tail : nullptr;
  args.loss = &loss;
  args.aux = entry.spec->n_aux > 0 ? &aux : nullptr;
  const retort_status status =
      entry.loss.table->rows(entry.loss.instance, calls_[index].Begin(settings), &args);
  RETORT_RETURN_IF_ERROR(calls_[index].End(status, "rows"));
  if (by_teacher && inputs.grads != nullptr) ZeroColumnsFrom(logits, teacher_->shared());
  Status total;
  ops::ByType(view.loss, [&](auto zero) { total = AddTotals<decltype(zero)>(entry, view); });
  return total;
}

template <class T>
Status TokenLosses::AddTotals(Entry& entry, const Chunk& chunk) {
  const size_t n_aux = entry.aux_sums.size();
  for (size_t r = 0; r < static_cast<size_t>(chunk.loss.shape[0]); ++r) {
    const auto weight = static_cast<double>(chunk.base_weight.as<T>()[r]);
    const auto loss = static_cast<double>(chunk.loss.as<T>()[r]);
    if (!std::isfinite(loss)) {
      return DataLoss(Named(entry.loss) + " gave " + std::to_string(loss) + " for label " +
                      std::to_string(chunk.labels.as<int64_t>()[r]) +
                      "; no weight was changed. Lower the learning rate, or look at this batch");
    }
    entry.sum += weight * loss;
    entry.aux_weight += weight;
    for (size_t a = 0; a < n_aux; ++a) {
      entry.aux_sums[a] += weight * static_cast<double>(chunk.aux.as<T>()[r * n_aux + a]);
    }
  }
  return OkStatus();
}

double TokenLosses::loss() const {
  double sum = 0;
  for (const Entry& entry : entries_) sum += entry.loss.weight * entry.sum;
  return sum;
}

void TokenLosses::AppendMetrics(std::vector<StepMetric>* metrics) {
  for (size_t i = 0; i < entries_.size(); ++i) {
    const Entry& entry = entries_[i];
    metrics->push_back({entry.loss.name, entry.sum});
    for (size_t a = 0; a < entry.aux_sums.size() && entry.aux_weight != 0; ++a) {
      metrics->push_back({entry.aux_names[a], entry.aux_sums[a] / entry.aux_weight});
    }
    for (const PluginCall::Metric& metric : calls_[i].metrics()) {
      metrics->push_back({names_.Of(entry.loss.name, metric.name), metric.mean()});
    }
  }
}

}  // namespace retort::engine
