// SPDX-License-Identifier: Apache-2.0
#include "core/ops/workspace.h"

#include <cstdlib>
#include <new>

namespace retort::ops {

void Workspace::Free::operator()(void* p) const { std::free(p); }

void* Workspace::Reserve(int64_t bytes) {
  if (bytes <= bytes_) return memory_.get();
  constexpr int64_t kAlignment = 64;
  const int64_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  memory_.reset();
  bytes_ = 0;
  memory_.reset(std::aligned_alloc(kAlignment, static_cast<size_t>(rounded)));
  if (memory_ == nullptr) throw std::bad_alloc();
  bytes_ = rounded;
  return memory_.get();
}

}  // namespace retort::ops
