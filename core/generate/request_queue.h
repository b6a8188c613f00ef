// The samples to make, in order: request by request, and within a request by index, so that all
// samples of a prompt are admitted one after the other and can share its prefill.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/base/status.h"
#include "core/engine/engine.h"
#include "core/graph/graph.h"

namespace retort::generate {

// INVALID_ARGUMENT for the first request whose parameters mean nothing, or that names ids outside
// the model's vocabulary; for stop strings or streaming without a tokenizer.
Status CheckRequests(const graph::Graph& graph, std::span<const engine::GenerateRequest> requests,
                     const engine::GenerateOptions& options);

// Tokens that a sample of the request may come to have: prompt and completion.
int64_t TokensNeeded(const engine::GenerateRequest& request);
// Those of them whose keys and values are kept: the last one's never are.
inline int64_t PositionsKept(const engine::GenerateRequest& request) {
  return TokensNeeded(request) - 1;
}
// Whether a sample of the request may outgrow its cached keys: it begins at or below one of these
// lengths (graph::StaleLengths) and goes on above.
bool OutgrowsKeys(const engine::GenerateRequest& request, std::span<const int64_t> stale_lengths);
int64_t LongestRequest(std::span<const engine::GenerateRequest> requests);
int64_t CountSamples(std::span<const engine::GenerateRequest> requests);

class RequestQueue {
 public:
  struct Item {
    const engine::GenerateRequest* request = nullptr;
    int32_t index = 0;
  };
  explicit RequestQueue(std::span<const engine::GenerateRequest> requests) : requests_(requests) {}

  bool empty() const { return at_ == requests_.size(); }
  Item front() const { return {&requests_[at_], index_}; }
  void Pop() {
    if (++index_ < requests_[at_].n_samples) return;
    index_ = 0;
    ++at_;
  }

 private:
  std::span<const engine::GenerateRequest> requests_;
  size_t at_ = 0;
  int32_t index_ = 0;
};

}  // namespace retort::generate
