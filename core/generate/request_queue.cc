// SPDX-License-Identifier: Apache-2.0
#include "core/generate/request_queue.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace retort::generate {
namespace {

using engine::GenerateOptions;
using engine::GenerateRequest;
using engine::SamplingParams;

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
  if (!s.stop.empty() && options.tokenizer == nullptr) {
    return InvalidArgument("stop strings need a tokenizer; use stop_ids");
  }
  return OkStatus();
}

}  // namespace

Status CheckRequests(const graph::Graph& graph, std::span<const GenerateRequest> requests,
                     const GenerateOptions& options) {
  if (options.max_batch < 1) {
    return InvalidArgument("max_batch " + std::to_string(options.max_batch) +
                           " must be at least 1");
  }
  if (options.max_context < 0) {
    return InvalidArgument("max_context " + std::to_string(options.max_context) +
                           " must be at least 0 (0: the longest request)");
  }
  if (options.on_text && options.tokenizer == nullptr) {
    return InvalidArgument("streaming text needs a tokenizer");
  }
  for (const GenerateRequest& request : requests) {
    const Status status = CheckRequest(request, graph.vocab(), options);
    if (!status.ok()) return status.WithContext("request " + std::to_string(request.uid));
  }
  return OkStatus();
}

int64_t TokensNeeded(const GenerateRequest& request) {
  return static_cast<int64_t>(request.ids.size()) + request.sampling.max_tokens;
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
