// Packing against the goldens of docs/numerics.md (TRL's own test cases) and its invariants.
// SPDX-License-Identifier: Apache-2.0
#include "core/data/packing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "core/base/rng.h"
#include "core/json/json.h"

namespace retort::data {
namespace {

using Tokens = std::vector<std::vector<int>>;

// Rows of token values, documents joined: the shape of TRL's examples.
Tokens PackTokens(const Tokens& documents, int64_t max_length, Packing packing) {
  std::vector<int64_t> lengths;
  for (const auto& d : documents) lengths.push_back(static_cast<int64_t>(d.size()));
  Tokens rows;
  for (const Row& row : Pack(lengths, max_length, packing)) {
    rows.emplace_back();
    for (const Piece& piece : row) {
      const auto& d = documents[static_cast<size_t>(piece.document)];
      rows.back().insert(rows.back().end(), d.begin() + piece.begin, d.begin() + piece.end);
    }
  }
  return rows;
}

TEST(Packing, BfdPutsTheLongestFirst) {
  EXPECT_EQ(PackTokens({{1, 2, 3}, {4, 5, 6, 7}, {8}}, 4, Packing::kBfd),
            (Tokens{{4, 5, 6, 7}, {1, 2, 3, 8}}));
}

TEST(Packing, BfdCutsLongDocuments) {
  EXPECT_EQ(PackTokens({{1, 2, 3, 4, 5}, {6, 7}, {8, 9, 10, 11}, {12}}, 4, Packing::kBfd),
            (Tokens{{1, 2, 3, 4}, {8, 9, 10, 11}, {6, 7, 12}}));
}

TEST(Packing, BfdSplitKeepsTheRest) {
  EXPECT_EQ(PackTokens({{1, 2, 3, 4, 5}, {6, 7}, {8, 9, 10, 11}, {12}}, 4, Packing::kBfdSplit),
            (Tokens{{1, 2, 3, 4}, {8, 9, 10, 11}, {6, 7, 5, 12}}));
  EXPECT_EQ(PackTokens({{1, 2, 3, 4, 5}, {6}, {7, 8, 9, 10}, {11, 12, 13}}, 5, Packing::kBfdSplit),
            (Tokens{{1, 2, 3, 4, 5}, {7, 8, 9, 10, 6}, {11, 12, 13}}));
}

TEST(Packing, WrappedCutsEveryMaxLength) {
  EXPECT_EQ(PackTokens({{1, 2, 3}, {4, 5, 6, 7}, {8}}, 3, Packing::kWrapped),
            (Tokens{{1, 2, 3}, {4, 5, 6}, {7, 8}}));
}

TEST(Packing, NoneGivesARowEach) {
  EXPECT_EQ(PackTokens({{1, 2, 3, 4, 5}, {}, {6}}, 4, Packing::kNone), (Tokens{{1, 2, 3, 4}, {6}}));
}

TEST(Packing, EmptyDocumentsAreDropped) {
  for (Packing packing : {Packing::kBfd, Packing::kBfdSplit, Packing::kWrapped, Packing::kNone}) {
    EXPECT_TRUE(PackTokens({{}, {}}, 4, packing).empty());
  }
}

// Rows that TRL made (tests/peers/make_packing_goldens.py); token values name document and place.
TEST(Packing, RowsAreTrls) {
  const std::string path = std::string(RETORT_SOURCE_DIR) + "/tests/golden/packing.jsonl";
  std::ifstream in(path);
  int cases = 0;
  for (std::string line; std::getline(in, line); ++cases) {
    const json::Document document = std::move(json::Document::Parse(line, path)).value();
    const json::Value golden = document.root();
    Tokens documents;
    for (size_t d = 0; d < golden["lengths"].size(); ++d) {
      documents.emplace_back();
      for (int64_t t = 0; t < golden["lengths"][d].IntOr(0); ++t) {
        documents.back().push_back(static_cast<int>(1000 * d) + static_cast<int>(t));
      }
    }
    Tokens rows;
    for (size_t r = 0; r < golden["rows"].size(); ++r) {
      rows.emplace_back();
      for (size_t t = 0; t < golden["rows"][r].size(); ++t) {
        rows.back().push_back(static_cast<int>(golden["rows"][r][t].IntOr(-1)));
      }
    }
    const Packing packing = ParsePacking(golden["packing"].StringOr("")).value();
    EXPECT_EQ(PackTokens(documents, golden["max_length"].IntOr(0), packing), rows) << line;
  }
  EXPECT_EQ(cases, 36);
}

// The row with the least sufficient space, by a plain search over all rows.
std::vector<std::vector<int64_t>> NaiveBfd(std::vector<int64_t> lengths, int64_t max_length) {
  struct Bin {
    std::vector<int64_t> sizes;
    int64_t space, since;
  };
  std::stable_sort(lengths.begin(), lengths.end(), std::greater<>());
  std::vector<Bin> bins;
  int64_t now = 0;
  for (int64_t n : lengths) {
    Bin* best = nullptr;
    for (Bin& bin : bins) {
      const bool better = best == nullptr || bin.space < best->space ||
                          (bin.space == best->space && bin.since < best->since);
      if (bin.space >= n && better) best = &bin;
    }
    if (best == nullptr) best = &bins.emplace_back(Bin{{}, max_length, 0});
    best->sizes.push_back(n);
    best->space -= n;
    best->since = now++;
  }
  std::vector<std::vector<int64_t>> rows;
  for (const Bin& bin : bins) rows.push_back(bin.sizes);
  return rows;
}

TEST(Packing, BfdEqualsANaiveSearch) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Rng rng(RootKey(seed, "packing_test"));
    std::vector<int64_t> lengths(rng.Below(60));
    for (int64_t& n : lengths) n = 1 + static_cast<int64_t>(rng.Below(32));
    std::vector<std::vector<int64_t>> rows;
    for (const Row& row : Pack(lengths, 32, Packing::kBfd)) {
      rows.emplace_back();
      for (const Piece& piece : row) rows.back().push_back(piece.size());
    }
    EXPECT_EQ(rows, NaiveBfd(lengths, 32)) << seed;
  }
}

TEST(Packing, EveryTokenOnceUnlessCut) {
  for (Packing packing : {Packing::kBfdSplit, Packing::kWrapped}) {
    Rng rng(RootKey(1, "packing_test"));
    std::vector<int64_t> lengths(500), seen(500);
    for (int64_t& n : lengths) n = static_cast<int64_t>(rng.Below(100));
    for (const Row& row : Pack(lengths, 40, packing)) {
      int64_t size = 0;
      for (const Piece& piece : row) {
        seen[static_cast<size_t>(piece.document)] += piece.size();
        size += piece.size();
      }
      EXPECT_LE(size, 40);
      EXPECT_GT(size, 0);
    }
    EXPECT_EQ(seen, lengths);
  }
}

TEST(Packing, UnknownNameIsRefused) {
  EXPECT_TRUE(ParsePacking("bfd_split").ok());
  EXPECT_NE(ParsePacking("ffd").status().message().find("bfd_split"), std::string::npos);
}

}  // namespace
}  // namespace retort::data
