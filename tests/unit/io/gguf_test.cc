// Good GGUF files and one refusal rule per bad one.
// SPDX-License-Identifier: Apache-2.0
#include "core/io/gguf.h"

#include <gmock/gmock.h>

#include "tests/unit/io/gguf_bytes.h"
#include "tests/unit/io/temp_folder.h"

namespace retort::io {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

void ExpectRejected(const std::string& bytes, const std::string& rule) {
  const Result<GgufHead> head = ParseGguf(bytes, "m.gguf");
  ASSERT_FALSE(head.ok()) << rule;
  EXPECT_EQ(head.status().code(), Code::kDataLoss);
  EXPECT_THAT(head.status().message(), HasSubstr(rule));
  EXPECT_THAT(head.status().message(), HasSubstr("m.gguf: offset "));
}
void ExpectRejected(const GgufBytes& file, const std::string& rule) {
  ExpectRejected(file.Bytes(), rule);
}

GgufBytes Good() {
  GgufBytes file;
  file.String("general.architecture", "llama").U32("n", 7).Strings("list", {"a", "", "cc"});
  file.Ints("ints", {-1, 2}).Bool("yes", true).F32("f", 0.5f);
  file.Floats("t", {2, 3}, {1, 2, 3, 4, 5, 6}).Floats("u", {1}, {9});
  return file;
}

TEST(GgufRead, KeysAndTensors) {
  const TempFolder dir;
  const Gguf gguf = Gguf::Open(dir.Write("m.gguf", Good().Bytes())).value();
  EXPECT_EQ(gguf.String("general.architecture"), "llama");
  EXPECT_EQ(gguf.Int("n"), 7);
  EXPECT_EQ(gguf.Double("n"), 7.0);
  EXPECT_EQ(gguf.Double("f"), 0.5);
  EXPECT_EQ(gguf.Bool("yes"), true);
  EXPECT_THAT(gguf.Strings("list").value(), ElementsAre("a", "", "cc"));
  EXPECT_THAT(gguf.Ints("ints").value(), ElementsAre(-1, 2));
  EXPECT_THAT(gguf.Doubles("ints").value(), ElementsAre(-1.0, 2.0));
  ASSERT_EQ(gguf.tensors().size(), 2u);
  EXPECT_EQ(gguf.tensors()[0].shape, (std::vector<int64_t>{3, 2}));  // torch order
  EXPECT_EQ(gguf.bytes(gguf.tensors()[1]), Raw(9.0f));
}

TEST(GgufRead, ReadingsOfAnotherTypeAreAbsent) {
  const TempFolder dir;
  const Gguf gguf = Gguf::Open(dir.Write("m.gguf", Good().Bytes())).value();
  EXPECT_EQ(gguf.Int("absent"), std::nullopt);
  EXPECT_EQ(gguf.Int("general.architecture"), std::nullopt);
  EXPECT_EQ(gguf.Int("f"), std::nullopt);
  EXPECT_EQ(gguf.String("n"), std::nullopt);
  EXPECT_EQ(gguf.Strings("ints"), std::nullopt);
  EXPECT_EQ(gguf.Ints("list"), std::nullopt);
  EXPECT_EQ(gguf.Bool("n"), std::nullopt);
}

TEST(GgufRead, IntegersOfEveryWidth) {
  GgufBytes file;
  file.Kv("u8", 0, Raw(uint8_t{255}))
      .Kv("i8", 1, Raw(int8_t{-1}))
      .Kv("u16", 2, Raw(uint16_t{65535}));
  file.Kv("i16", 3, Raw(int16_t{-2}))
      .Kv("i32", 5, Raw(int32_t{-3}))
      .Kv("i64", 11, Raw(int64_t{-4}));
  file.Kv("u64", 10, Raw(uint64_t{1} << 62))
      .Kv("big", 10, Raw(~uint64_t{0}))
      .Kv("f64", 12, Raw(0.1));
  const TempFolder dir;
  const Gguf gguf = Gguf::Open(dir.Write("m.gguf", file.Bytes())).value();
  EXPECT_EQ(gguf.Int("u8"), 255);
  EXPECT_EQ(gguf.Int("i8"), -1);
  EXPECT_EQ(gguf.Int("u16"), 65535);
  EXPECT_EQ(gguf.Int("i16"), -2);
  EXPECT_EQ(gguf.Int("i32"), -3);
  EXPECT_EQ(gguf.Int("i64"), -4);
  EXPECT_EQ(gguf.Int("u64"), int64_t{1} << 62);
  EXPECT_EQ(gguf.Int("big"), std::nullopt);
  EXPECT_EQ(gguf.Double("f64"), 0.1);
}

TEST(GgufHostile, EveryTruncationIsRejected) {
  const std::string bytes = Good().Bytes();
  for (size_t n = 0; n + 28 < bytes.size(); ++n) {  // 28: the last tensor's padding
    EXPECT_FALSE(ParseGguf(bytes.substr(0, n), "m").ok()) << n << " of " << bytes.size();
  }
  EXPECT_TRUE(ParseGguf(bytes, "m").ok());
}

TEST(GgufHostile, FlippedBytesNeverReachOutside) {
  const std::string good = Good().Bytes();
  for (size_t i = 0; i < good.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ 1 << bit);
      const Result<GgufHead> head = ParseGguf(bad, "m");
      if (!head.ok()) continue;
      for (const GgufTensor& t : head.value().tensors) EXPECT_LE(t.offset + t.bytes, bad.size());
    }
  }
}

TEST(GgufHostile, MagicVersionCounts) {
  GgufBytes file = Good();
  file.magic = "GGML";
  ExpectRejected(file, "not a GGUF file");
  file = Good();
  file.version = 2;
  ExpectRejected(file, "GGUF version 2; only version 3 is read");
  file.version = 0x03000000;
  ExpectRejected(file, "big-endian");
  file = Good();
  file.n_kvs = INT64_MAX;
  ExpectRejected(file, "don't fit into the file");
  file = Good();
  file.n_tensors = INT64_MAX;
  ExpectRejected(file, "don't fit into the file");
  file = Good();
  file.n_kvs = 7;  // one more than there are: a tensor is taken for a key
  EXPECT_FALSE(ParseGguf(file.Bytes(), "m").ok());
}

TEST(GgufHostile, Keys) {
  ExpectRejected(Good().U32("n", 8), "key \"n\": occurs twice");
  ExpectRejected(Good().U32("", 8), "is empty");
  ExpectRejected(Good().U32(std::string(70'000, 'k'), 8),
                 "is 70000 bytes long; the limit is 65535");
  ExpectRejected(Good().Kv("x", 13, ""), "unknown value type 13");
  ExpectRejected(Good().Kv("x", 7, "\x02"), "neither 0 nor 1");
  ExpectRejected(Good().Kv("x", 9, Raw(uint32_t{9}) + Raw(uint64_t{0})), "an array of arrays");
  ExpectRejected(Good().Kv("x", 9, Raw(uint32_t{4}) + Raw(~uint64_t{0})), "elements don't fit");
  ExpectRejected(Good().Kv("x", 9, Raw(uint32_t{8}) + Raw(uint64_t{1} << 61)),
                 "elements don't fit");
  ExpectRejected(Good().Kv("x", 9, Raw(uint32_t{99}) + Raw(uint64_t{1})), "unknown value type 99");
}

TEST(GgufHostile, StringLongerThanWhatRemains) {
  GgufBytes file;
  file.Kv("x", 8, Raw(uint64_t{0}));
  std::string bytes = file.Bytes();
  const size_t at = bytes.find('x') + 1 + 4;
  bytes.replace(at, 8, Raw(uint64_t{bytes.size() - at - 8 + 1}));
  ExpectRejected(bytes, "(truncated?)");
  bytes.replace(at, 8, Raw(~uint64_t{0}));
  ExpectRejected(bytes, "(truncated?)");
}

TEST(GgufHostile, Alignment) {
  for (uint32_t alignment : {0u, 3u, 48u, 1u << 31}) {
    ExpectRejected(Good().U32("general.alignment", alignment), "is not a power of two");
  }
  ExpectRejected(Good().Kv("general.alignment", 10, Raw(uint64_t{32})), "must be a u32");
  GgufBytes wide;
  wide.alignment = 64;
  wide.U32("general.alignment", 64).Floats("t", {1}, {1}).Floats("u", {1}, {2});
  EXPECT_EQ(ParseGguf(wide.Bytes(), "m").value().tensors[1].offset % 64, 0u);
}

TEST(GgufHostile, TensorInfos) {
  const uint64_t next = Good().data.size();
  ExpectRejected(Good().Info("t", {1}, 0, next), "tensor \"t\": occurs twice");
  ExpectRejected(Good().Info("", {1}, 0, next), "has no name");
  ExpectRejected(Good().Info(std::string(65, 'n'), {1}, 0, next),
                 "is 65 bytes long; the limit is 64");
  ExpectRejected(Good().Info("x", {1, 1, 1, 1, 1}, 0, next), "5 dimensions; at most 4");
  ExpectRejected(Good().Info("x", std::vector<uint64_t>(255, 1), 0, next), "255 dimensions");
  ExpectRejected(Good().Info("x", {~uint64_t{0}}, 0, next), "negative or too large");
  ExpectRejected(Good().Info("x", {1u << 31, 1u << 31, 4}, 0, next),
                 "product of its shape overflows");
  ExpectRejected(Good().Info("x", {uint64_t{1} << 62}, 0, next), "its size overflows");
  ExpectRejected(Good().Info("x", {1}, 0xFFFFFFFF, next),
                 "stored as type 4294967295; read are F32");
  ExpectRejected(Good().Info("x", {256}, 10, next), "stored as Q2_K; read are");
  ExpectRejected(Good().Info("x", {33}, 8, next), "rows of 33 are not whole blocks of 32 (Q8_0)");
  ExpectRejected(Good().Info("x", {128, 2}, 12, next), "rows of 128 are not whole blocks of 256");
}

TEST(GgufHostile, TensorOffsets) {
  const uint64_t next = Good().data.size();
  ExpectRejected(Good().Info("x", {1}, 0, next), "(truncated?)");
  ExpectRejected(Good().Info("x", {0}, 0, next + 1), "is not aligned to 32");
  ExpectRejected(Good().Info("x", {0}, 0, 0), "but the tensor before ends at");  // an overlap
  ExpectRejected(Good().Info("x", {0}, 0, next + 32), "but the tensor before ends at");  // a hole
  ExpectRejected(Good().Info("x", {0}, 0, ~uint64_t{31}), "but the tensor before ends at");
  EXPECT_TRUE(ParseGguf(Good().Info("x", {0}, 0, next).Bytes(), "m").ok());
}

}  // namespace
}  // namespace retort::io
