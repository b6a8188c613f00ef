// Texts packed one behind the other in a batch, without padding. Several texts with one beginning
// (the samples of a prompt) may have its rows once: the first one has them, and each of the others
// goes on from them with the rows that are its own.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

namespace retort {

// What comes before a sequence's own rows: the first `rows` of an earlier sequence, which itself
// has nothing before it; -1: nothing.
struct Prefix {
  int32_t sequence = -1;
  int32_t rows = 0;
};

struct PackedRows {
  std::span<const int32_t> cu_seqlens;    // [S+1], rising from 0
  std::span<const Prefix> prefixes = {};  // [S], or empty: none has one
  size_t n_sequences() const { return cu_seqlens.size() - 1; }
  int32_t length(size_t s) const { return cu_seqlens[s + 1] - cu_seqlens[s]; }
};

}  // namespace retort
