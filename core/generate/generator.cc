// Method: one loop over what the scheduler says. A prefill pass holds a chunk of one prompt: a GEMM
// over many rows may round a row differently in other company. A decode step goes over all live
// samples in passes of at most kSkinnyRows rows, which go through row-wise kernels. So what is
// decoded beside a sample never changes it.
// SPDX-License-Identifier: Apache-2.0
#include "core/generate/generator.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "core/base/clock.h"
#include "core/engine/edge.h"
#include "core/generate/kv_blocks.h"
#include "core/generate/kv_budget.h"
#include "core/generate/kv_cache.h"
#include "core/generate/request_queue.h"
#include "core/generate/sampler.h"
#include "core/generate/scheduler.h"
#include "core/generate/sequence.h"
#include "core/graph/rope.h"
#include "core/graph/value_head.h"
#include "core/ops/ops.h"
#include "retort/kernels/parallel.h"

namespace retort::generate {
namespace {

using engine::Finish;
using engine::GenerateOptions;
using engine::GenerateRequest;
using engine::GenerateStats;
using Item = RequestQueue::Item;

class Run {
 public:
  Run(engine::Inference& inference, const graph::Graph& graph, const GenerateOptions& options,
      const KvBudget& budget, int64_t block_bytes, std::span<const GenerateRequest> requests,
      int n_threads)
      : inference_(inference),
        graph_(graph),
        options_(options),
        n_threads_(n_threads),
        call_{.cancel = options.cancel},
        stale_lengths_(graph::StaleLengths(graph)),
        blocks_(budget.blocks),
        scheduler_(requests,
                   {.slots = budget.slots,
                    .context = budget.context,
                    .prefill_chunk = options.prefill_chunk,
                    .stale_lengths = stale_lengths_},
                   blocks_, block_bytes),
        samples_(static_cast<size_t>(budget.slots)) {
    stats_.kv_blocks = budget.blocks;
    stats_.kv_block_bytes = block_bytes;
  }

  Status Prepare(std::span<const GenerateRequest> requests);
  Result<GenerateStats> Loop();

 private:
  bool Cancelled() const { return options_.cancel != nullptr && options_.cancel->load() != 0; }
  std::span<float> LogitsOf(size_t row) {
    const auto vocab = static_cast<size_t>(graph_.vocab());
    return std::span(logits_).subspan(row * vocab, vocab);
  }
  TensorView LogitsView(std::vector<float>& rows, int64_t n) const {
    return TensorView::Contiguous(rows.data(), DType::kF32, {n, graph_.vocab()});
  }
  Sequence& SampleIn(int32_t slot) { return *samples_[static_cast<size_t>(slot)]; }

  Status Do(const Scheduler::Action& action);
  Status Prefill(const Scheduler::Action& action);
  void Start(const Scheduler::Action& action);
  Status RenewKeys(int32_t slot);
  Status DecodeStep();
  Status DecodeRows(std::span<const int32_t> slots);
  void SampleRows(std::span<const int32_t> slots);
  void EndCancelled();
  void Retire();
  void Report(const Sequence& sequence);
  void ReportUnstarted(const Item& item, Finish finish, std::string error);
  GenerateStats CancelAll();

  engine::Inference& inference_;
  const graph::Graph& graph_;
  const GenerateOptions& options_;
  const int n_threads_;
  const PluginCallSettings call_;
  const std::vector<int64_t> stale_lengths_;
  KvBlocks blocks_;
  Scheduler scheduler_;
  GenerateStats stats_;

  std::unique_ptr<KvCache> cache_;
  std::vector<std::unique_ptr<Sequence>> samples_;  // by slot; NULL: free
  std::vector<int32_t> live_;                       // slots in use, in the order of starting
  std::vector<int32_t> prompt_;                     // being prefilled, with the forced prefix
  std::vector<float> prompt_logits_;                // of its last token

  std::vector<float> logits_;      // [rows of a pass, V]
  std::vector<Sampler> samplers_;  // one a row
  std::vector<Draw> draws_;
  std::vector<int32_t> ids_, positions_, cu_seqlens_;  // of the pass
  std::vector<KvCache::Rows> rows_;
  std::span<const int32_t> pass_slots_;
};

// Takes all memory of the decode steps.
Status Run::Prepare(std::span<const GenerateRequest> requests) {
  const KvCache::Options options = {.blocks = blocks_.total(),
                                    .slots = static_cast<int64_t>(samples_.size()),
                                    .dtype = options_.kv_dtype,
                                    .n_threads = n_threads_};
  RETORT_ASSIGN_OR_RETURN(cache_, KvCache::Create(graph_, options));
  size_t edits = 0, prompt = 0;
  for (const GenerateRequest& r : requests) {
    const engine::SamplingParams& s = r.sampling;
    const int64_t seen = HasPenalties(s) ? TokensNeeded(r) : 0;
    edits = std::max(edits, static_cast<size_t>(std::min(seen, graph_.vocab())) +
                                s.logit_bias.size() + s.stop_ids.size());
    prompt = std::max(prompt, r.ids.size() + r.prefix.size());
  }
  const size_t rows = std::min(samples_.size(), static_cast<size_t>(ops::kSkinnyRows));
  live_.reserve(samples_.size());
  prompt_.reserve(prompt);
  prompt_logits_.resize(static_cast<size_t>(graph_.vocab()));
  logits_.resize(rows * static_cast<size_t>(graph_.vocab()));
  samplers_.reserve(rows);
  for (size_t i = 0; i < rows; ++i) {
    samplers_.emplace_back(graph_.vocab());
    samplers_.back().ReserveEdits(edits);
  }
  draws_.resize(rows);
  inference_.SetAdapter(options_.adapter);
  return OkStatus();
}

Result<GenerateStats> Run::Loop() {
  while (true) {
    if (Cancelled()) return CancelAll();
    const Scheduler::Action action = scheduler_.Next();
    if (action.act == Scheduler::Act::kDone) break;
    const Status status = Do(action);
    if (status.code() == Code::kCancelled && Cancelled()) return CancelAll();
    RETORT_RETURN_IF_ERROR(status);
  }
  stats_.kv_blocks_peak = blocks_.peak();
  return stats_;
}

Status Run::Do(const Scheduler::Action& action) {
  switch (action.act) {
    case Scheduler::Act::kRefuse:
      ReportUnstarted(action.item, Finish::kError, action.why);
      return OkStatus();
    case Scheduler::Act::kDrop:
      ReportUnstarted(action.item, Finish::kCancelled, {});
      return OkStatus();
    case Scheduler::Act::kPrefill: return Prefill(action);
    case Scheduler::Act::kStart: Start(action); return OkStatus();
    case Scheduler::Act::kDecode: return DecodeStep();
    case Scheduler::Act::kDone: return OkStatus();
  }
  return OkStatus();
}

// Runs a chunk of prompt and forced prefix through the model.
Status Run::Prefill(const Scheduler::Action& action) {
  const Stopwatch watch;
  const GenerateRequest& request = *action.item.request;
  if (action.begin == 0) {
    prompt_.assign(request.ids.begin(), request.ids.end());
    prompt_.insert(prompt_.end(), request.prefix.begin(), request.prefix.end());
    cache_->BeginPrompt(action.slot);
  }
  const int64_t end = action.begin + action.rows;
  positions_.clear();
  for (int64_t t = action.begin; t < end; ++t) positions_.push_back(static_cast<int32_t>(t));
  const int32_t cu_seqlens[] = {0, static_cast<int32_t>(action.rows)};
  const auto length = static_cast<int32_t>(prompt_.size());
  const KvCache::Rows rows[] = {{.blocks = scheduler_.prompt_blocks(),
                                 .slot = action.slot,
                                 .past = action.begin,
                                 .rows = action.rows}};
  cache_->SetRows(rows);
  RETORT_RETURN_IF_ERROR(engine::Guarded("prefill", [&] {
    const TensorView hidden =
        inference_.Forward({.ids = std::span(prompt_).subspan(static_cast<size_t>(action.begin),
                                                              static_cast<size_t>(action.rows)),
                            .positions = positions_,
                            .cu_seqlens = cu_seqlens,
                            .lengths = std::span(&length, 1),
                            .call = call_,
                            .hidden_rows = end == length ? 1 : 0},
                           cache_.get());
    if (end == length) inference_.Logits(hidden, LogitsView(prompt_logits_, 1));
    return OkStatus();
  }));
  if (end == length) cache_->EndPrompt(action.slot);
  ++stats_.prefill_passes;
  stats_.prompt_tokens += action.rows;
  stats_.prefill_seconds += watch.Seconds();
  return OkStatus();
}

// The first token, from the prompt's logits.
void Run::Start(const Scheduler::Action& action) {
  if (!action.first) cache_->BeginSample(action.slot);
  if (action.copy_from >= 0) cache_->CopyBlock(action.copy_from, action.copy_to);
  const GenerateRequest& request = *action.item.request;
  auto sequence = std::make_unique<Sequence>(request, action.item.index, options_);
  const std::span<float> row = LogitsOf(0);  // no pass is under way
  std::copy(prompt_logits_.begin(), prompt_logits_.end(), row.begin());
  sequence->Push(samplers_[0].Sample(row, request.sampling, sequence->banned(),
                                     sequence->NextUniform(), sequence->counts()));
  ++stats_.completion_tokens;
  if (sequence->finished()) {
    scheduler_.End(action.slot);
    return Report(*sequence);
  }
  samples_[static_cast<size_t>(action.slot)] = std::move(sequence);
  live_.push_back(action.slot);
  stats_.live_peak = std::max(stats_.live_peak, static_cast<int64_t>(live_.size()));
}

// Where a sample outgrows a length above which all its keys are others (rope scaling "longrope"),
// they are written anew, chunk by chunk, before its next token passes. The blocks are its own.
Status Run::RenewKeys(int32_t slot) {
  const Sequence& sequence = SampleIn(slot);
  const int64_t past = sequence.last_position();
  if (!std::binary_search(stale_lengths_.begin(), stale_lengths_.end(), past)) return OkStatus();
  const std::vector<int32_t>& completion = sequence.completion().ids;
  std::vector<int32_t> tokens = sequence.request().ids;
  tokens.insert(tokens.end(), completion.begin(), completion.end() - 1);
  cache_->BeginPrompt(slot);
  const auto length = static_cast<int32_t>(past + 1);
  for (int64_t begin = 0; begin < past; begin += options_.prefill_chunk) {
    const int64_t n = std::min<int64_t>(options_.prefill_chunk, past - begin);
    positions_.resize(static_cast<size_t>(n));
    std::iota(positions_.begin(), positions_.end(), static_cast<int32_t>(begin));
    const int32_t cu_seqlens[] = {0, static_cast<int32_t>(n)};
    const KvCache::Rows rows[] = {
        {.blocks = scheduler_.Cover(slot, past), .slot = slot, .past = begin, .rows = n}};
    cache_->SetRows(rows);
    RETORT_RETURN_IF_ERROR(engine::Guarded("prefill", [&] {
      inference_.Forward(
          {.ids = std::span(tokens).subspan(static_cast<size_t>(begin), static_cast<size_t>(n)),
           .positions = positions_,
           .cu_seqlens = cu_seqlens,
           .lengths = std::span(&length, 1),
           .call = call_,
           .hidden_rows = 0},
          cache_.get());
      return OkStatus();
    }));
    ++stats_.prefill_passes;
  }
  return OkStatus();
}

Status Run::DecodeStep() {
  EndCancelled();
  const Stopwatch watch;
  for (const int32_t slot : live_) RETORT_RETURN_IF_ERROR(RenewKeys(slot));
  const std::span<const int32_t> live = live_;
  for (size_t i = 0; i < live.size(); i += samplers_.size()) {
    const size_t n = std::min(samplers_.size(), live.size() - i);
    RETORT_RETURN_IF_ERROR(DecodeRows(live.subspan(i, n)));
  }
  ++stats_.decode_steps;
  stats_.decode_seconds += watch.Seconds();
  Retire();
  if (options_.on_progress) options_.on_progress(stats_.completion_tokens);
  return OkStatus();
}

// One token for each of some slots.
Status Run::DecodeRows(std::span<const int32_t> slots) {
  ids_.clear();
  positions_.clear();
  rows_.clear();
  cu_seqlens_.assign(1, 0);
  for (int32_t slot : slots) {
    const Sequence& sequence = SampleIn(slot);
    const int64_t position = sequence.last_position();
    ids_.push_back(sequence.last_id());
    positions_.push_back(static_cast<int32_t>(position));
    rows_.push_back({.blocks = scheduler_.Cover(slot, position + 1),
                     .slot = slot,
                     .past = position,
                     .rows = 1});
    cu_seqlens_.push_back(static_cast<int32_t>(ids_.size()));
  }
  cache_->SetRows(rows_);
  const auto rows = static_cast<int64_t>(slots.size());
  RETORT_RETURN_IF_ERROR(engine::Guarded("decoding", [&] {
    const TensorView hidden = inference_.Forward(
        {.ids = ids_, .positions = positions_, .cu_seqlens = cu_seqlens_, .call = call_},
        cache_.get());
    inference_.Logits(hidden.Rows(0, rows), LogitsView(logits_, rows));
    return OkStatus();
  }));
  SampleRows(slots);
  for (size_t i = 0; i < slots.size(); ++i) SampleIn(slots[i]).Push(draws_[i]);
  stats_.completion_tokens += rows;
  return OkStatus();
}

void Run::SampleRows(std::span<const int32_t> slots) {
  pass_slots_ = slots;
  const auto sample = [](void* context, int64_t row) {
    Run& run = *static_cast<Run*>(context);
    const auto i = static_cast<size_t>(row);
    const Sequence& sequence = run.SampleIn(run.pass_slots_[i]);
    run.draws_[i] =
        run.samplers_[i].Sample(run.LogitsOf(i), sequence.request().sampling, sequence.banned(),
                                sequence.NextUniform(), sequence.counts());
  };
  retort_parallel_for(static_cast<int64_t>(slots.size()), n_threads_, sample, this);
}

// Samples whose request was cancelled alone.
void Run::EndCancelled() {
  bool any = false;
  for (int32_t slot : live_) {
    const engine::Cancel* cancel = SampleIn(slot).request().cancel;
    if (cancel == nullptr || cancel->load() == 0) continue;
    SampleIn(slot).End(Finish::kCancelled);
    any = true;
  }
  if (any) Retire();
}

void Run::Retire() {
  std::erase_if(live_, [this](int32_t slot) {
    std::unique_ptr<Sequence>& sequence = samples_[static_cast<size_t>(slot)];
    if (!sequence->finished()) return false;
    scheduler_.End(slot);
    Report(*sequence);
    sequence.reset();
    return true;
  });
}

void Run::Report(const Sequence& sequence) {
  if (options_.on_done) options_.on_done(sequence.completion());
}

void Run::ReportUnstarted(const Item& item, Finish finish, std::string error) {
  engine::Completion completion;
  completion.uid = item.request->uid;
  completion.index = item.index;
  completion.finish = finish;
  completion.error = std::move(error);
  if (options_.on_done) options_.on_done(completion);
}

GenerateStats Run::CancelAll() {
  for (int32_t slot : live_) {
    SampleIn(slot).End(Finish::kCancelled);
    Report(SampleIn(slot));
  }
  Item item;
  while (scheduler_.DropNext(&item)) ReportUnstarted(item, Finish::kCancelled, {});
  stats_.kv_blocks_peak = blocks_.peak();
  return stats_;
}

}  // namespace

Result<GenerateStats> Generate(engine::Inference& inference, const graph::Graph& graph,
                               std::span<const GenerateRequest> requests,
                               const GenerateOptions& options, int n_threads) {
  RETORT_RETURN_IF_ERROR(graph::CheckHasLmHead(graph, "generating"));
  RETORT_RETURN_IF_ERROR(CheckRequests(graph, requests, options));
  if (requests.empty()) return GenerateStats{};
  RETORT_ASSIGN_OR_RETURN(const int64_t block_bytes,
                          KvCache::BytesPerBlock(graph, options.kv_dtype));
  RETORT_ASSIGN_OR_RETURN(const KvBudget budget,
                          MakeKvBudget(requests, options, block_bytes, graph::StaleLengths(graph)));
  Run run(inference, graph, options, budget, block_bytes, requests, n_threads);
  RETORT_RETURN_IF_ERROR(run.Prepare(requests));
  return run.Loop();
}

}  // namespace retort::generate
