// SPDX-License-Identifier: Apache-2.0
#include "core/generate/request_queue.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

namespace retort::generate {
namespace {

using engine::GenerateOptions;
using engine::GenerateRequest;
using engine::SamplingParams;

Status CheckPenalties(const SamplingParams& s) {
  if (!(std::isfinite(s.repetition_penalty) && s.repetition_penalty > 0)) {
    return InvalidArgument("repetition_penalty " + std::to_string(s.repetition_penalty) +
                           " must be finite and above 0 (1: off)");
  }
  for (const auto& [name, value] : {std::pair("presence_penalty", s.presence_penalty),
                                    std::pair("frequency_penalty", s.frequency_penalty)}) {
    if (std::isfinite(value)) continue;
    return InvalidArgument(std::string(name) + " " + std::to_string(value) +
                           " must be finite (0: off)");
  }
  for (const auto& [id, bias] : s.logit_bias) {
    if (std::isfinite(bias)) continue;
    return InvalidArgument("logit_bias of id " + std::to_string(id) + " is " +
                           std::to_string(bias) + "; it must be finite (-100 all but forbids)");
  }
  return OkStatus();
}

Status CheckSampling(const SamplingParams& s) {
  if (!(std::isfinite(s.temperature) && s.temperature >= 0)) {
    return InvalidArgument("temperature " + std::to_string(s.temperature) +
                           " must be finite and at least 0 (0: greedy)");
  }
  if (!(s.top_p > 0 && s.top_p <= 1)) {
    return InvalidArgument("top_p " + std::to_string(s.top_p) + " must lie in (0, 1] (1: off)");
  }
  if (s.top_k < 0) {
    return InvalidArgument("top_k " + std::to_string(s.top_k) + " must be at least 0 (0: off)");
  }
  if (!(s.min_p >= 0 && s.min_p <= 1)) {
    return InvalidArgument("min_p " + std::to_string(s.min_p) + " must lie in [0, 1] (0: off)");
  }
  RETORT_RETURN_IF_ERROR(CheckPenalties(s));
  if (s.max_tokens < 1) {
    return InvalidArgument("max_tokens " + std::to_string(s.max_tokens) + " must be at least 1");
  }
  if (s.min_tokens < 0 || s.min_tokens > s.max_tokens) {
    return InvalidArgument("min_tokens " + std::to_string(s.min_tokens) +
                           " must lie in 0 .. max_tokens (" + std::to_string(s.max_tokens) + ")");
  }
  return OkStatus();
}

Status CheckIds(std::span<const int32_t> ids, int64_t vocab, const char* what) {
  for (int32_t id : ids) {
    if (id >= 0 && id < vocab) continue;
    return InvalidArgument(std::string(what) + " id " + std::to_string(id) +
                           " is outside the model's vocabulary of " + std::to_string(vocab) +
                           "; is this the model's tokenizer?");
  }
  return OkStatus();
}

Status CheckRequest(const GenerateRequest& request, int64_t vocab, const GenerateOptions& options) {
  const SamplingParams& s = request.sampling;
  RETORT_RETURN_IF_ERROR(CheckSampling(s));
  if (request.ids.empty()) return InvalidArgument("the prompt has no tokens");
  if (request.n_samples < 1) {
    return InvalidArgument("n_samples " + std::to_string(request.n_samples) +
                           " must be at least 1");
  }
  if (request.prefix.size() >= static_cast<size_t>(s.max_tokens)) {
    return InvalidArgument("the forced prefix has " + std::to_string(request.prefix.size()) +
                           " tokens and max_tokens is " + std::to_string(s.max_tokens) +
                           "; raise max_tokens: the prefix counts");
  }
  RETORT_RETURN_IF_ERROR(CheckIds(request.ids, vocab, "prompt"));
  RETORT_RETURN_IF_ERROR(CheckIds(request.prefix, vocab, "prefix"));
  RETORT_RETURN_IF_ERROR(CheckIds(s.stop_ids, vocab, "stop"));
  for (const auto& [id, bias] : s.logit_bias) {
    RETORT_RETURN_IF_ERROR(CheckIds(std::span(&id, 1), vocab, "logit_bias"));
  }
  if (!s.stop.empty() && options.tokenizer == nullptr) {
    return InvalidArgument("stop strings need a tokenizer; use stop_ids");
  }
  return OkStatus();
}

}  // namespace

static Status CheckOptions(const graph::Graph& graph, const GenerateOptions& options) {
  if (options.max_batch < 1) {
    return InvalidArgument("max_batch " + std::to_string(options.max_batch) +
                           " must be at least 1");
  }
  if (options.max_context < 0) {
    return InvalidArgument("max_context " + std::to_string(options.max_context) +
                           " must be at least 0 (0: the longest request)");
  }
  if (options.kv_memory < 0) {
    return InvalidArgument("kv_memory " + std::to_string(options.kv_memory) +
                           " must be at least 0 bytes (0: what max_batch samples need)");
  }
  if (options.prefill_chunk < 1) {
    return InvalidArgument("prefill_chunk " + std::to_string(options.prefill_chunk) +
                           " must be at least 1 token");
  }
  if (options.on_text && options.tokenizer == nullptr) {
    return InvalidArgument("streaming text needs a tokenizer");
  }
  const auto adapters = static_cast<int32_t>(graph.adapters.size());
  if (options.adapter < -1 || options.adapter >= adapters) {
    return InvalidArgument("adapter " + std::to_string(options.adapter) + ": the model has " +
                           std::to_string(adapters) + " adapters (-1: none)");
  }
  return OkStatus();
}

Status CheckRequests(const graph::Graph& graph, std::span<const GenerateRequest> requests,
                     const GenerateOptions& options) {
  RETORT_RETURN_IF_ERROR(CheckOptions(graph, options));
  for (const GenerateRequest& request : requests) {
    const Status status = CheckRequest(request, graph.vocab(), options);
    if (!status.ok()) return status.WithContext("request " + std::to_string(request.uid));
  }
  return OkStatus();
}

int64_t TokensNeeded(const GenerateRequest& request) {
  return static_cast<int64_t>(request.ids.size()) + request.sampling.max_tokens;
}

bool OutgrowsKeys(const GenerateRequest& request, std::span<const int64_t> stale_lengths) {
  const auto prompt = static_cast<int64_t>(request.ids.size() + request.prefix.size());
  return std::any_of(stale_lengths.begin(), stale_lengths.end(), [&](int64_t length) {
    return prompt <= length && length < PositionsKept(request);
  });
}

int64_t LongestRequest(std::span<const GenerateRequest> requests) {
  int64_t longest = 0;
  for (const GenerateRequest& r : requests) longest = std::max(longest, TokensNeeded(r));
  return longest;
}

int64_t CountSamples(std::span<const GenerateRequest> requests) {
  int64_t n = 0;
  for (const GenerateRequest& r : requests) n += r.n_samples;
  return n;
}

}  // namespace retort::generate
