// How the head cuts rows into chunks; apart from head.cc, which needs LibTorch.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/engine/head.h"

namespace retort::engine {
namespace {

constexpr int64_t kChunkBytes = int64_t{64} << 20;
constexpr int64_t kChunkRowsLeast = 512;  // fewer make the fixed cost of reading W show
constexpr int64_t kChunkRounding = 64;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

int64_t HeadChunkRows(int64_t rows, int64_t vocab, DType dtype, int64_t wanted) {
  if (rows <= 0) return 0;
  if (wanted > 0) return std::min(rows, wanted);
  const int64_t fitting = kChunkBytes / (vocab * DTypeSize(dtype));
  const int64_t most = std::max(kChunkRowsLeast, fitting / kChunkRounding * kChunkRounding);
  const int64_t chunks = CeilDiv(rows, most);
  return std::min(rows, CeilDiv(CeilDiv(rows, chunks), kChunkRounding) * kChunkRounding);
}

}  // namespace retort::engine
