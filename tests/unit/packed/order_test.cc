// Sizes, packing and unpacking, and dequantised rows against the readers of core/io.
// SPDX-License-Identifier: Apache-2.0
#include "core/io/dequant.h"
#include "tests/unit/packed/packed_testing.h"

namespace retort::kernels {
namespace {

struct FileType {
  int type;
  io::GgmlType ggml;
};
constexpr FileType kFileTypes[] = {
    {RETORT_PACKED_F32, io::GgmlType::kF32},   {RETORT_PACKED_F16, io::GgmlType::kF16},
    {RETORT_PACKED_BF16, io::GgmlType::kBF16}, {RETORT_PACKED_Q8_0, io::GgmlType::kQ8_0},
    {RETORT_PACKED_Q4_0, io::GgmlType::kQ4_0}, {RETORT_PACKED_Q4_1, io::GgmlType::kQ4_1},
    {RETORT_PACKED_Q4_K, io::GgmlType::kQ4_K}, {RETORT_PACKED_Q6_K, io::GgmlType::kQ6_K}};
constexpr int64_t kRows[] = {1, 7, 15, 16, 17, 37, 64};

// Any bytes are a block, but for the 16-bit floats in it: those get a moderate exponent.
std::vector<uint8_t> RandomFile(const FileType& t, int64_t n, uint32_t seed) {
  const int64_t weights = retort_packed_block_weights(t.type);
  const int64_t bytes = retort_packed_block_bytes(t.type);
  std::mt19937 rng(seed);
  std::vector<uint8_t> file(static_cast<size_t>(n / weights * bytes));
  for (uint8_t& b : file) b = static_cast<uint8_t>(rng());
  if (t.type == RETORT_PACKED_F32) {
    const auto floats = Random<float>(n, seed);
    std::memcpy(file.data(), floats.data(), file.size());
    return file;
  }
  for (int64_t block = 0; block < n / weights; ++block) {
    uint8_t* const at = file.data() + block * bytes;
    const auto tame = [&](int64_t high_byte) {
      at[high_byte] = static_cast<uint8_t>((at[high_byte] & 0x83) | 0x30);
    };
    if (t.type == RETORT_PACKED_Q6_K) {
      tame(209);
    } else {
      tame(1);
    }
    if (t.type == RETORT_PACKED_Q4_1 || t.type == RETORT_PACKED_Q4_K) tame(3);
  }
  return file;
}

TEST(PackedBytes, RefusesPartsOfBlocksAndUnknownTypes) {
  EXPECT_EQ(retort_packed_bytes(RETORT_PACKED_Q8_0, 4, 48), -1);
  EXPECT_EQ(retort_packed_bytes(RETORT_PACKED_Q4_K, 4, 128), -1);
  EXPECT_EQ(retort_packed_bytes(RETORT_PACKED_NF4, 4, 32), -1);
  EXPECT_EQ(retort_packed_bytes(RETORT_PACKED_TYPES, 4, 256), -1);
  EXPECT_EQ(retort_packed_bytes(-1, 4, 256), -1);
  EXPECT_EQ(retort_packed_block_weights(99), -1);
}

TEST(PackedBytes, AreThoseOfTheFileOrLittleMore) {
  for (const FileType& t : kFileTypes) {
    const io::GgmlTypeInfo& info = *io::FindGgmlType(static_cast<uint32_t>(t.ggml));
    EXPECT_EQ(retort_packed_block_weights(t.type), info.block_weights);
    EXPECT_EQ(retort_packed_block_bytes(t.type), info.block_bytes);
    const int64_t file = 576 * 1536 / info.block_weights * info.block_bytes;
    const int64_t packed = retort_packed_bytes(t.type, 576, 1536);
    EXPECT_GE(packed, file) << TypeName(t.type);
    EXPECT_LE(static_cast<double>(packed), 1.03 * static_cast<double>(file)) << TypeName(t.type);
  }
  // 4 bits, 8 bits per 64 weights, 32 per 64 * 256: 4.127 bits per weight.
  const double bits = 8.0 * static_cast<double>(retort_packed_bytes(RETORT_PACKED_NF4, 4096, 4096));
  EXPECT_NEAR(bits / (4096.0 * 4096.0), 4.127, 0.001);
}

TEST(PackRows, UnpackingGivesTheFilesBytesBack) {
  for (const FileType& t : kFileTypes) {
    SCOPED_TRACE(TypeName(t.type));
    const int64_t cols = 3 * retort_packed_block_weights(t.type);
    for (int64_t rows : kRows) {
      const auto file = RandomFile(t, rows * cols, 1);
      const Packed packed(t.type, rows, cols, file);
      Guarded<uint8_t> back(static_cast<int64_t>(file.size()));
      retort_unpack_rows(&packed.matrix, 0, rows, back.data());
      ASSERT_TRUE(std::equal(file.begin(), file.end(), back.data())) << rows;
    }
  }
}

TEST(PackRows, RangesFromUnalignedMemoryGiveTheSameBytes) {
  for (const FileType& t : kFileTypes) {
    SCOPED_TRACE(TypeName(t.type));
    const int64_t rows = 37, cols = 2 * retort_packed_block_weights(t.type);
    const auto file = RandomFile(t, rows * cols, 2);
    const size_t row_bytes = file.size() / static_cast<size_t>(rows);
    const Packed whole(t.type, rows, cols, file);
    std::vector<uint8_t> shifted(file.size() + 1);
    std::memcpy(shifted.data() + 1, file.data(), file.size());
    std::vector<uint8_t> parts(static_cast<size_t>(whole.bytes()), 0xa5);
    for (const auto& [begin, end] : {std::pair{32, 37}, {0, 16}, {16, 32}}) {
      retort_pack_rows(t.type, rows, cols, begin, end,
                       shifted.data() + 1 + static_cast<size_t>(begin) * row_bytes, parts.data());
    }
    EXPECT_EQ(std::memcmp(parts.data(), whole.data(), parts.size()), 0);
    std::vector<uint8_t> some(4 * row_bytes);
    retort_unpack_rows(&whole.matrix, 14, 18, some.data());
    EXPECT_EQ(std::memcmp(some.data(), file.data() + 14 * row_bytes, some.size()), 0);
  }
}

TEST(PackedRows, EqualTheFilesReaderToTheBit) {
  for (const FileType& t : kFileTypes) {
    SCOPED_TRACE(TypeName(t.type));
    const int64_t cols = 3 * retort_packed_block_weights(t.type);
    for (int64_t rows : kRows) {
      const auto file = RandomFile(t, rows * cols, 3);
      std::vector<float> want(static_cast<size_t>(rows * cols));
      io::Dequantize(t.ggml, reinterpret_cast<const char*>(file.data()), rows * cols, want.data());
      const Packed packed(t.type, rows, cols, file);
      ASSERT_EQ(std::memcmp(packed.Rows().data(), want.data(), want.size() * sizeof(float)), 0);
    }
  }
}

TEST(PackedRows, AnyRangeAndStride) {
  for (int type = 0; type < RETORT_PACKED_TYPES; ++type) {
    SCOPED_TRACE(TypeName(type));
    const int64_t cols = retort_packed_block_weights(type) * 2;
    const auto packed = RandomPacked(type, 21, cols, 4);
    const auto whole = packed->Rows();
    std::vector<float> some(static_cast<size_t>(5 * (cols + 3)), -7.0f);
    retort_packed_rows_f32(&packed->matrix, 14, 19, some.data(), cols + 3);
    for (int64_t r = 0; r < 5; ++r) {
      EXPECT_EQ(std::memcmp(some.data() + r * (cols + 3), whole.data() + (14 + r) * cols,
                            static_cast<size_t>(cols) * sizeof(float)),
                0);
      EXPECT_EQ(some[static_cast<size_t>(r * (cols + 3) + cols)], -7.0f);
    }
  }
}

TEST(PackedEmbed, GivesScaledRowsByTheirIds) {
  for (int type = 0; type < RETORT_PACKED_TYPES; ++type) {
    SCOPED_TRACE(TypeName(type));
    const int64_t cols = 256;
    const auto packed = RandomPacked(type, 40, cols, 5);
    const auto rows = packed->Rows();
    const std::vector<int32_t> ids = {39, 0, 17, 17, 5};
    for (int threads : {1, 2}) {
      std::vector<float> y(ids.size() * size_t(cols));
      retort_packed_embed_f32(&packed->matrix, ids.data(), int64_t(ids.size()), 1.5, y.data(), 0,
                              threads);
      for (size_t i = 0; i < y.size(); ++i) {
        ASSERT_EQ(y[i],
                  rows[size_t(ids[i / size_t(cols)]) * size_t(cols) + i % size_t(cols)] * 1.5f);
      }
    }
  }
}

}  // namespace
}  // namespace retort::kernels
