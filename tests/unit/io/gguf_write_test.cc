// What the writer writes is read back by the reader, which knows nothing of it; what can't be right
// is refused by tensor and rule, and leaves nothing behind.
// SPDX-License-Identifier: Apache-2.0
#include "core/io/gguf_write.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <numeric>

#include "tests/unit/io/temp_folder.h"

namespace retort::io {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <class T>
std::string Bytes(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

void ExpectRefused(std::vector<GgufItem> items, const std::string& rule, const GgufKvs& kvs = {}) {
  const TempFolder dir;
  const auto writer = GgufWriter::Create(RealFileSystem(), dir / "m.gguf", kvs, items);
  ASSERT_FALSE(writer.ok()) << rule;
  EXPECT_THAT(writer.status().message(), HasSubstr(rule));
  EXPECT_THAT(writer.status().message(), HasSubstr("m.gguf"));
  EXPECT_TRUE(std::filesystem::is_empty(dir.path())) << rule;
}

TEST(GgufWrite, TheReaderReadsWhatWasWritten) {
  const TempFolder dir;
  GgufKvs kvs;
  kvs.String("general.architecture", "llama").U32("n", 7).F32("x", 0.5f).Bool("b", true);
  const std::vector<std::string> texts = {"", "ab", std::string("\0c", 2)};
  const std::vector<int32_t> ints = {-1, 2};
  const std::vector<float> floats = {1.5f};
  const std::vector<uint8_t> bools = {1, 0, 1};
  kvs.Strings("s", texts).I32s("i", ints).F32s("f", floats).Bools("bs", bools);
  std::vector<float> a(6);
  std::iota(a.begin(), a.end(), 1.0f);
  const std::string q(34 * 2, 'q');
  auto writer = GgufWriter::Create(RealFileSystem(), dir / "m.gguf", kvs,
                                   {{"a", {2, 3}, GgmlType::kF32},
                                    {"none", {0, 32}, GgmlType::kQ8_0},
                                    {"q", {1, 64}, GgmlType::kQ8_0}});
  ASSERT_TRUE(writer.ok()) << writer.status().message();
  const std::string bytes = Bytes(a);
  ASSERT_TRUE(writer->Append(0, bytes.substr(0, 5)).ok());
  ASSERT_TRUE(writer->Append(0, bytes.substr(5)).ok());
  ASSERT_TRUE(writer->Append(2, q).ok());
  const auto digest = writer->Finish();
  ASSERT_TRUE(digest.ok()) << digest.status().message();
  EXPECT_EQ(digest->hash, HashFile(dir / "m.gguf")->hash);

  const Gguf gguf = Gguf::Open(dir / "m.gguf").value();
  EXPECT_EQ(gguf.kvs().size(), 8u);
  EXPECT_EQ(gguf.Int("n"), 7);
  EXPECT_EQ(gguf.Double("x"), 0.5);
  EXPECT_EQ(gguf.Bool("b"), true);
  EXPECT_THAT(*gguf.Strings("s"), ElementsAre(texts[0], texts[1], texts[2]));
  EXPECT_THAT(*gguf.Ints("i"), ElementsAre(-1, 2));
  EXPECT_THAT(*gguf.Doubles("f"), ElementsAre(1.5));
  ASSERT_EQ(gguf.tensors().size(), 3u);
  EXPECT_THAT(gguf.tensors()[0].shape, ElementsAre(2, 3));
  EXPECT_EQ(gguf.bytes(gguf.tensors()[0]), bytes);
  EXPECT_EQ(gguf.bytes(gguf.tensors()[2]), q);
  EXPECT_EQ(gguf.tensors()[2].offset % 32, 0u);
  EXPECT_EQ(gguf.file_bytes().size() % 32, 0u);
}

TEST(GgufWrite, KeysOfAnotherFileAreCopiedByteForByte) {
  const TempFolder dir;
  GgufKvs kvs;
  const std::vector<std::string> texts = {"x", "y"};
  kvs.Strings("s", texts).U32("n", 1);
  const auto write = [&](const GgufKvs& keys, const std::string& name) {
    auto writer = GgufWriter::Create(RealFileSystem(), dir / name, keys, {});
    EXPECT_TRUE(writer.ok() && writer->Finish().ok());
    return Gguf::Open(dir / name).value();
  };
  const Gguf first = write(kvs, "1.gguf");
  GgufKvs copied;
  for (const GgufKv& kv : first.kvs()) copied.Copy(kv);
  EXPECT_EQ(write(copied, "2.gguf").file_bytes(), first.file_bytes());
}

TEST(GgufWrite, NamesAreCheckedBeforeAByteIsWritten) {
  ExpectRefused({{std::string(65, 'n'), {1}}}, "1 to 64 bytes, this has 65");
  ExpectRefused({{"", {1}}}, "1 to 64 bytes, this has 0");
  ExpectRefused({{"a", {1}}, {"a", {1}}}, "given twice");
  GgufKvs twice;
  twice.U32("k", 1).U32("k", 2);
  ExpectRefused({}, "key \"k\" is given twice", twice);
  GgufKvs empty;
  empty.U32("", 1);
  ExpectRefused({}, "must have 1 to 65535 bytes", empty);
}

TEST(GgufWrite, ShapesAndSizesAreCheckedBeforeAByteIsWritten) {
  ExpectRefused({{"a", {1, 1, 1, 1, 1}}}, "5 dimensions; GGUF allows 4");
  ExpectRefused({{"a", {-1}}}, "negative");
  ExpectRefused({{"a", {INT64_MAX, 2}}}, "overflows");
  ExpectRefused({{"a", {INT64_MAX}}}, "its size overflows");
  ExpectRefused({{"a", {int64_t{1} << 61}}, {"b", {int64_t{1} << 61}}, {"c", {int64_t{1} << 61}}},
                "overflow");
  ExpectRefused({{"a", {2, 33}, GgmlType::kQ8_0}}, "rows of 33 are not whole blocks of 32 (Q8_0)");
  ExpectRefused({{"a", {32}, static_cast<GgmlType>(7)}}, "type 7 can't be written");
}

TEST(GgufWrite, DataComeInTurnAndWhole) {
  const TempFolder dir;
  const auto create = [&] {
    return GgufWriter::Create(RealFileSystem(), dir / "m.gguf", {}, {{"a", {2}}, {"b", {1}}})
        .value();
  };
  GgufWriter late = create();
  EXPECT_THAT(late.Append(1, "1234").message(), HasSubstr("out of turn: next come 8 bytes"));
  EXPECT_THAT(late.Append(2, "").message(), HasSubstr("out of turn"));
  EXPECT_THAT(late.Append(0, std::string(9, 'x')).message(), HasSubstr("9 bytes given for 8"));
  GgufWriter cut = create();
  ASSERT_TRUE(cut.Append(0, std::string(8, 'x')).ok());
  EXPECT_THAT(cut.Finish().status().message(), HasSubstr("\"b\": only 0 of 4 bytes"));
  EXPECT_FALSE(std::filesystem::exists(dir / "m.gguf"));
}

TEST(GgufWrite, AWriterThatGoesLeavesNothing) {
  const TempFolder dir;
  {
    GgufWriter writer =
        GgufWriter::Create(RealFileSystem(), dir / "m.gguf", {}, {{"a", {2}}}).value();
    ASSERT_TRUE(writer.Append(0, "1234").ok());
  }
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

}  // namespace
}  // namespace retort::io
