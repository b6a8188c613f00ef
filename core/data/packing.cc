// SPDX-License-Identifier: Apache-2.0
#include "core/data/packing.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

namespace retort::data {
namespace {

// Pieces in document order: cut to the row length, or split into several of it.
std::vector<Piece> Pieces(std::span<const int64_t> lengths, int64_t max_length, bool split) {
  std::vector<Piece> pieces;
  for (size_t d = 0; d < lengths.size(); ++d) {
    const auto document = static_cast<int64_t>(d);
    for (int64_t begin = 0; begin < lengths[d]; begin += max_length) {
      pieces.push_back({document, begin, std::min(lengths[d], begin + max_length)});
      if (!split) break;
    }
  }
  return pieces;
}

// Longest first (ties in document order); each into the row with the least space that suffices,
// of equal ones into the row that came to that space first.
std::vector<Row> BestFitDecreasing(std::vector<Piece> pieces, int64_t max_length) {
  std::stable_sort(pieces.begin(), pieces.end(),
                   [](const Piece& a, const Piece& b) { return a.size() > b.size(); });
  std::vector<Row> rows;
  std::map<std::pair<int64_t, int64_t>, size_t> open;  // (space, arrival) -> row
  int64_t arrival = 0;
  for (const Piece& piece : pieces) {
    const auto fit = open.lower_bound({piece.size(), 0});
    size_t row = rows.size();
    int64_t space = max_length;
    if (fit == open.end()) {
      rows.emplace_back();
    } else {
      row = fit->second;
      space = fit->first.first;
      open.erase(fit);
    }
    rows[row].push_back(piece);
    if (space > piece.size()) open.emplace(std::pair(space - piece.size(), arrival++), row);
  }
  return rows;
}

std::vector<Row> Wrap(std::span<const int64_t> lengths, int64_t max_length) {
  std::vector<Row> rows;
  int64_t space = 0;
  for (size_t d = 0; d < lengths.size(); ++d) {
    for (int64_t begin = 0; begin < lengths[d];) {
      if (space == 0) {
        rows.emplace_back();
        space = max_length;
      }
      const int64_t end = std::min(lengths[d], begin + space);
      rows.back().push_back({static_cast<int64_t>(d), begin, end});
      space -= end - begin;
      begin = end;
    }
  }
  return rows;
}

}  // namespace

Result<Packing> ParsePacking(std::string_view name) {
  if (name == "bfd") return Packing::kBfd;
  if (name == "bfd_split") return Packing::kBfdSplit;
  if (name == "wrapped") return Packing::kWrapped;
  if (name == "none") return Packing::kNone;
  return InvalidArgument("packing '" + std::string(name) +
                         "' is unknown (known: bfd, bfd_split, wrapped, none)");
}

std::vector<Row> Pack(std::span<const int64_t> lengths, int64_t max_length, Packing packing) {
  switch (packing) {
    case Packing::kBfd: return BestFitDecreasing(Pieces(lengths, max_length, false), max_length);
    case Packing::kBfdSplit:
      return BestFitDecreasing(Pieces(lengths, max_length, true), max_length);
    case Packing::kWrapped: return Wrap(lengths, max_length);
    case Packing::kNone: {
      std::vector<Row> rows;
      for (const Piece& piece : Pieces(lengths, max_length, false)) rows.push_back({piece});
      return rows;
    }
  }
  return {};
}

}  // namespace retort::data
