// In a file of its own: where the compiler sees both a new expression and these bodies it takes
// malloc and free for a mismatch.
// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/engine/count_allocations.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {
std::atomic<bool> g_counting{false};
std::atomic<int64_t> g_allocations{0};
}  // namespace

void* operator new(size_t size) {
  if (g_counting.load()) g_allocations.fetch_add(1);
  if (void* p = std::malloc(size)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }

namespace retort::engine::test {

void StartCounting() {
  g_allocations = 0;
  g_counting = true;
}

int64_t StopCounting() {
  g_counting = false;
  return g_allocations.load();
}

}  // namespace retort::engine::test
