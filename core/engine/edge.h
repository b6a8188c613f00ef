// The edge of LibTorch: the one place where its exceptions become retort's, and where its thread
// pool is set. Everything that leaves core/engine through a Status-returning call goes through
// Guarded; what may throw Error (Inference) goes through OnEdge.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>
#include <string_view>
#include <utility>

#include "core/base/status.h"

namespace retort::engine {

// The exception being handled, as a Status: Error as it is, bad_alloc RESOURCE_EXHAUSTED, anything
// else INTERNAL with LibTorch's text (without its backtrace).
Status CurrentException(std::string_view attempt);

// fn(), with every foreign exception turned into Error.
template <class Fn>
auto OnEdge(std::string_view attempt, Fn&& fn) -> decltype(fn()) {
  try {
    return std::forward<Fn>(fn)();
  } catch (...) {
    throw Error(CurrentException(attempt));
  }
}

// fn() returns Status or Result; an exception becomes that failure.
template <class Fn>
auto Guarded(std::string_view attempt, Fn&& fn) -> decltype(fn()) {
  try {
    return std::forward<Fn>(fn)();
  } catch (...) {
    return CurrentException(attempt);
  }
}

// Sizes LibTorch's pool (and OpenMP's, which the kernels share) for the calling thread. Does not
// open LibTorch: what is set holds when a product does (core/ops/blas.h).
void SetThreads(int n_threads);

// The same while it lives: both runtimes keep the number per calling thread, so every call of an
// engine sets its own, whichever thread it comes on, and leaves the caller's behind.
class ThreadScope {
 public:
  explicit ThreadScope(int n_threads);
  ~ThreadScope();
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int before_;
};

const char* LibTorchVersion();
// "AVX2", "AVX512", ...: what LibTorch's own kernels use.
const char* CpuCapability();

}  // namespace retort::engine
