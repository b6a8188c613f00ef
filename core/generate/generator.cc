// Method: one loop. Free slots are filled from the queue (a new prompt is prefilled alone, in
// chunks; further samples of the same prompt copy its keys and values and start from the same
// logits), then one pass decodes a token for every live slot. Prefill passes hold one prompt each
// because a GEMM over many rows may round a row differently in other company; decode passes go
// through row-wise kernels that don't. So what is decoded beside a sample never changes it.
// SPDX-License-Identifier: Apache-2.0
#include "core/generate/generator.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/clock.h"
#include "core/generate/kv_cache.h"
#include "core/generate/request_queue.h"
#include "core/generate/sampler.h"
#include "core/generate/sequence.h"
#include "retort/kernels/parallel.h"

namespace retort::generate {
namespace {

using engine::Finish;
using engine::GenerateOptions;
using engine::GenerateRequest;
using engine::GenerateStats;

constexpr int64_t kPrefillRows = 512;

class Run {
 public:
  Run(engine::Inference& inference, const graph::Graph& graph,
      std::span<const GenerateRequest> requests, const GenerateOptions& options, int n_threads)
      : inference_(inference),
        graph_(graph),
        options_(options),
        n_threads_(n_threads),
        queue_(requests) {}

  Status Prepare(std::span<const GenerateRequest> requests) {
    context_ = options_.max_context > 0 ? std::min(options_.max_context, LongestRequest(requests))
                                        : LongestRequest(requests);
    const int64_t slots = std::min<int64_t>(options_.max_batch, CountSamples(requests));
    RETORT_ASSIGN_OR_RETURN(cache_, KvCache::Create(graph_, slots, context_, n_threads_));
    slots_.resize(static_cast<size_t>(slots));
    live_.reserve(slots_.size());
    logits_.resize(slots_.size() * static_cast<size_t>(graph_.vocab()));
    prompt_logits_.resize(static_cast<size_t>(graph_.vocab()));
    samplers_.reserve(slots_.size());
    for (int64_t i = 0; i < slots; ++i) samplers_.emplace_back(graph_.vocab());
    draws_.resize(slots_.size());
    return OkStatus();
  }

  GenerateStats Loop() {
    while (true) {
      if (Cancelled()) return CancelAll();
      Admit();
      if (live_.empty() && queue_.empty()) return stats_;
      if (!live_.empty()) DecodeStep();
    }
  }

 private:
  struct Slot {
    std::unique_ptr<Sequence> sequence;  // NULL: free
  };

  bool Cancelled() const { return options_.cancel != nullptr && options_.cancel->load() != 0; }
  std::span<float> LogitsOf(size_t row) {
    const auto vocab = static_cast<size_t>(graph_.vocab());
    return std::span(logits_).subspan(row * vocab, vocab);
  }

  void Admit();
  void Start(const RequestQueue::Item& item, int32_t slot);
  bool Prefill(const GenerateRequest& request, int32_t slot);
  int32_t FreeSlot() const;
  void DecodeStep();
  void SampleRows(size_t rows);
  void Retire();
  void Report(const Sequence& sequence);
  void Refuse(const RequestQueue::Item& item, Finish finish, std::string error);
  GenerateStats CancelAll();

  engine::Inference& inference_;
  const graph::Graph& graph_;
  const GenerateOptions& options_;
  const int n_threads_;
  RequestQueue queue_;
  GenerateStats stats_;
  int64_t context_ = 0;

  std::unique_ptr<KvCache> cache_;
  std::vector<Slot> slots_;
  std::vector<int32_t> live_;  // slots in use, in the order of the pass's rows
  // The prompt whose samples are being admitted: which slot holds its keys and values intact (a
  // slot keeps them until another prompt moves in), and the logits of its last token.
  const GenerateRequest* prompt_ = nullptr;
  int32_t prompt_slot_ = -1;
  std::vector<float> prompt_logits_;

  std::vector<float> logits_;  // [slots, V]
  std::vector<Sampler> samplers_;
  std::vector<Draw> draws_;
  std::vector<int32_t> ids_, positions_, cu_seqlens_;  // of the pass
  std::vector<KvCache::Rows> rows_;
};

int32_t Run::FreeSlot() const {
  if (prompt_slot_ >= 0 && slots_[static_cast<size_t>(prompt_slot_)].sequence == nullptr) {
    return prompt_slot_;  // the prompt is there already: nothing to copy
  }
  for (size_t s = 0; s < slots_.size(); ++s) {
    if (slots_[s].sequence == nullptr) return static_cast<int32_t>(s);
  }
  return -1;
}

void Run::Admit() {
  while (!queue_.empty() && !Cancelled()) {
    const RequestQueue::Item item = queue_.front();
    const int64_t needed = TokensNeeded(*item.request);
    if (needed > context_) {
      Refuse(item, Finish::kError,
             "prompt of " + std::to_string(item.request->ids.size()) + " tokens and max_tokens " +
                 std::to_string(item.request->sampling.max_tokens) + " need " +
                 std::to_string(needed) + " positions, max_context is " + std::to_string(context_) +
                 "; shorten the prompt, lower max_tokens or raise "
                 "max_context");
      queue_.Pop();
      continue;
    }
    const int32_t slot = FreeSlot();
    if (slot < 0) return;
    if (item.request != prompt_) {
      if (!Prefill(*item.request, slot)) return;
    } else {
      cache_->CopyPrefix(prompt_slot_, slot,
                         static_cast<int64_t>(prompt_->ids.size() + prompt_->prefix.size()));
    }
    queue_.Pop();
    Start(item, slot);
  }
}

// Runs prompt and forced prefix through the model; false if cancelled on the way.
bool Run::Prefill(const GenerateRequest& request, int32_t slot) {
  const Stopwatch watch;
  prompt_ = nullptr;
  cache_->BeginPrompt(slot);
  std::vector<int32_t> tokens = request.ids;
  tokens.insert(tokens.end(), request.prefix.begin(), request.prefix.end());
  const auto all = static_cast<int64_t>(tokens.size());
  for (int64_t begin = 0; begin < all; begin += kPrefillRows) {
    if (Cancelled()) return false;
    const int64_t n = std::min(kPrefillRows, all - begin);
    positions_.clear();
    for (int64_t t = begin; t < begin + n; ++t) positions_.push_back(static_cast<int32_t>(t));
    const int32_t cu_seqlens[] = {0, static_cast<int32_t>(n)};
    const KvCache::Rows rows[] = {{.slot = slot, .past = begin, .rows = n}};
    cache_->SetRows(rows);
    const TensorView hidden = inference_.Forward(
        {.ids = std::span(tokens).subspan(static_cast<size_t>(begin), static_cast<size_t>(n)),
         .positions = positions_,
         .cu_seqlens = cu_seqlens},
        cache_.get());
    if (begin + n < all) continue;
    inference_.Logits(
        hidden.Rows(n - 1, n),
        TensorView::Contiguous(prompt_logits_.data(), DType::kF32, {1, graph_.vocab()}));
  }
  cache_->EndPrompt(slot);
  prompt_ = &request;
  prompt_slot_ = slot;
  stats_.prompt_tokens += all;
  stats_.prefill_seconds += watch.Seconds();
  return true;
}

// The first token, from the prompt's logits.
void Run::Start(const RequestQueue::Item& item, int32_t slot) {
  auto sequence = std::make_unique<Sequence>(*item.request, item.index, options_);
  const std::span<float> row = LogitsOf(0);  // no pass is under way
  std::copy(prompt_logits_.begin(), prompt_logits_.end(), row.begin());
  sequence->Push(samplers_[0].Sample(row, item.request->sampling, sequence->banned(),
                                     sequence->NextUniform()));
  ++stats_.completion_tokens;
  if (sequence->finished()) return Report(*sequence);
  slots_[static_cast<size_t>(slot)].sequence = std::move(sequence);
  live_.push_back(slot);
}

void Run::DecodeStep() {
  const Stopwatch watch;
  ids_.clear();
  positions_.clear();
  rows_.clear();
  cu_seqlens_.assign(1, 0);
  for (int32_t slot : live_) {
    const Sequence& sequence = *slots_[static_cast<size_t>(slot)].sequence;
    ids_.push_back(sequence.last_id());
    positions_.push_back(static_cast<int32_t>(sequence.last_position()));
    rows_.push_back({.slot = slot, .past = sequence.last_position(), .rows = 1});
    cu_seqlens_.push_back(static_cast<int32_t>(ids_.size()));
  }
  cache_->SetRows(rows_);
  const TensorView hidden = inference_.Forward(
      {.ids = ids_, .positions = positions_, .cu_seqlens = cu_seqlens_}, cache_.get());
  const auto rows = static_cast<int64_t>(live_.size());
  inference_.Logits(hidden.Rows(0, rows),
                    TensorView::Contiguous(logits_.data(), DType::kF32, {rows, graph_.vocab()}));
  SampleRows(live_.size());
  for (size_t i = 0; i < live_.size(); ++i) {
    slots_[static_cast<size_t>(live_[i])].sequence->Push(draws_[i]);
  }
  stats_.completion_tokens += rows;
  stats_.decode_seconds += watch.Seconds();
  Retire();
  if (options_.on_progress) options_.on_progress(stats_.completion_tokens);
}

void Run::SampleRows(size_t rows) {
  const auto sample = [](void* context, int64_t row) {
    Run& run = *static_cast<Run*>(context);
    const auto i = static_cast<size_t>(row);
    const Sequence& sequence = *run.slots_[static_cast<size_t>(run.live_[i])].sequence;
    run.draws_[i] = run.samplers_[i].Sample(run.LogitsOf(i), sequence.request().sampling,
                                            sequence.banned(), sequence.NextUniform());
  };
  retort_parallel_for(static_cast<int64_t>(rows), n_threads_, sample, this);
}

void Run::Retire() {
  std::erase_if(live_, [this](int32_t slot) {
    std::unique_ptr<Sequence>& sequence = slots_[static_cast<size_t>(slot)].sequence;
    if (!sequence->finished()) return false;
    Report(*sequence);
    sequence.reset();
    return true;
  });
}

void Run::Report(const Sequence& sequence) {
  if (options_.on_done) options_.on_done(sequence.completion());
}

void Run::Refuse(const RequestQueue::Item& item, Finish finish, std::string error) {
  engine::Completion completion;
  completion.uid = item.request->uid;
  completion.index = item.index;
  completion.finish = finish;
  completion.error = std::move(error);
  if (options_.on_done) options_.on_done(completion);
}

GenerateStats Run::CancelAll() {
  for (int32_t slot : live_) {
    Sequence& sequence = *slots_[static_cast<size_t>(slot)].sequence;
    sequence.End(Finish::kCancelled);
    Report(sequence);
  }
  for (; !queue_.empty(); queue_.Pop()) Refuse(queue_.front(), Finish::kCancelled, {});
  return stats_;
}

}  // namespace

Result<GenerateStats> Generate(engine::Inference& inference, const graph::Graph& graph,
                               std::span<const GenerateRequest> requests,
                               const GenerateOptions& options, int n_threads) {
  RETORT_RETURN_IF_ERROR(CheckRequests(graph, requests, options));
  if (requests.empty()) return GenerateStats{};
  Run run(inference, graph, requests, options, n_threads);
  RETORT_RETURN_IF_ERROR(run.Prepare(requests));
  return run.Loop();
}

}  // namespace retort::generate
