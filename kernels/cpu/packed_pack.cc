// File order to packed order and back (packed_table.h draws both), one row at a time: four bytes
// of codes (a quad's share) move as one 32-bit word.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "kernels/cpu/packed_layout.h"
#include "kernels/cpu/packed_nf4.h"

namespace retort::kernels {
namespace {

constexpr uint32_t kLow4 = 0x0f0f0f0f, kLow2 = 0x03030303, kOffset128 = 0x80808080;

// One row of a group.
struct Lane {
  uint8_t* codes;
  uint8_t* scales;
  int64_t row;
  void Put(int64_t quad, uint32_t word) const { memcpy(codes + quad * 64 + row * 4, &word, 4); }
  uint32_t Get(int64_t quad) const {
    uint32_t word;
    memcpy(&word, codes + quad * 64 + row * 4, 4);
    return word;
  }
  void PutHalf(int64_t at, const uint8_t* from) const { memcpy(scales + at + 2 * row, from, 2); }
  void GetHalf(int64_t at, uint8_t* to) const { memcpy(to, scales + at + 2 * row, 2); }
};

uint32_t Word(const uint8_t* p) {
  uint32_t word;
  memcpy(&word, p, 4);
  return word;
}
void SetWord(uint8_t* p, uint32_t word) { memcpy(p, &word, 4); }

// ---- one block of one row; `lane` points at the block ------------------------------------------

void PackQ8_0(const uint8_t* file, const Lane& lane) {
  lane.PutHalf(0, file);
  for (int q = 0; q < 8; ++q) lane.Put(q, Word(file + 2 + 4 * q) ^ kOffset128);
}
void UnpackQ8_0(const Lane& lane, uint8_t* file) {
  lane.GetHalf(0, file);
  for (int q = 0; q < 8; ++q) SetWord(file + 2 + 4 * q, lane.Get(q) ^ kOffset128);
}

void PackQ4_0(const uint8_t* file, const Lane& lane) {
  lane.PutHalf(0, file);
  for (int q = 0; q < 4; ++q) lane.Put(q, Word(file + 2 + 4 * q));
}
void UnpackQ4_0(const Lane& lane, uint8_t* file) {
  lane.GetHalf(0, file);
  for (int q = 0; q < 4; ++q) SetWord(file + 2 + 4 * q, lane.Get(q));
}

void PackQ4_1(const uint8_t* file, const Lane& lane) {
  lane.PutHalf(0, file);
  lane.PutHalf(32, file + 2);
  for (int q = 0; q < 4; ++q) lane.Put(q, Word(file + 4 + 4 * q));
}
void UnpackQ4_1(const Lane& lane, uint8_t* file) {
  lane.GetHalf(0, file);
  lane.GetHalf(32, file + 2);
  for (int q = 0; q < 4; ++q) SetWord(file + 4 + 4 * q, lane.Get(q));
}

// In the file, 32 bytes hold two sub-blocks of 32 columns, one in the low nibbles, one in the high.
void PackQ4_K(const uint8_t* file, const Lane& lane) {
  const uint8_t* const s = file + 4;
  lane.PutHalf(0, file);
  lane.PutHalf(32, file + 2);
  for (int b = 0; b < 8; ++b) {
    uint8_t* const out = lane.scales + 64 + 32 * b + lane.row;
    out[0] = static_cast<uint8_t>(b < 4 ? s[b] & 63 : (s[b + 4] & 15) | s[b - 4] >> 6 << 4);
    out[16] = static_cast<uint8_t>(b < 4 ? s[b + 4] & 63 : s[b + 4] >> 4 | s[b] >> 6 << 4);
  }
  for (int pair = 0; pair < 4; ++pair) {
    for (int q = 0; q < 4; ++q) {
      const uint32_t near = Word(file + 16 + 32 * pair + 4 * q);
      const uint32_t far = Word(file + 32 + 32 * pair + 4 * q);
      lane.Put(8 * pair + q, (near & kLow4) | (far & kLow4) << 4);
      lane.Put(8 * pair + 4 + q, (near >> 4 & kLow4) | (far & ~kLow4));
    }
  }
}
void UnpackQ4_K(const Lane& lane, uint8_t* file) {
  uint8_t* const s = file + 4;
  lane.GetHalf(0, file);
  lane.GetHalf(32, file + 2);
  const auto scale = [&](int b) { return lane.scales[64 + 32 * b + lane.row]; };
  const auto minimum = [&](int b) { return lane.scales[80 + 32 * b + lane.row]; };
  for (int b = 0; b < 4; ++b) {
    s[b] = static_cast<uint8_t>(scale(b) | scale(b + 4) >> 4 << 6);
    s[b + 4] = static_cast<uint8_t>(minimum(b) | minimum(b + 4) >> 4 << 6);
    s[b + 8] = static_cast<uint8_t>((scale(b + 4) & 15) | minimum(b + 4) << 4);
  }
  for (int pair = 0; pair < 4; ++pair) {
    for (int q = 0; q < 4; ++q) {
      const uint32_t first = lane.Get(8 * pair + q), second = lane.Get(8 * pair + 4 + q);
      SetWord(file + 16 + 32 * pair + 4 * q, (first & kLow4) | (second & kLow4) << 4);
      SetWord(file + 32 + 32 * pair + 4 * q, (first >> 4 & kLow4) | (second & ~kLow4));
    }
  }
}

// In the file, byte i of the low bits' 64 of a half holds quarters i / 32 and i / 32 + 2; a byte of
// the high bits' 32 holds all four quarters.
void PackQ6_K(const uint8_t* file, const Lane& lane) {
  lane.PutHalf(0, file + 208);
  for (int j = 0; j < 16; ++j) lane.scales[32 + 16 * j + lane.row] = file[192 + j];
  for (int block = 0; block < 8; ++block) {  // 32 columns: a quarter of a half
    const int half = block / 4, quarter = block % 4;
    const uint8_t* const low = file + 64 * half + 32 * (quarter & 1);
    const uint8_t* const high = file + 128 + 32 * half;
    const auto low_bits = [&](int q) { return Word(low + 4 * q) >> (quarter / 2 * 4) & kLow4; };
    const auto high_bits = [&](int q) { return Word(high + 4 * q) >> (2 * quarter) & kLow2; };
    for (int q = 0; q < 4; ++q) lane.Put(6 * block + q, low_bits(q) | low_bits(q + 4) << 4);
    for (int h = 0; h < 2; ++h) {
      uint32_t word = 0;
      for (int q = 0; q < 4; ++q) word |= high_bits(4 * h + q) << (2 * q);
      lane.Put(6 * block + 4 + h, word);
    }
  }
}
void UnpackQ6_K(const Lane& lane, uint8_t* file) {
  memset(file, 0, 192);
  lane.GetHalf(0, file + 208);
  for (int j = 0; j < 16; ++j) file[192 + j] = lane.scales[32 + 16 * j + lane.row];
  for (int block = 0; block < 8; ++block) {
    const int half = block / 4, quarter = block % 4;
    uint8_t* const low = file + 64 * half + 32 * (quarter & 1);
    uint8_t* const high = file + 128 + 32 * half;
    for (int q = 0; q < 8; ++q) {
      const uint32_t low_bits = lane.Get(6 * block + q % 4) >> (q / 4 * 4) & kLow4;
      const uint32_t high_bits = lane.Get(6 * block + 4 + q / 4) >> (q % 4 * 2) & kLow2;
      SetWord(low + 4 * q, Word(low + 4 * q) | low_bits << (quarter / 2 * 4));
      SetWord(high + 4 * q, Word(high + 4 * q) | high_bits << (2 * quarter));
    }
  }
}

// Codes alone; the statistics are the whole matrix's business.
void PackNf4(const uint8_t* file, const Lane& lane) {
  for (int i = 0; i < 32; ++i) {
    lane.codes[16 * i + lane.row] = static_cast<uint8_t>(file[i] << 4 | file[i] >> 4);
  }
}
void UnpackNf4(const Lane& lane, uint8_t* file) {
  for (int i = 0; i < 32; ++i) {
    const uint8_t both = lane.codes[16 * i + lane.row];
    file[i] = static_cast<uint8_t>(both << 4 | both >> 4);
  }
}

// ---- one block of four rows: their words stand side by side in the packed order --------------

using Words = uint32_t __attribute__((vector_size(16)));

Words LoadWords(const uint8_t* p) {
  Words words;
  memcpy(&words, p, sizeof(words));
  return words;
}

// Four quads of four rows, `stride` bytes apart in the file; word q of row r becomes word r of q.
void PutFour(const uint8_t* file, int64_t stride, int64_t quad, uint32_t flip, const Lane& lane) {
  const Words a = LoadWords(file), b = LoadWords(file + stride);
  const Words c = LoadWords(file + 2 * stride), d = LoadWords(file + 3 * stride);
  const Words ab = __builtin_shufflevector(a, b, 0, 4, 1, 5);
  const Words cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
  const Words ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const Words cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  const Words rows[4] = {__builtin_shufflevector(ab, cd, 0, 1, 4, 5),
                         __builtin_shufflevector(ab, cd, 2, 3, 6, 7),
                         __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5),
                         __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7)};
  for (int q = 0; q < 4; ++q) {
    const Words words = rows[q] ^ flip;
    memcpy(lane.codes + (quad + q) * 64 + lane.row * 4, &words, sizeof(words));
  }
}
void PutHalves(const uint8_t* file, int64_t stride, int64_t at, const Lane& lane) {
  uint16_t halves[4];
  for (int r = 0; r < 4; ++r) memcpy(&halves[r], file + r * stride, 2);
  memcpy(lane.scales + at + 2 * lane.row, halves, sizeof(halves));
}

void PackFourQ8_0(const uint8_t* file, int64_t stride, const Lane& lane) {
  PutHalves(file, stride, 0, lane);
  PutFour(file + 2, stride, 0, kOffset128, lane);
  PutFour(file + 18, stride, 4, kOffset128, lane);
}
void PackFourQ4_0(const uint8_t* file, int64_t stride, const Lane& lane) {
  PutHalves(file, stride, 0, lane);
  PutFour(file + 2, stride, 0, 0, lane);
}
void PackFourQ4_1(const uint8_t* file, int64_t stride, const Lane& lane) {
  PutHalves(file, stride, 0, lane);
  PutHalves(file + 2, stride, 32, lane);
  PutFour(file + 4, stride, 0, 0, lane);
}

struct BlockOrder {
  void (*pack)(const uint8_t* file, const Lane& lane);
  void (*unpack)(const Lane& lane, uint8_t* file);
  // Blocks of four rows from one whose number is a multiple of four; NULL: row by row.
  void (*pack_four)(const uint8_t* file, int64_t stride, const Lane& lane) = nullptr;
};
constexpr BlockOrder kOrders[RETORT_PACKED_TYPES] = {{nullptr, nullptr},
                                                     {nullptr, nullptr},
                                                     {nullptr, nullptr},
                                                     {PackQ8_0, UnpackQ8_0, PackFourQ8_0},
                                                     {PackQ4_0, UnpackQ4_0, PackFourQ4_0},
                                                     {PackQ4_1, UnpackQ4_1, PackFourQ4_1},
                                                     {PackQ4_K, UnpackQ4_K},
                                                     {PackQ6_K, UnpackQ6_K},
                                                     {PackNf4, UnpackNf4}};

// ---- matrices ----------------------------------------------------------------------------------

// Calls block(lane, number of the block in its row) for each block of a row.
template <class Block>
void ForRow(const PackedType& t, const PackedPlanes& planes, uint8_t* base, int64_t row,
            Block block) {
  Lane lane = {.codes = base + row / kGroup * planes.codes_stride,
               .scales = base + planes.scales_at + row / kGroup * planes.scales_stride,
               .row = row % kGroup};
  for (int64_t b = 0; b < planes.blocks; ++b) {
    block(lane, b);
    lane.codes += t.codes_bytes;
    lane.scales += t.scales_bytes;
  }
}

void Pack(int type, const PackedPlanes& planes, int64_t rows, int64_t begin, int64_t end,
          const uint8_t* file, uint8_t* base) {
  const PackedType& t = *FindPackedType(type);
  if (end == rows && end % kGroup != 0) {  // the padding of the last group
    memset(base + (planes.groups - 1) * planes.codes_stride, 0,
           static_cast<size_t>(planes.codes_stride));
    memset(base + planes.scales_at + (planes.groups - 1) * planes.scales_stride, 0,
           static_cast<size_t>(planes.scales_stride));
  }
  const BlockOrder& order = kOrders[type];
  const int64_t stride = planes.blocks * t.file_bytes;
  for (int64_t row = begin; row < end;) {
    const uint8_t* const from = file + (row - begin) * stride;
    const bool four = order.pack_four != nullptr && row % 4 == 0 && row + 4 <= end;
    ForRow(t, planes, base, row, [&](const Lane& lane, int64_t b) {
      four ? order.pack_four(from + b * t.file_bytes, stride, lane)
           : order.pack(from + b * t.file_bytes, lane);
    });
    row += four ? 4 : 1;
  }
  if (type == RETORT_PACKED_NF4) {
    Nf4QuantizeAbsmax(file, rows, planes.blocks,
                      {.codes = base + planes.scales_at,
                       .group_stride = planes.scales_stride,
                       .scales = reinterpret_cast<float*>(base + planes.nf4_scales_at),
                       .mean = reinterpret_cast<float*>(base + planes.nf4_mean_at)});
  }
}

void Unpack(const PackedView& view, const PackedPlanes& planes, int64_t begin, int64_t end,
            uint8_t* file) {
  const PackedType& t = *FindPackedType(view.type);
  auto* const unpack = kOrders[view.type].unpack;
  for (int64_t row = begin; row < end; ++row) {
    ForRow(t, planes, const_cast<uint8_t*>(view.codes), row, [&](const Lane& lane, int64_t b) {
      unpack(lane, file);
      if (view.type == RETORT_PACKED_NF4) {
        const float scale = view.nf4_scales[(row * planes.blocks + b) / kNf4ScaleBlock];
        const float absmax = view.nf4_dynamic[lane.scales[lane.row]] * scale + view.nf4_mean;
        memcpy(file + 32, &absmax, sizeof(absmax));
      }
      file += t.file_bytes;
    });
  }
}

}  // namespace
}  // namespace retort::kernels

using namespace retort::kernels;  // NOLINT: this file is the C interface of that namespace

extern "C" {

void retort_pack_rows(int type, int64_t rows, int64_t cols, int64_t row_begin, int64_t row_end,
                      const void* blocks, void* packed) noexcept {
  const PackedPlanes planes = PlanesOf(type, rows, cols);
  const int64_t row_bytes = planes.blocks * FindPackedType(type)->file_bytes;
  if (kOrders[type].pack == nullptr) {
    memcpy(static_cast<uint8_t*>(packed) + row_begin * row_bytes, blocks,
           static_cast<size_t>((row_end - row_begin) * row_bytes));
    return;
  }
  Pack(type, planes, rows, row_begin, row_end, static_cast<const uint8_t*>(blocks),
       static_cast<uint8_t*>(packed));
}

void retort_unpack_rows(const retort_packed_matrix* matrix, int64_t row_begin, int64_t row_end,
                        void* blocks) noexcept {
  const PackedPlanes planes = PlanesOf(matrix->type, matrix->rows, matrix->cols);
  const int64_t row_bytes = planes.blocks * FindPackedType(matrix->type)->file_bytes;
  if (kOrders[matrix->type].pack == nullptr) {
    memcpy(blocks, static_cast<const uint8_t*>(matrix->data) + row_begin * row_bytes,
           static_cast<size_t>((row_end - row_begin) * row_bytes));
    return;
  }
  Unpack(ViewOf(*matrix), planes, row_begin, row_end, static_cast<uint8_t*>(blocks));
}

}  // extern "C"
