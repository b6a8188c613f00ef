// Decoding takes its memory at the start: between two steps nothing is allocated. This program's
// operator new counts.
// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <cstdlib>
#include <new>

#include "tests/unit/generate/tiny_model.h"

namespace {
std::atomic<int64_t> allocations{0};

void* Count(size_t bytes) {
  ++allocations;
  void* p = std::malloc(bytes);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}
}  // namespace

void* operator new(size_t bytes) { return Count(bytes); }
void* operator new[](size_t bytes) { return Count(bytes); }
void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(bytes);
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }
void operator delete[](void* p, size_t) noexcept { std::free(p); }

namespace retort::generate {
namespace {

TEST(GenerateAllocation, DecodeStepsAllocateNothing) {
  TinyModel model;
  std::vector<engine::GenerateRequest> requests;
  for (uint64_t uid = 0; uid < 4; ++uid) {
    requests.push_back(Request(uid, 10, 60, 1));
    requests.back().sampling.top_k = uid == 1 ? 7 : 0;
    requests.back().sampling.top_p = uid == 2 ? 0.9 : 1;
    requests.back().sampling.min_tokens = 50;
    requests.back().sampling.stop_ids = {5};
  }
  model.Run(requests);  // the forward pass sizes its arena and rope tables by what it meets
  std::vector<int64_t> counts;
  counts.reserve(100);
  engine::GenerateOptions options;
  options.on_progress = [&](int64_t) { counts.push_back(allocations); };
  model.Run(requests, options);
  ASSERT_GE(counts.size(), 50u);
  EXPECT_EQ(counts[45], counts[3]);
}

}  // namespace
}  // namespace retort::generate
