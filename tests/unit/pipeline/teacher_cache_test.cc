// The teacher's cache: rows come back to their tokens, parts that are missing are told apart from
// parts that are wrong, and a cache made for something else is refused.
// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/teacher_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <map>
#include <utility>

namespace retort::host {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr int32_t kK = 3;

// Example i has i % 5 + 3 tokens, of which the first two are a prompt.
std::vector<data::SftExample> Examples(size_t n) {
  std::vector<data::SftExample> examples(n);
  for (size_t i = 0; i < n; ++i) {
    const size_t length = i % 5 + 3;
    for (size_t t = 0; t < length; ++t) {
      examples[i].ids.push_back(static_cast<int32_t>(i * 7 + t));
      examples[i].trained.push_back(t >= 2 ? 1 : 0);
    }
  }
  return examples;
}

TeacherCacheIdentity Identity(std::span<const data::SftExample> examples) {
  return {.teacher = "aa",
          .tokenizer = "bb",
          .temperature = 2,
          .k = kK,
          .examples = HashExamples(examples)};
}

// Rows whose entries name the example and token that they are of.
engine::TeacherRows RowsFor(std::span<const data::SftExample> examples, int32_t id_step = 1) {
  engine::TeacherRows rows = {.k = kK, .ids = {}, .logp = {}, .tail = {}};
  for (const data::SftExample& example : examples) {
    for (size_t t = 2; t < example.ids.size(); ++t) {
      for (int32_t j = 0; j < kK; ++j) {
        rows.ids.push_back((example.ids[t] % 900 + j) * id_step);
        rows.logp.push_back(-0.25F * static_cast<float>(j + 1));
      }
      rows.tail.push_back(-static_cast<float>(t));
    }
  }
  return rows;
}

class TeacherCacheTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/teacher_cache_" +
              testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
  }
  Result<TeacherCache> Open(std::span<const data::SftExample> examples,
                            const TeacherCacheIdentity& identity) {
    return TeacherCache::Open(io::RealFileSystem(), folder_, identity, examples);
  }
  // Written and mapped.
  TeacherCache Filled(std::span<const data::SftExample> examples, int32_t id_step = 1) {
    TeacherCache cache = Open(examples, Identity(examples)).value();
    for (size_t s = 0; s < cache.n_shards(); ++s) {
      EXPECT_TRUE(cache.Write(s, RowsFor(cache.ExamplesOf(s), id_step)).ok());
      EXPECT_TRUE(cache.Map(s).ok());
    }
    return cache;
  }
  std::string Shard() const { return folder_ + "/rows-00000.safetensors"; }
  // Changes one tensor of the only shard; the rest stays.
  void Rewrite(const std::string& tensor, const std::function<void(io::SafetensorsItem&)>& change,
               const std::map<std::string, std::string>& metadata) {
    const io::Safetensors file = io::Safetensors::Open(Shard()).value();
    const std::map<std::string, DType> types = {
        {"I16", DType::kI16}, {"F16", DType::kF16}, {"F32", DType::kF32}, {"I64", DType::kI64}};
    std::vector<io::SafetensorsItem> items;
    for (const io::SafetensorsEntry& entry : file.entries()) {
      auto* bytes = const_cast<char*>(file.bytes(entry).data());
      const DType type = types.at(entry.dtype);
      items.push_back({entry.name, TensorView::Contiguous(bytes, type, entry.shape), type});
      if (entry.name == tensor) change(items.back());
    }
    ASSERT_TRUE(io::WriteSafetensors(io::RealFileSystem(), Shard(), items, metadata).ok());
  }
  std::map<std::string, std::string> Metadata() const {
    return io::Safetensors::Open(Shard()).value().metadata();
  }
  std::string folder_;
};

TEST_F(TeacherCacheTest, RowsComeBackToTheirTokens) {
  const auto examples = Examples(4);
  const TeacherCache cache = Filled(examples);
  EXPECT_EQ(cache.rows(), 1 + 2 + 3 + 4);
  EXPECT_GT(cache.bytes(), 0);
  // Example 2 whole, then the end of example 3.
  const std::vector<data::Piece> pieces = {{2, 0, 5}, {3, 2, 6}};
  const auto rows = cache.RowsOf(pieces, 1000);
  ASSERT_TRUE(rows.ok()) << rows.status().ToString();
  ASSERT_EQ(rows->tail.size(), 9U);
  ASSERT_EQ(rows->ids.size(), 9U * kK);
  // The row of a token predicts the next one; a document's last token predicts nothing, and the
  // first token of a piece is predicted by nobody.
  const std::vector<int32_t> of = {-1, 14 + 2, 14 + 3, 14 + 4, -1, 21 + 3, 21 + 4, 21 + 5, -1};
  for (size_t t = 0; t < of.size(); ++t) {
    SCOPED_TRACE(t);
    EXPECT_EQ(rows->ids[t * kK], of[t]);
    if (of[t] < 0) continue;
    EXPECT_EQ(rows->ids[t * kK + 2], of[t] + 2);
    EXPECT_FLOAT_EQ(rows->logp[t * kK + 1], -0.5F);  // exact in f16
  }
  EXPECT_FLOAT_EQ(rows->tail[1], -2);
  EXPECT_FLOAT_EQ(rows->tail[7], -5);
}

TEST_F(TeacherCacheTest, LargeIdsAndUnusedEntriesAreKept) {
  const auto examples = Examples(1);
  TeacherCache cache = Open(examples, Identity(examples)).value();
  const auto back = [&](const std::vector<int32_t>& ids) {
    EXPECT_TRUE(cache.Write(0, {.k = kK, .ids = ids, .logp = {-1, -2, -3}, .tail = {-4}}).ok());
    EXPECT_TRUE(cache.Map(0).ok());
    const std::vector<data::Piece> pieces = {{0, 0, 3}};
    const engine::TeacherRows rows = cache.RowsOf(pieces, 1'000'000).value();
    return std::vector<int32_t>(rows.ids.begin() + kK, rows.ids.begin() + 2 * kK);
  };
  EXPECT_THAT(back({65'534, 0, 32'768}), ElementsAre(65'534, 0, 32'768));
  EXPECT_THAT(back({65'534, 7, -1}), ElementsAre(65'534, 7, -1));
  EXPECT_THAT(back({262'143, 65'535, -1}), ElementsAre(262'143, 65'535, -1));
}

TEST_F(TeacherCacheTest, PaddingOfTheTeachersVocabularyIsLeftOut) {
  const auto examples = Examples(1);
  TeacherCache cache = Open(examples, Identity(examples)).value();
  const float half = std::log(0.5F), quarter = std::log(0.25F), eighth = std::log(0.125F);
  ASSERT_TRUE(
      cache
          .Write(0,
                 {.k = kK, .ids = {40, 90, 41}, .logp = {half, quarter, eighth}, .tail = {eighth}})
          .ok());
  ASSERT_TRUE(cache.Map(0).ok());
  const std::vector<data::Piece> pieces = {{0, 0, 3}};
  const engine::TeacherRows rows = cache.RowsOf(pieces, 64).value();
  EXPECT_EQ(rows.ids[3], 40);
  EXPECT_EQ(rows.ids[4], 41);
  EXPECT_EQ(rows.ids[5], -1);
  // Without the quarter that the padding had.
  EXPECT_NEAR(std::exp(rows.logp[3]), 0.5 / 0.75, 1e-3);
  EXPECT_NEAR(std::exp(rows.logp[4]), 0.125 / 0.75, 1e-3);
  EXPECT_NEAR(std::exp(rows.tail[1]), 0.125 / 0.75, 1e-3);
}

TEST_F(TeacherCacheTest, StoppedCacheGoesOnAtTheNextShard) {
  const auto examples = Examples(2500);
  TeacherCache cache = Open(examples, Identity(examples)).value();
  ASSERT_EQ(cache.n_shards(), 3U);
  ASSERT_TRUE(cache.Write(0, RowsFor(cache.ExamplesOf(0))).ok());
  TeacherCache again = Open(examples, Identity(examples)).value();
  EXPECT_TRUE(again.Map(0).ok());
  EXPECT_EQ(again.Map(1).code(), Code::kNotFound);
  for (size_t s = 1; s < 3; ++s) {
    ASSERT_TRUE(again.Write(s, RowsFor(again.ExamplesOf(s))).ok());
    ASSERT_TRUE(again.Map(s).ok());
  }
  const std::vector<data::Piece> pieces = {{2499, 0, 7}};
  EXPECT_EQ(again.RowsOf(pieces, 1000)->ids[kK], (2499 * 7 + 2) % 900);
}

TEST_F(TeacherCacheTest, CacheOfSomethingElseIsRefused) {
  const auto examples = Examples(3);
  Filled(examples);
  const auto error = [&](const std::function<void(TeacherCacheIdentity&)>& change) {
    TeacherCacheIdentity identity = Identity(examples);
    change(identity);
    const auto cache = Open(examples, identity);
    EXPECT_FALSE(cache.ok());
    return cache.ok() ? "" : cache.status().message();
  };
  EXPECT_THAT(error([](auto& i) { i.temperature = 3; }),
              AllOf(HasSubstr("temperature: 2"), HasSubstr("3"), HasSubstr("teacher_cache")));
  EXPECT_THAT(error([](auto& i) { i.k = 64; }), HasSubstr("k: 3 there, 64 here"));
  EXPECT_THAT(error([](auto& i) { i.teacher = "cc"; }), HasSubstr("teacher: aa there, cc here"));
  EXPECT_THAT(error([](auto& i) { i.tokenizer = "dd"; }), HasSubstr("tokenizer: bb"));
  EXPECT_THAT(error([](auto& i) { i.examples = "ee"; }), HasSubstr("examples: "));
  EXPECT_TRUE(Open(examples, Identity(examples)).ok());
}

TEST_F(TeacherCacheTest, DescriptionThatIsNoneIsRefused) {
  const auto examples = Examples(3);
  for (const char* text : {"", "{", "[]", "{\"retort_teacher_cache\": 2}", "{\"a\": 1}"}) {
    SCOPED_TRACE(text);
    std::filesystem::create_directories(folder_);
    ASSERT_TRUE(io::DurableWrite(folder_ + "/cache.json", text).ok());
    const auto cache = Open(examples, Identity(examples));
    ASSERT_FALSE(cache.ok());
    EXPECT_THAT(cache.status().message(), HasSubstr("cache.json"));
  }
}

TEST_F(TeacherCacheTest, WrongShardIsDataLoss) {
  const auto examples = Examples(3);
  TeacherCache cache = Filled(examples);
  const auto metadata = Metadata();
  const auto error = [&](const std::string& tensor,
                         const std::function<void(io::SafetensorsItem&)>& change) {
    EXPECT_TRUE(cache.Write(0, RowsFor(examples)).ok());
    Rewrite(tensor, change, metadata);
    TeacherCache again = Open(examples, Identity(examples)).value();
    const Status mapped = again.Map(0);
    EXPECT_EQ(mapped.code(), Code::kDataLoss);
    EXPECT_THAT(mapped.message(), HasSubstr("rows-00000"));
    return mapped.message();
  };
  std::vector<int64_t> wrong = {0, 1, 5, 6};
  EXPECT_THAT(error("ids", [](auto& item) { item.name = "idx"; }), HasSubstr("ids is not"));
  EXPECT_THAT(error("ids", [](auto& item) { item.view.shape[1] = 2; }), HasSubstr("ids is not"));
  EXPECT_THAT(error("tail", [](auto& item) { item.view.shape[0] = 2; }), HasSubstr("tail is not"));
  EXPECT_THAT(error("logp", [](auto& item) { item.view.shape[0] = 1; }), HasSubstr("logp is not"));
  EXPECT_THAT(error("offsets", [&](auto& item) { item.view.data = wrong.data(); }),
              HasSubstr("offset 2 is 5"));
  EXPECT_THAT(error("keys", [&](auto& item) { item.view.data = wrong.data(); }),
              HasSubstr("key 0 is of another example"));
  // Rows of another teacher in the folder of this one.
  ASSERT_TRUE(cache.Write(0, RowsFor(examples)).ok());
  Rewrite("ids", [](auto&) {}, {{"identity", "0123"}});
  EXPECT_THAT(cache.Map(0).message(), HasSubstr("identity"));
}

TEST_F(TeacherCacheTest, EveryTruncationIsDataLoss) {
  const auto examples = Examples(3);
  TeacherCache cache = Filled(examples);
  const std::string whole = io::RealFileSystem().Read(Shard(), 1 << 20).value();
  for (size_t n = 0; n < whole.size(); n += 7) {
    ASSERT_TRUE(io::DurableWrite(Shard(), whole.substr(0, n)).ok());
    ASSERT_EQ(cache.Map(0).code(), Code::kDataLoss) << n;
  }
}

TEST_F(TeacherCacheTest, RowThatIsNoDistributionIsDataLoss) {
  const auto examples = Examples(1);
  TeacherCache cache = Open(examples, Identity(examples)).value();
  const auto error = [&](const engine::TeacherRows& rows) {
    EXPECT_TRUE(cache.Write(0, rows).ok());
    EXPECT_TRUE(cache.Map(0).ok());
    const std::vector<data::Piece> pieces = {{0, 0, 3}};
    const auto read = cache.RowsOf(pieces, 64);
    EXPECT_EQ(read.status().code(), Code::kDataLoss);
    return read.status().message();
  };
  const float nan = std::nanf("");
  EXPECT_THAT(error({.k = kK, .ids = {1, 2, 3}, .logp = {nan, -1, -1}, .tail = {-1}}),
              AllOf(HasSubstr("row 0 has logp"), HasSubstr("delete the file")));
  EXPECT_THAT(error({.k = kK, .ids = {1, 2, 3}, .logp = {-1, 0.5F, -1}, .tail = {-1}}),
              HasSubstr("logp"));
  EXPECT_THAT(error({.k = kK, .ids = {1, 2, 3}, .logp = {-1, -1, -1}, .tail = {nan}}),
              HasSubstr("tail"));
  EXPECT_THAT(error({.k = kK, .ids = {70'000, -5, 3}, .logp = {-1, -1, -1}, .tail = {-1}}),
              HasSubstr("the id -5"));
  EXPECT_THAT(error({.k = kK, .ids = {64, 65, -1}, .logp = {0, -9, 0}, .tail = {-12}}),
              HasSubstr("beyond the student's vocabulary of 64"));
}

}  // namespace
}  // namespace retort::host
