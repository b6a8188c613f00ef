// SPDX-License-Identifier: Apache-2.0
#include "core/engine/arena.h"

#include <sys/mman.h>

#include <string>

#include "core/base/status.h"

namespace retort::engine {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;

void Unmap(unsigned char* data, int64_t bytes) {
  if (data != nullptr) munmap(data, static_cast<size_t>(bytes));
}

}  // namespace

Arena::~Arena() { Unmap(data_, bytes_); }

void Arena::Reserve(int64_t bytes) {
  if (bytes <= bytes_) return;
  Unmap(data_, bytes_);
  data_ = nullptr;
  bytes_ = 0;
  const int64_t size = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  void* memory = mmap(nullptr, static_cast<size_t>(size), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    throw Error(ResourceExhausted("the engine needs " + std::to_string(size >> 20) +
                                  " MiB for activations and the system gave none; use fewer "
                                  "tokens per micro-batch"));
  }
  madvise(memory, static_cast<size_t>(size), MADV_HUGEPAGE);  // a hint: failing is harmless
  data_ = static_cast<unsigned char*>(memory);
  bytes_ = size;
  ++growths_;
}

}  // namespace retort::engine
