// SPDX-License-Identifier: Apache-2.0
#include "core/generate/sequence.h"

#include <algorithm>
#include <utility>

namespace retort::generate {

using engine::Finish;

namespace {

RngKey KeyOf(const engine::GenerateRequest& request, int32_t index) {
  return Derive(RootKey(request.sampling.seed, "sampling"), request.uid,
                static_cast<uint64_t>(index));
}

TokenCounts CountPrompt(const engine::GenerateRequest& request) {
  const engine::SamplingParams& s = request.sampling;
  if (!HasPenalties(s)) return {};
  TokenCounts counts(request.ids.size() + static_cast<size_t>(s.max_tokens));
  if (s.repetition_penalty == 1) return counts;
  for (int32_t id : request.ids) counts.AddPrompt(id);
  return counts;
}

bool Contains(std::span<const int32_t> ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

Sequence::Sequence(const engine::GenerateRequest& request, int32_t index,
                   const engine::GenerateOptions& options)
    : request_(request),
      options_(options),
      key_(KeyOf(request, index)),
      streams_(options.tokenizer != nullptr && (options.on_text || !request.sampling.stop.empty())),
      decoder_(options.tokenizer),
      matcher_(request.sampling.stop),
      counts_(CountPrompt(request)) {
  completion_.uid = request.uid;
  completion_.index = index;
  completion_.ids.reserve(static_cast<size_t>(request.sampling.max_tokens));
  completion_.logp.reserve(static_cast<size_t>(request.sampling.max_tokens));
  for (int32_t id : request.prefix) {
    Add(id, 0);
    if (streams_) AddText(id);
  }
}

int64_t Sequence::last_position() const {
  return static_cast<int64_t>(request_.ids.size() + completion_.ids.size()) - 1;
}

std::span<const int32_t> Sequence::banned() const {
  const engine::SamplingParams& s = request_.sampling;
  if (completion_.ids.size() >= static_cast<size_t>(s.min_tokens)) return {};
  return s.stop_ids;
}

void Sequence::Add(int32_t id, float logp) {
  completion_.ids.push_back(id);
  completion_.logp.push_back(logp);
  if (counts_.takes_ids()) counts_.AddCompletion(id);
}

void Sequence::Push(const Draw& draw) {
  if (draw.id < 0) {
    return End(Finish::kError, "the model's logits after " + std::to_string(last_position() + 1) +
                                   " tokens are not finite; are its weights sound?");
  }
  Add(draw.id, draw.logp);
  if (Contains(request_.sampling.stop_ids, draw.id)) return End(Finish::kStop);
  if (streams_) AddText(draw.id);
  if (matcher_.stopped()) return End(Finish::kStop);
  if (completion_.ids.size() == static_cast<size_t>(request_.sampling.max_tokens)) {
    End(Finish::kLength);
  }
}

void Sequence::AddText(int32_t id) { Emit(matcher_.Push(decoder_.Push(id))); }

void Sequence::Emit(std::string_view text) {
  if (text.empty()) return;
  completion_.text += text;
  if (options_.on_text) options_.on_text(completion_.uid, completion_.index, text);
}

// What streaming held back; or, if nothing asked for a stream, the whole text.
void Sequence::FinishText() {
  if (options_.tokenizer == nullptr) return;
  if (!streams_) {
    const std::span<const int32_t> ids = completion_.ids;
    const bool stop_id = completion_.finish == Finish::kStop && !ids.empty();
    for (int32_t id : ids.first(ids.size() - (stop_id ? 1 : 0))) {
      completion_.text += decoder_.Push(id);
    }
    completion_.text += decoder_.Flush();
    return;
  }
  Emit(matcher_.Push(decoder_.Flush()));
  Emit(matcher_.Flush());
}

void Sequence::End(Finish finish, std::string error) {
  finished_ = true;
  completion_.finish = finish;
  completion_.error = std::move(error);
  FinishText();
}

}  // namespace retort::generate
