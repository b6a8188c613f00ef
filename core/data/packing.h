// Packing: which pieces of which documents share a row. Works on lengths alone; equal to TRL's
// strategies of the same names.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/base/status.h"

namespace retort::data {

enum class Packing {
  kBfd,       // best fit decreasing, documents cut to the row length
  kBfdSplit,  // best fit decreasing, long documents split into several
  kWrapped,   // concatenated and cut every max_length tokens
  kNone,      // a row each, cut to the row length
};

Result<Packing> ParsePacking(std::string_view name);  // bfd, bfd_split, wrapped, none

// Tokens [begin, end) of a document: a sequence of its own (positions restart).
struct Piece {
  int64_t document = 0, begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};
using Row = std::vector<Piece>;

// Rows of at most `max_length` (> 0) tokens; empty documents are dropped.
std::vector<Row> Pack(std::span<const int64_t> lengths, int64_t max_length, Packing packing);

}  // namespace retort::data
