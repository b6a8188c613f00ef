// One refusal rule of docs/formats.md §2 per case. The bytes are built by hand: a header text,
// any length before it, any data behind it.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <cstring>
#include <functional>

#include "core/io/safetensors.h"
#include "tests/unit/io/temp_folder.h"

namespace retort::io {
namespace {

using ::testing::HasSubstr;

std::string File(const std::string& header, size_t data_bytes) {
  const uint64_t length = header.size();
  std::string out(8, '\0');
  std::memcpy(out.data(), &length, 8);
  return out + header + std::string(data_bytes, 'd');
}

std::string Tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
         ",\"data_offsets\":" + offsets + "}";
}

void ExpectRejected(const std::string& bytes, const std::string& rule) {
  const Result<SafetensorsHeader> header = ParseSafetensors(bytes, "f.safetensors");
  ASSERT_FALSE(header.ok()) << rule;
  EXPECT_THAT(header.status().message(), HasSubstr(rule));
  EXPECT_THAT(header.status().message(), HasSubstr("f.safetensors"));
}

const std::string kGood =
    "{" + Tensor("a", "F32", "[2]", "[0,8]") + "," + Tensor("b", "BF16", "[2,1]", "[8,12]") + "}";

TEST(SafetensorsHostile, TheGoodFileIsGood) {
  const SafetensorsHeader header = ParseSafetensors(File(kGood, 12), "f").value();
  ASSERT_EQ(header.entries.size(), 2u);
  EXPECT_EQ(header.entries[1].shape, (std::vector<int64_t>{2, 1}));
}

TEST(SafetensorsHostile, EveryTruncationIsRejected) {
  const std::string file = File(kGood, 12);
  for (size_t n = 0; n < file.size(); ++n) {
    EXPECT_FALSE(ParseSafetensors(file.substr(0, n), "f").ok()) << n;
  }
}

TEST(SafetensorsHostile, HeaderLength) {
  ExpectRejected("", "it has 0 bytes");
  ExpectRejected("1234567", "it has 7 bytes");
  ExpectRejected(std::string(8, '\xFF') + "{}", "above the limit of 100000000");
  ExpectRejected(std::string("\x09\0\0\0\0\0\0\0{}", 10), "longer than the file of 10 bytes");
  ExpectRejected(std::string(8, '\0'), "does not start with {");
}

TEST(SafetensorsHostile, HeaderText) {
  ExpectRejected(File(" {}", 0), "does not start with {");
  ExpectRejected(File("[1]", 0), "does not start with {");
  ExpectRejected(File("{\"a\xFF\":1}", 0), "encoding");
  ExpectRejected(File("{} {}", 0), "1:4");
  ExpectRejected(File(std::string("{}\0{}", 5), 0), "NUL");
  std::string nested = "{\"a\":";
  while (nested.size() < 1'000'000) nested += "[";
  ExpectRejected(File(nested, 0), "nested deeper than 64");
}

TEST(SafetensorsHostile, Keys) {
  ExpectRejected(
      File("{" + Tensor("a", "U8", "[1]", "[0,1]") + "," + Tensor("a", "U8", "[1]", "[1,2]") + "}",
           2),
      "key \"a\" occurs twice");
  ExpectRejected(File("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":1}}", 1),
                 "unknown key \"x\"");
  ExpectRejected(File("{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1), "data_offsets must be");
  ExpectRejected(File("{\"a\":7}", 1), "not an object");
  ExpectRejected(File("{" + Tensor("a\\u0000b", "U8", "[1]", "[0,1]") + "}", 1), "NUL in its name");
}

TEST(SafetensorsHostile, Metadata) {
  ExpectRejected(File("{\"__metadata__\":{\"a\":1}}", 0), "value of \"a\" is not a string");
  ExpectRejected(File("{\"__metadata__\":[]}", 0), "must be an object of strings");
  ExpectRejected(File("{\"__metadata__\":{},\"__metadata__\":{}}", 0), "occurs twice");
}

TEST(SafetensorsHostile, DtypeAndShape) {
  ExpectRejected(File("{" + Tensor("a", "F12", "[1]", "[0,1]") + "}", 1), "unknown dtype \"F12\"");
  ExpectRejected(File("{" + Tensor("a", "U8", "[-1]", "[0,1]") + "}", 1), "dimension -1");
  ExpectRejected(File("{" + Tensor("a", "U8", "[1.0]", "[0,1]") + "}", 1), "dimension 1.0");
  ExpectRejected(File("{" + Tensor("a", "U8", "1", "[0,1]") + "}", 1), "shape is not an array");
  ExpectRejected(File("{" + Tensor("a", "U8", "[4294967296,4294967296]", "[0,1]") + "}", 1),
                 "product of its shape overflows");
  ExpectRejected(File("{" + Tensor("a", "F64", "[2305843009213693952]", "[0,1]") + "}", 1),
                 "product of its shape overflows");
  ExpectRejected(File("{" + Tensor("a", "F32", "[2]", "[0,4]") + "}", 4),
                 "need 8 bytes, its offsets span 4");
}

TEST(SafetensorsHostile, Offsets) {
  ExpectRejected(File("{" + Tensor("a", "U8", "[1]", "[1,0]") + "}", 1), "end before they begin");
  ExpectRejected(File("{" + Tensor("a", "U8", "[1]", "[0,1e308]") + "}", 1),
                 "data_offsets must be");
  ExpectRejected(File("{" + Tensor("a", "U8", "[1]", "[-1,0]") + "}", 1), "data_offsets must be");
  ExpectRejected(File("{" + Tensor("a", "U8", "[1]", "[0,1,2]") + "}", 1), "data_offsets must be");
  ExpectRejected(File("{" + Tensor("a", "U8", "[9]", "[0,9]") + "}", 8),
                 "ends at 9, but the file has 8");
  ExpectRejected(
      File("{" + Tensor("a", "U8", "[2]", "[0,2]") + "," + Tensor("b", "U8", "[2]", "[1,3]") + "}",
           3),
      "an overlap");
  ExpectRejected(
      File("{" + Tensor("a", "U8", "[1]", "[0,1]") + "," + Tensor("b", "U8", "[1]", "[2,3]") + "}",
           3),
      "a hole");
  ExpectRejected(File("{" + Tensor("a", "U8", "[1]", "[0,1]") + "}", 3),
                 "2 bytes belong to no tensor");
  ExpectRejected(File("{" + Tensor("a", "U8", "[1]", "[1,2]") + "}", 2), "a hole");
}

TEST(SafetensorsHostile, LegalOddities) {
  EXPECT_TRUE(ParseSafetensors(File("{}", 0), "f").ok());
  EXPECT_TRUE(ParseSafetensors(File("{" + Tensor("s", "F32", "[]", "[0,4]") + "," +
                                        Tensor("z", "F32", "[0,7]", "[4,4]") + "," +
                                        Tensor("y", "F32", "[0]", "[0,0]") + "}",
                                    4),
                               "f")
                  .ok());
  EXPECT_TRUE(
      ParseSafetensors(File("{" + Tensor("../x", "U8", "[1]", "[0,1]") + "}", 1), "f").ok());
  EXPECT_TRUE(ParseSafetensors(File("{}" + std::string(1'000'000, ' '), 0), "f").ok());
}

// Four keys a tensor: the parser's limit of a million keys ends what is no model.
TEST(SafetensorsHostile, ManyEmptyTensors) {
  const auto file = [](int n) {
    std::string header = "{";
    for (int i = 0; i < n; ++i) {
      header += (i ? "," : "") + Tensor("t" + std::to_string(i), "U8", "[0]", "[0,0]");
    }
    return File(header + "}", 0);
  };
  EXPECT_EQ(ParseSafetensors(file(200'000), "f").value().entries.size(), 200'000u);
  ExpectRejected(file(300'000), "more than 1000000 keys");
}

TEST(SafetensorsHostile, FlippedBytesNeverCrash) {
  const std::string good = File(kGood, 12);
  for (size_t i = 0; i < good.size() - 12; ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ 1 << bit);
      const Result<SafetensorsHeader> header = ParseSafetensors(bad, "f");
      if (!header.ok()) continue;  // a changed name or equal-sized dtype is still a legal file
      for (const SafetensorsEntry& e : header.value().entries) EXPECT_LE(e.end, 12u);
    }
  }
}

// ---- sharded folders -------------------------------------------------------------------------

class ShardedHostile : public ::testing::Test {
 protected:
  void Shard(const std::string& file, const std::string& tensor) {
    (void)dir_.Write(file, File("{" + Tensor(tensor, "U8", "[1]", "[0,1]") + "}", 1));
  }
  void Index(const std::string& weight_map) {
    (void)dir_.Write("model.safetensors.index.json", "{\"weight_map\":{" + weight_map + "}}");
  }
  void ExpectFolderRejected(const std::string& rule) {
    const Result<Safetensors> set = Safetensors::OpenFolder(dir_.path());
    ASSERT_FALSE(set.ok()) << rule;
    EXPECT_THAT(set.status().message(), HasSubstr(rule));
  }
  TempFolder dir_;
};

TEST_F(ShardedHostile, GoodFolder) {
  Shard("1.safetensors", "a");
  Shard("2.safetensors", "b");
  Index(R"("a":"1.safetensors","b":"2.safetensors")");
  const Safetensors set = Safetensors::OpenFolder(dir_.path()).value();
  EXPECT_EQ(set.entries().size(), 2u);
  EXPECT_EQ(set.bytes(*set.Find("b")), "d");
  EXPECT_EQ(set.Find("c"), nullptr);
}

TEST_F(ShardedHostile, PathsOutsideTheFolder) {
  for (const char* name : {"../x.safetensors", "/etc/passwd", "sub/x", "..", ""}) {
    Index("\"a\":\"" + std::string(name) + "\"");
    ExpectFolderRejected("is not a plain file name");
  }
  Index("\"a\":7");
  ExpectFolderRejected("is not a plain file name");
}

TEST_F(ShardedHostile, MissingShardTensorOrForeignTensor) {
  Index(R"("a":"1.safetensors")");
  ExpectFolderRejected("shard missing");
  Shard("1.safetensors", "b");
  ExpectFolderRejected("tensor \"a\" is not in 1.safetensors");
  Shard("2.safetensors", "a");
  Index(R"("b":"2.safetensors","a":"1.safetensors")");
  ExpectFolderRejected("tensor \"b\" is not in 2.safetensors");
  Shard("2.safetensors", "b");
  ExpectFolderRejected("tensor \"b\" is in two shards");
  (void)dir_.Write("1.safetensors", File("{" + Tensor("a", "U8", "[1]", "[0,1]") + "," +
                                             Tensor("x", "U8", "[1]", "[1,2]") + "}",
                                         2));
  ExpectFolderRejected("tensor \"x\" is not in the index");
}

TEST_F(ShardedHostile, NoWeightsAtAllOrPickles) {
  ExpectFolderRejected("neither model.safetensors nor");
  (void)dir_.Write("pytorch_model.bin", "x");
  ExpectFolderRejected("pickled .bin weights are never read");
}

}  // namespace
}  // namespace retort::io
