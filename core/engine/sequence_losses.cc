// SPDX-License-Identifier: Apache-2.0
#include "core/engine/sequence_losses.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <utility>

#include "core/base/abi_tensor.h"
#include "core/engine/arena_layout.h"
#include "core/engine/compute_type.h"
#include "core/engine/sequence_inputs.h"
#include "core/engine/token_losses.h"
#include "core/graph/value_head.h"
#include "core/ops/dispatch.h"
#include "core/ops/ops.h"
#include "retort/kernels/softmax.h"

namespace retort::engine {

// Rows of a head chunk. `gradient` is the logits' own memory unless the soft cap needs both.
struct SequenceLosses::Chunk {
  TensorView logits_RV, gradient_RV, hidden_RD, d_hidden_RD;
  TensorView labels, logp, entropy, d_logp, d_entropy;  // [R]
};

// Entry t is of token t. `d_*` are the chain's, by entry weights; `entry_*` of the entry at hand.
struct SequenceLosses::Tokens {
  TensorView mask, logp, entropy, d_logp, d_entropy, entry_logp, entry_entropy;
  // Of the value head: by row, and as the entry at hand sees them. No memory without values.
  TensorView row_value, d_row_value, entry_value, entry_d_value;
};

namespace {

constexpr uint64_t kValues = RETORT_SEQUENCE_VALUE | RETORT_SEQUENCE_VALUE_AFTER;

std::string Named(const SequenceLoss& loss) { return "loss \"" + loss.name + "\""; }

double CountGroups(const MicroBatch& batch) {
  const std::vector<int32_t>& ids = batch.sequence.group_id;
  return static_cast<double>(std::set<int32_t>(ids.begin(), ids.end()).size());
}

// Rows [R] of one type to and from tokens [T]: row t predicts token t + 1.
void GatherTokens(const TensorView& from, std::span<const int32_t> rows, const TensorView& to) {
  ops::ByType(to, [&](auto zero) {
    using T = decltype(zero);
    for (size_t r = 0; r < rows.size(); ++r) to.as<T>()[r] = from.as<T>()[rows[r] + 1];
  });
}
void ScatterTokens(const TensorView& from, std::span<const int32_t> rows, const TensorView& to) {
  ops::ByType(to, [&](auto zero) {
    using T = decltype(zero);
    for (size_t r = 0; r < rows.size(); ++r) to.as<T>()[rows[r] + 1] = from.as<T>()[r];
  });
}

// sum += weight * x; false if x has a value that isn't finite.
bool AddFinite(const TensorView& x, double weight, const TensorView& sum) {
  bool finite = true;
  ops::ByType(x, [&](auto zero) {
    using T = decltype(zero);
    for (int64_t i = 0; i < x.numel(); ++i) {
      finite = finite && std::isfinite(x.as<T>()[i]);
      sum.as<T>()[i] += static_cast<T>(weight) * x.as<T>()[i];
    }
  });
  return finite;
}

bool IsZero(const TensorView& x) {
  bool zeros = true;
  ops::ByType(x, [&](auto zero) {
    using T = decltype(zero);
    zeros = std::all_of(x.as<T>(), x.as<T>() + x.numel(), [](T v) { return v == 0; });
  });
  return zeros;
}

// The rows that give a loss its values of tokens: token t's is of the state that has read it, or
// of the one before it, which predicts it (the very first token has none).
struct ValueRows {
  TensorView rows, tokens;
};
ValueRows PairUp(const TensorView& rows, const TensorView& tokens, uint64_t wanted) {
  if ((wanted & RETORT_SEQUENCE_VALUE_AFTER) != 0) return {rows, tokens};
  const int64_t n = tokens.numel();
  return {rows.Rows(0, std::max<int64_t>(n - 1, 0)), tokens.Rows(std::min<int64_t>(n, 1), n)};
}

}  // namespace

SequenceCounts CountSequences(std::span<const MicroBatch> window) {
  SequenceCounts counts;
  for (const MicroBatch& batch : window) {
    if ((batch.losses & kSequenceLosses) == 0) continue;
    counts.micro_batches += 1;
    counts.groups += CountGroups(batch);
    for (size_t s = 0; s + 1 < batch.cu_seqlens.size(); ++s) {
      int64_t scored = 0;
      for (int32_t t = batch.cu_seqlens[s]; t < batch.cu_seqlens[s + 1]; ++t) {
        scored += IsScored(batch, static_cast<size_t>(t)) ? 1 : 0;
      }
      counts.sequences += 1;
      counts.scored_sequences += scored > 0 ? 1 : 0;
      counts.tokens += static_cast<double>(scored);
    }
  }
  return counts;
}

SequenceLosses::SequenceLosses(const graph::Graph& graph, std::span<const TensorView> params,
                               const SequenceLossOptions& options, int n_threads)
    : graph_(graph),
      head_(graph, params, n_threads, /*exact=*/true),
      value_head_(graph, params),
      dtype_(ComputeType(params)),
      options_(options),
      n_threads_(n_threads) {}

Status SequenceLosses::CheckSpec(const Entry& entry) const {
  const retort_loss_spec& spec = *entry.spec;
  if ((spec.needs & kValues) != 0 && !value_head_.exists()) {
    return FailedPrecondition(Named(entry.loss) +
                              " needs values, and this model has no value head to give them; use "
                              "it in a stage that adds one (reward_model, or grpo with ppo)");
  }
  if (((spec.needs | spec.optional) & kValues) == kValues) {
    return Unimplemented(Named(entry.loss) +
                         " asks for values before and after each token; it can have one of them");
  }
  if (dtype_ == DType::kF64 && (spec.flags & RETORT_LOSS_F64) == 0) {
    return Unimplemented(Named(entry.loss) + " doesn't take f64");
  }
  if (!std::isfinite(entry.loss.weight)) {
    return InvalidArgument(Named(entry.loss) + ": its weight isn't finite");
  }
  return OkStatus();
}

Result<std::unique_ptr<SequenceLosses>> SequenceLosses::Make(const graph::Graph& graph,
                                                             std::span<const TensorView> params,
                                                             std::vector<SequenceLoss> losses,
                                                             const SequenceLossOptions& options,
                                                             int n_threads) {
  if (!(options.temperature > 0) || !std::isfinite(options.temperature)) {
    return InvalidArgument("the temperature of log-probabilities must be finite and above 0");
  }
  std::unique_ptr<SequenceLosses> made(new SequenceLosses(graph, params, options, n_threads));
  for (SequenceLoss& loss : losses) {
    for (const Entry& other : made->entries_) {
      if (other.loss.name == loss.name) {
        return InvalidArgument(Named(loss) + " is in the chain twice; give one another name");
      }
    }
    Entry entry{.loss = std::move(loss), .aux = {}};
    entry.spec = entry.loss.table->spec(entry.loss.instance);
    if (entry.spec == nullptr) return Internal(Named(entry.loss) + ": spec gave nothing");
    RETORT_RETURN_IF_ERROR(made->CheckSpec(entry));
    const uint64_t wanted = entry.spec->needs | entry.spec->optional;
    made->wants_entropy_ = made->wants_entropy_ || (wanted & RETORT_SEQUENCE_ENTROPY) != 0;
    const bool values = (wanted & kValues) != 0 && made->value_head_.exists();
    made->wants_values_ = made->wants_values_ || values;
    entry.aux.resize(2 * size_t{entry.spec->n_aux});
    for (uint32_t a = 0; a < entry.spec->n_aux; ++a) {
      entry.aux_names.push_back(entry.loss.name + "/" + entry.spec->aux_names[a]);
    }
    made->calls_.emplace_back(Named(entry.loss));
    made->entries_.push_back(std::move(entry));
  }
  return made;
}

void SequenceLosses::BeginWindow(const SequenceCounts& counts) {
  counts_ = counts;
  for (size_t i = 0; i < entries_.size(); ++i) {
    entries_[i].sum = 0;
    std::fill(entries_[i].aux.begin(), entries_[i].aux.end(), 0.0);
    calls_[i].ClearMetrics();
  }
}

void SequenceLosses::CollectRows(const MicroBatch& batch) {
  rows_.clear();
  for (size_t t = 0; t < batch.labels.size(); ++t) {
    if (IsScored(batch, t)) rows_.push_back(static_cast<int32_t>(t));
  }
  const auto n = static_cast<int64_t>(rows_.size());
  chunk_rows_ = HeadChunkRows(n, graph_.vocab(), dtype_, options_.head_rows);
}

SequenceLosses::Tokens SequenceLosses::LayoutTokens(int64_t n_tokens) {
  Tokens tokens;
  PlaceIn(token_arena_, [&](ArenaLayout& take) {
    take(tokens.mask, DType::kU8, {n_tokens});
    for (TensorView* view : {&tokens.logp, &tokens.entropy, &tokens.d_logp, &tokens.d_entropy,
                             &tokens.entry_logp, &tokens.entry_entropy}) {
      take(*view, dtype_, {n_tokens});
    }
    if (!wants_values_) return;
    for (TensorView* view :
         {&tokens.row_value, &tokens.d_row_value, &tokens.entry_value, &tokens.entry_d_value}) {
      take(*view, dtype_, {n_tokens});
    }
  });
  std::memset(token_arena_.data(), 0, static_cast<size_t>(token_arena_.bytes()));
  for (const int32_t t : rows_) tokens.mask.as<uint8_t>()[t + 1] = 1;
  return tokens;
}

SequenceLosses::Chunk SequenceLosses::LayoutChunk(int64_t rows) {
  Chunk chunk;
  PlaceIn(chunk_arena_, [&](ArenaLayout& take) {
    take(chunk.logits_RV, dtype_, {rows, graph_.vocab()});
    chunk.gradient_RV = chunk.logits_RV;
    if (head_.NeedsLogits()) take(chunk.gradient_RV, dtype_, {rows, graph_.vocab()});
    take(chunk.hidden_RD, dtype_, {rows, graph_.width()});
    take(chunk.d_hidden_RD, dtype_, {rows, graph_.width()});
    take(chunk.labels, DType::kI64, {rows});
    for (TensorView* view : {&chunk.logp, &chunk.entropy, &chunk.d_logp, &chunk.d_entropy}) {
      take(*view, dtype_, {rows});
    }
  });
  return chunk;
}

std::span<const int32_t> SequenceLosses::RowsOf(int64_t begin) const {
  const auto n = static_cast<int64_t>(rows_.size());
  return std::span(rows_).subspan(static_cast<size_t>(begin),
                                  static_cast<size_t>(std::min(chunk_rows_, n - begin)));
}

void SequenceLosses::FillLogits(const Inputs& inputs, std::span<const int32_t> rows,
                                const Chunk& chunk) const {
  ops::GatherRows(inputs.hidden_TD, rows, chunk.hidden_RD);
  for (size_t r = 0; r < rows.size(); ++r) {
    chunk.labels.as<int64_t>()[r] = inputs.batch.labels[static_cast<size_t>(rows[r])];
  }
  head_.Logits(chunk.hidden_RD, chunk.logits_RV);
}

void SequenceLosses::ScoreChunk(std::span<const int32_t> rows, const Chunk& chunk,
                                const Tokens& tokens) const {
  const int64_t vocab = graph_.vocab();
  const double scale = 1 / options_.temperature;
  const auto n = static_cast<int64_t>(rows.size());
  ops::ByType(chunk.logits_RV, [&](auto zero) {
    using T = decltype(zero);
    T* entropy = wants_entropy_ ? chunk.entropy.as<T>() : nullptr;
    const auto* labels = chunk.labels.as<int64_t>();
    if constexpr (std::is_same_v<T, float>) {
      retort_row_logp_f32(chunk.logits_RV.as<T>(), 0, n, vocab, scale, labels, chunk.logp.as<T>(),
                          entropy, n_threads_);
    } else {
      retort_row_logp_f64(chunk.logits_RV.as<T>(), 0, n, vocab, scale, labels, chunk.logp.as<T>(),
                          entropy, n_threads_);
    }
  });
  ScatterTokens(chunk.logp, rows, tokens.logp);
  if (wants_entropy_) ScatterTokens(chunk.entropy, rows, tokens.entropy);
}

Status SequenceLosses::Run(const Inputs& inputs, const PluginCallSettings& settings) {
  RETORT_RETURN_IF_ERROR(CheckLabels(inputs.batch, graph_.vocab()));
  CollectRows(inputs.batch);
  const auto n = static_cast<int64_t>(rows_.size());
  const Tokens tokens = LayoutTokens(static_cast<int64_t>(inputs.batch.ids.size()));
  const bool want_grad = inputs.grads != nullptr;
  for (int64_t begin = 0; begin < n && graph_.has_lm_head; begin += chunk_rows_) {
    const std::span<const int32_t> rows = RowsOf(begin);
    const Chunk chunk = LayoutChunk(static_cast<int64_t>(rows.size()));
    FillLogits(inputs, rows, chunk);
    ScoreChunk(rows, chunk, tokens);
  }
  if (wants_values_) value_head_.Forward(inputs.hidden_TD, tokens.row_value);
  for (size_t i = 0; i < entries_.size(); ++i) {
    RETORT_RETURN_IF_ERROR(RunEntry(i, inputs.batch, tokens, want_grad, settings));
  }
  if (!want_grad) return OkStatus();
  if (wants_values_) {
    value_head_.Backward(tokens.d_row_value, inputs.hidden_TD, *inputs.d_hidden_TD, *inputs.grads);
  }
  // A loss of values alone leaves nothing for the LM head.
  if (IsZero(tokens.d_logp) && IsZero(tokens.d_entropy)) return OkStatus();
  RETORT_RETURN_IF_ERROR(graph::CheckHasLmHead(graph_, "a loss of log-probabilities"));
  // From the last one, whose logits are still there.
  const int64_t last = (n - 1) / chunk_rows_ * chunk_rows_;
  for (int64_t begin = last; begin >= 0; begin -= chunk_rows_) {
    const std::span<const int32_t> rows = RowsOf(begin);
    const Chunk chunk = LayoutChunk(static_cast<int64_t>(rows.size()));
    if (begin != last) FillLogits(inputs, rows, chunk);
    BackwardChunk(inputs, rows, chunk, tokens);
  }
  return OkStatus();
}

Status SequenceLosses::RunEntry(size_t index, const MicroBatch& batch, const Tokens& shared,
                                bool want_grad, const PluginCallSettings& settings) {
  Entry& entry = entries_[index];
  Tokens tokens = shared;
  const uint64_t wanted = entry.spec->needs | entry.spec->optional;
  double value = 0;
  aux_.assign(entry.aux.size(), 0.0);
  SequenceArgs args(batch, dtype_, wanted);
  RETORT_RETURN_IF_ERROR(args.Check(entry.spec->needs).WithContext(Named(entry.loss)));
  args.SetOutputs(&value, aux_);
  args.SetTokens(tokens.mask, tokens.logp,
                 (wanted & RETORT_SEQUENCE_ENTROPY) != 0 ? &tokens.entropy : nullptr);
  args.SetCounts(counts_, options_.max_completion_length);
  if (want_grad)
    args.SetGradients(tokens.entry_logp, wants_entropy_ ? &tokens.entry_entropy : nullptr);
  const bool values = wants_values_ && (wanted & kValues) != 0;
  if (values) {
    const ValueRows pair = PairUp(tokens.row_value, tokens.entry_value, wanted);
    std::memcpy(pair.tokens.data, pair.rows.data, static_cast<size_t>(pair.rows.bytes()));
    args.SetValues(tokens.entry_value, want_grad ? &tokens.entry_d_value : nullptr);
  }
  const retort_status status =
      entry.loss.table->eval(entry.loss.instance, calls_[index].Begin(settings), args.raw());
  RETORT_RETURN_IF_ERROR(calls_[index].End(status, "eval"));
  bool finite = std::isfinite(value);
  entry.sum += value;
  for (size_t a = 0; a < aux_.size(); ++a) entry.aux[a] += aux_[a];
  if (want_grad) {
    finite = AddFinite(tokens.entry_logp, entry.loss.weight, tokens.d_logp) && finite;
    if (wants_entropy_) {
      finite = AddFinite(tokens.entry_entropy, entry.loss.weight, tokens.d_entropy) && finite;
    }
    if (values) {
      const ValueRows pair = PairUp(tokens.d_row_value, tokens.entry_d_value, wanted);
      finite = AddFinite(pair.tokens, entry.loss.weight, pair.rows) && finite;
    }
  }
  if (finite) return OkStatus();
  return DataLoss(Named(entry.loss) + " gave a loss of " + std::to_string(value) +
                  " or a derivative that isn't finite; no weight was changed. Lower the learning "
                  "rate, or look at this batch");
}

void SequenceLosses::BackwardChunk(const Inputs& inputs, std::span<const int32_t> rows,
                                   const Chunk& chunk, const Tokens& tokens) const {
  GatherTokens(tokens.logp, rows, chunk.logp);
  GatherTokens(tokens.d_logp, rows, chunk.d_logp);
  if (wants_entropy_) {
    GatherTokens(tokens.entropy, rows, chunk.entropy);
    GatherTokens(tokens.d_entropy, rows, chunk.d_entropy);
  }
  if (head_.NeedsLogits()) {
    std::memcpy(chunk.gradient_RV.data, chunk.logits_RV.data,
                static_cast<size_t>(chunk.logits_RV.bytes()));
  }
  const retort_logp_backward_shape shape = {.rows = static_cast<int64_t>(rows.size()),
                                            .cols = graph_.vocab(),
                                            .stride = 0,
                                            .scale = 1 / options_.temperature};
  ops::ByType(chunk.gradient_RV, [&](auto zero) {
    using T = decltype(zero);
    const T* d_entropy = wants_entropy_ ? chunk.d_entropy.as<T>() : nullptr;
    const auto run = [&](auto* kernel) {
      kernel(&shape, chunk.gradient_RV.as<T>(), chunk.labels.as<int64_t>(), chunk.logp.as<T>(),
             chunk.entropy.as<T>(), chunk.d_logp.as<T>(), d_entropy, n_threads_);
    };
    if constexpr (std::is_same_v<T, float>)
      run(retort_row_logp_backward_f32);
    else
      run(retort_row_logp_backward_f64);
  });
  head_.Backward(chunk.gradient_RV, head_.NeedsLogits() ? &chunk.logits_RV : nullptr,
                 chunk.hidden_RD, chunk.d_hidden_RD, *inputs.grads);
  ops::AddRows(chunk.d_hidden_RD, rows, *inputs.d_hidden_TD);
}

double SequenceLosses::loss() const {
  double sum = 0;
  for (const Entry& entry : entries_) sum += entry.loss.weight * entry.sum;
  return sum;
}

void SequenceLosses::AppendMetrics(std::vector<StepMetric>* metrics) {
  for (size_t i = 0; i < entries_.size(); ++i) {
    const Entry& entry = entries_[i];
    metrics->push_back({entry.loss.name, entry.sum});
    for (size_t a = 0; a < entry.aux_names.size(); ++a) {
      const double count = entry.aux[2 * a + 1];
      if (count != 0) metrics->push_back({entry.aux_names[a], entry.aux[2 * a] / count});
    }
    for (const PluginCall::Metric& metric : calls_[i].metrics()) {
      metrics->push_back({names_.Of(entry.loss.name, metric.name), metric.mean()});
    }
  }
}

}  // namespace retort::engine
