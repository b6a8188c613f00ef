// SPDX-License-Identifier: Apache-2.0
#include "core/io/safetensors.h"

#include <gmock/gmock.h>

#include <cstring>

#include "core/io/dequant.h"
#include "tests/unit/io/temp_folder.h"

namespace retort::io {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<float> Iota(size_t n) {
  std::vector<float> v(n);
  for (size_t i = 0; i < n; ++i) v[i] = static_cast<float>(i) * 0.5f - 1;
  return v;
}

TensorView View(std::vector<float>& v, std::initializer_list<int64_t> shape) {
  return TensorView::Contiguous(v.data(), DType::kF32, shape);
}

TEST(SafetensorsWrite, LayoutIsBySizeThenNameAndPadded) {
  const TempFolder dir;
  std::vector<float> a = Iota(2), b = Iota(3), c = Iota(1);
  int64_t step = 7;
  const auto digest = WriteSafetensors(RealFileSystem(), dir / "f",
                                       {{.name = "b", .view = View(b, {3}), .stored = DType::kBF16},
                                        {.name = "z", .view = View(a, {1, 2})},
                                        {.name = "c", .view = View(c, {}), .stored = DType::kF32},
                                        {.name = "step",
                                         .view = TensorView::Contiguous(&step, DType::kI64, {1}),
                                         .stored = DType::kI64}});
  ASSERT_TRUE(digest.ok()) << digest.status().message();
  const std::string bytes = ReadAll(dir / "f");
  EXPECT_EQ(digest.value().hash, HashHex(bytes));
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  EXPECT_EQ(length % 8, 0u);
  // Written out by hand after the format's rules.
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"step":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},)"
      R"("c":{"dtype":"F32","shape":[],"data_offsets":[8,12]},)"
      R"("z":{"dtype":"F32","shape":[1,2],"data_offsets":[12,20]},)"
      R"("b":{"dtype":"BF16","shape":[3],"data_offsets":[20,26]}})";
  EXPECT_EQ(bytes.substr(8, header.size()), header);
  EXPECT_EQ(bytes.substr(8 + header.size(), length - header.size()).find_first_not_of(' '),
            std::string::npos);
  const uint16_t bf16[3] = {0xBF80, 0xBF00, 0x0000};  // -1, -0.5, 0
  EXPECT_EQ(std::memcmp(bytes.data() + 8 + length + 20, bf16, 6), 0);
}

TEST(SafetensorsWrite, ReadsBackEqual) {
  const TempFolder dir;
  std::vector<float> a = Iota(12), big = Iota(700'000);
  ASSERT_TRUE(
      WriteSafetensors(RealFileSystem(), dir / "f",
                       {{.name = "a", .view = View(a, {3, 4})},
                        {.name = "big", .view = View(big, {7, 100'000}), .stored = DType::kF16}})
          .ok());
  const Safetensors file = Safetensors::Open(dir / "f").value();
  ASSERT_EQ(file.entries().size(), 2u);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.bytes(*file.Find("a")), std::string_view(reinterpret_cast<char*>(a.data()), 48));
  std::vector<double> read(big.size());
  ASSERT_TRUE(
      CastFloats("F16", file.bytes(*file.Find("big")).data(), 700'000, DType::kF64, read.data())
          .ok());
  for (size_t i = 0; i < 2000; ++i) ASSERT_EQ(read[i], big[i]);  // exact in 11 bits
  EXPECT_EQ(read.back(), static_cast<double>(F16ToF32(F32ToF16(big.back()))));
}

TEST(SafetensorsWrite, GathersStridedViews) {
  const TempFolder dir;
  std::vector<float> m = Iota(6);
  TensorView transposed = View(m, {2, 3});
  std::swap(transposed.shape[0], transposed.shape[1]);
  std::swap(transposed.strides[0], transposed.strides[1]);
  TensorView padded = View(m, {2, 2});
  padded.strides[0] = 3;
  ASSERT_TRUE(WriteSafetensors(RealFileSystem(), dir / "f",
                               {{.name = "t", .view = transposed},
                                {.name = "p", .view = padded},
                                {.name = "h", .view = transposed, .stored = DType::kBF16}})
                  .ok());
  const Safetensors file = Safetensors::Open(dir / "f").value();
  const auto floats = [&](const char* name, size_t n) {
    std::vector<float> out(n);
    const SafetensorsEntry& e = *file.Find(name);
    EXPECT_TRUE(
        CastFloats(e.dtype, file.bytes(e).data(), static_cast<int64_t>(n), DType::kF32, out.data())
            .ok());
    return out;
  };
  EXPECT_THAT(floats("t", 6), ElementsAre(m[0], m[3], m[1], m[4], m[2], m[5]));
  EXPECT_THAT(floats("h", 6), ElementsAre(m[0], m[3], m[1], m[4], m[2], m[5]));
  EXPECT_THAT(floats("p", 4), ElementsAre(m[0], m[1], m[3], m[4]));
  EXPECT_EQ(file.Find("t")->shape, (std::vector<int64_t>{3, 2}));
}

TEST(SafetensorsWrite, EqualInputGivesEqualBytesAndMistakesAreRefused) {
  const TempFolder dir;
  std::vector<float> a = Iota(2);
  const SafetensorsItem x{.name = "x", .view = View(a, {2})}, y{.name = "y", .view = View(a, {2})};
  const auto one = WriteSafetensors(RealFileSystem(), dir / "1", {x, y});
  const auto two = WriteSafetensors(RealFileSystem(), dir / "2", {y, x});
  EXPECT_EQ(one.value().hash, two.value().hash);
  SafetensorsItem half = x;
  half.stored = DType::kBF16;
  EXPECT_THAT(WriteSafetensors(RealFileSystem(), dir / "3", {x, half}).status().message(),
              HasSubstr("given twice"));
  half.stored = DType::kI32;
  EXPECT_THAT(WriteSafetensors(RealFileSystem(), dir / "3", {half}).status().message(),
              HasSubstr("can't be stored as i32"));
  EXPECT_FALSE(RealFileSystem().Exists(dir / "3"));
}

// Files that Python's safetensors wrote: two f32 shards, and bf16.
TEST(SafetensorsRead, FilesOfThePythonPackage) {
  const std::string fixtures = std::string(RETORT_SOURCE_DIR) + "/tests/fixtures/";
  const Safetensors llama = Safetensors::OpenFolder(fixtures + "llama").value();
  EXPECT_EQ(llama.files().size(), 2u);
  ASSERT_NE(llama.Find("model.embed_tokens.weight"), nullptr);
  EXPECT_EQ(llama.Find("model.embed_tokens.weight")->shape, (std::vector<int64_t>{512, 32}));
  const Safetensors qwen2 = Safetensors::OpenFolder(fixtures + "qwen2").value();
  EXPECT_EQ(qwen2.Find("lm_head.weight")->dtype, "BF16");
  EXPECT_EQ(qwen2.metadata().at("format"), "pt");
}

TEST(CastFloats, EveryPairOfTypes) {
  const double f64[2] = {1.5, -0.25};
  const float f32[2] = {1.5f, -0.25f};
  const uint16_t f16[2] = {0x3E00, 0xB400}, bf16[2] = {0x3FC0, 0xBE80};
  const std::pair<const char*, const void*> stored[] = {
      {"F64", f64}, {"F32", f32}, {"F16", f16}, {"BF16", bf16}};
  for (const auto& [dtype, data] : stored) {
    float narrow[2] = {};
    double wide[2] = {};
    ASSERT_TRUE(CastFloats(dtype, static_cast<const char*>(data), 2, DType::kF32, narrow).ok());
    ASSERT_TRUE(CastFloats(dtype, static_cast<const char*>(data), 2, DType::kF64, wide).ok());
    EXPECT_THAT(narrow, ElementsAre(1.5f, -0.25f)) << dtype;
    EXPECT_THAT(wide, ElementsAre(1.5, -0.25)) << dtype;
  }
  float out[1];
  EXPECT_EQ(CastFloats("I32", nullptr, 1, DType::kF32, out).code(), Code::kUnimplemented);
}

}  // namespace
}  // namespace retort::io
