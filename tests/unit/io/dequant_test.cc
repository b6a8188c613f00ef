// SPDX-License-Identifier: Apache-2.0
#include "core/io/dequant.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <sstream>
#include <vector>

#include "tests/unit/io/temp_folder.h"

namespace retort::io {
namespace {

std::string FromHex(const std::string& hex) {
  std::string out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    out.push_back(static_cast<char>(std::strtol(hex.substr(i, 2).c_str(), nullptr, 16)));
  }
  return out;
}

const GgmlTypeInfo& ByName(const std::string& name) {
  for (uint32_t type = 0; type < 64; ++type) {
    const GgmlTypeInfo* info = FindGgmlType(type);
    if (info != nullptr && info->name == name) return *info;
  }
  throw std::out_of_range(name);
}

// Made by tests/peers/make_gguf_goldens.py with the gguf package. Equal to the bit, but for the
// K types, whose sums the compiler and numpy may round in another order: 1 unit in the last place
// of the largest term (below 0.2 here).
TEST(Dequantize, EqualsThePythonPackage) {
  std::istringstream golden(
      ReadAll(std::string(RETORT_SOURCE_DIR) + "/tests/golden/gguf_dequant.txt"));
  int n_cases = 0;
  for (std::string name, hex; golden >> name >> hex; ++n_cases) {
    const GgmlTypeInfo& info = ByName(name);
    const std::string bytes = FromHex(hex);
    const size_t n = bytes.size() / info.block_bytes * info.block_weights;
    std::vector<float> got(n);
    Dequantize(info.type, bytes.data(), static_cast<int64_t>(n), got.data());
    const float tolerance = name == "Q4_K" || name == "Q6_K" ? 1.5e-8f : 0.0f;
    for (size_t i = 0; i < n; ++i) {
      std::string value;
      golden >> value;
      ASSERT_NEAR(got[i], std::strtof(value.c_str(), nullptr), tolerance) << name << " " << i;
    }
  }
  EXPECT_EQ(n_cases, 7);
}

// All 65,536 halves against exact arithmetic on their fields.
TEST(Half, EveryValueByItsDefinition) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const int exponent = static_cast<int>(bits >> 10 & 31),
              mantissa = static_cast<int>(bits & 1023);
    double want =
        exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    if (exponent == 31) want = mantissa == 0 ? INFINITY : NAN;
    if (bits & 0x8000) want = -want;
    const float got = F16ToF32(static_cast<uint16_t>(bits));
    if (std::isnan(want)) {
      ASSERT_TRUE(std::isnan(got)) << bits;
      ASSERT_TRUE(std::isnan(F16ToF32(F32ToF16(got))));
      continue;
    }
    ASSERT_EQ(got, static_cast<float>(want)) << bits;
    ASSERT_EQ(std::signbit(got), (bits & 0x8000) != 0);
    ASSERT_EQ(F32ToF16(got), bits);
  }
}

TEST(Half, RoundsToNearestEven) {
  for (uint32_t bits = 0; bits + 1 < 0x7C00; ++bits) {
    const float low = F16ToF32(static_cast<uint16_t>(bits)),
                high = F16ToF32(static_cast<uint16_t>(bits + 1));
    const float middle = low + (high - low) / 2;  // exact in f32
    ASSERT_EQ(F32ToF16(middle), bits + (bits & 1)) << bits;
    ASSERT_EQ(F32ToF16(std::nextafter(middle, low)), bits);
    ASSERT_EQ(F32ToF16(std::nextafter(middle, high)), bits + 1);
  }
  EXPECT_EQ(F32ToF16(65519.99f), 0x7BFF);
  EXPECT_EQ(F32ToF16(65520.0f), 0x7C00);
  EXPECT_EQ(F32ToF16(-1e30f), 0xFC00);
}

TEST(BF16, RoundsToNearestEvenAndKeepsNan) {
  EXPECT_EQ(F32ToBF16(1.0f), 0x3F80);
  EXPECT_EQ(F32ToBF16(std::bit_cast<float>(0x3F808000u)), 0x3F80);  // tie to even
  EXPECT_EQ(F32ToBF16(std::bit_cast<float>(0x3F818000u)), 0x3F82);
  EXPECT_EQ(F32ToBF16(std::bit_cast<float>(0x3F808001u)), 0x3F81);
  EXPECT_EQ(F32ToBF16(std::numeric_limits<float>::max()), 0x7F80);
  EXPECT_TRUE(std::isnan(BF16ToF32(F32ToBF16(std::bit_cast<float>(0x7F800001u)))));
  EXPECT_EQ(BF16ToF32(0xC000), -2.0f);
}

TEST(GgmlTypes, NamesForRefusals) {
  EXPECT_EQ(FindGgmlType(10), nullptr);
  EXPECT_EQ(GgmlTypeName(10), "Q2_K");
  EXPECT_EQ(GgmlTypeName(39), "MXFP4");
  EXPECT_EQ(GgmlTypeName(4), "type 4");
  EXPECT_EQ(GgmlTypeName(1000), "type 1000");
}

}  // namespace
}  // namespace retort::io
