// In a file of its own: where the compiler sees both a new expression and these bodies it takes
// malloc and free for a mismatch.
// The program's malloc stands before the C library's, for every library that it loads; under a
// sanitizer, which has its own, operator new alone is counted.
// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/engine/count_allocations.h"

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <new>

namespace {
std::atomic<bool> g_counting{false};
std::atomic<int64_t> g_allocations{0};
void Count() {
  if (g_counting.load(std::memory_order_relaxed)) g_allocations.fetch_add(1);
}
}  // namespace

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t n, size_t size);
void* __libc_realloc(void* p, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

void* malloc(size_t size) {
  Count();
  return __libc_malloc(size);
}
void* calloc(size_t n, size_t size) {
  Count();
  return __libc_calloc(n, size);
}
void* realloc(void* p, size_t size) {
  Count();
  return __libc_realloc(p, size);
}
void* memalign(size_t alignment, size_t size) {
  Count();
  return __libc_memalign(alignment, size);
}
void* aligned_alloc(size_t alignment, size_t size) {
  Count();
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** out, size_t alignment, size_t size) {
  Count();
  *out = __libc_memalign(alignment, size);
  return *out == nullptr ? ENOMEM : 0;
}
}

#else

void* operator new(size_t size) {
  Count();
  if (void* p = std::malloc(size)) return p;
  throw std::bad_alloc();
}
// std::stable_sort's buffer comes from here and goes back through the delete below.
void* operator new(size_t size, const std::nothrow_t&) noexcept {
  Count();
  return std::malloc(size);
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }

#endif

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
