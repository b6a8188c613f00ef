// SPDX-License-Identifier: Apache-2.0
#include "core/model/row_writer.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "core/model/packed.h"
#include "core/model/params.h"

namespace retort::model {
namespace {

constexpr int64_t kGroup = RETORT_PACKED_ROWS;

uint16_t Load16(const unsigned char* p) {
  uint16_t bits = 0;
  std::memcpy(&bits, p, sizeof bits);
  return bits;
}

// Where the f16 scales of a block lie; -1: there is no second one.
struct Scales {
  int first = 0, second = -1;
};
Scales ScalesOf(DType dtype) {
  switch (dtype) {
    case DType::kQ4_1:
    case DType::kQ4_K: return {.first = 0, .second = 2};
    case DType::kQ6_K: return {.first = 208};
    default: return {};
  }
}

bool BlockIsFinite(DType dtype, const unsigned char* block) {
  constexpr uint16_t kExponent16 = 0x7c00;
  if (dtype == DType::kNF4) {
    uint32_t bits = 0;
    std::memcpy(&bits, block + 32, sizeof bits);
    return (bits & 0x7f800000) != 0x7f800000;
  }
  const Scales at = ScalesOf(dtype);
  return (Load16(block + at.first) & kExponent16) != kExponent16 &&
         (at.second < 0 || (Load16(block + at.second) & kExponent16) != kExponent16);
}

// The inner loop has a fixed length and no branch, so that the compiler makes vectors of it.
template <class T>
int64_t FirstFullExponent(const unsigned char* bytes, int64_t n, T exponent) {
  constexpr int64_t kChunk = 1024;
  const auto finite = [&](int64_t i) {
    T bits{};
    std::memcpy(&bits, bytes + static_cast<size_t>(i) * sizeof bits, sizeof bits);
    return (bits & exponent) != exponent;
  };
  int64_t i = 0;
  for (; i + kChunk <= n; i += kChunk) {
    bool all = true;
    for (int64_t j = 0; j < kChunk; ++j) all &= finite(i + j);
    if (!all) break;
  }
  while (i < n && finite(i)) ++i;
  return i;
}

}  // namespace

int64_t FileRowBytes(DType dtype, int64_t cols) {
  const int type = PackedType(dtype);
  return cols / retort_packed_block_weights(type) * retort_packed_block_bytes(type);
}

int64_t FirstNonFiniteStored(DType dtype, const void* blocks, int64_t n) {
  const auto* bytes = static_cast<const unsigned char*>(blocks);
  switch (dtype) {
    case DType::kF32: return FirstFullExponent<uint32_t>(bytes, n, 0x7f800000);
    case DType::kF16: return FirstFullExponent<uint16_t>(bytes, n, 0x7c00);
    case DType::kBF16: return FirstFullExponent<uint16_t>(bytes, n, 0x7f80);
    default: break;
  }
  const int64_t weights = retort_packed_block_weights(PackedType(dtype));
  const int64_t size = retort_packed_block_bytes(PackedType(dtype));
  for (int64_t i = 0; i < n / weights; ++i) {
    if (!BlockIsFinite(dtype, bytes + i * size)) return i * weights;
  }
  return n;
}

RowWriter::RowWriter(const TensorView& param) : param_(param) {
  const Matrices m = MatricesOf({param.shape.data(), static_cast<size_t>(param.ndim)});
  rows_ = m.rows;
  cols_ = m.cols;
  row_bytes_ = FileRowBytes(param.dtype, cols_);
}

int64_t RowWriter::SliceEnd(int64_t begin, int64_t end) const {
  const int64_t per_slice = std::max(kSliceWeights / std::max(cols_, int64_t{1}), kGroup);
  const int64_t matrix_end = (begin / rows_ + 1) * rows_;
  return std::min({begin + per_slice / kGroup * kGroup, matrix_end, end});
}

bool RowWriter::Packable(int64_t begin, int64_t end) const {
  if (!IsBlockType(param_.dtype) || rows_ == 0) return true;
  if (param_.dtype == DType::kNF4) return false;  // its second quantisation sees a whole matrix
  const auto ends_group = [&](int64_t row) { return row % rows_ % kGroup == 0; };
  return ends_group(begin) && ends_group(end);
}

void RowWriter::Stage() {
  if (!IsBlockType(param_.dtype)) return;
  staged_.resize(static_cast<size_t>(param_.rows() * row_bytes_));
}

void RowWriter::Unstage() {
  if (staged_.empty()) return;
  for (int64_t begin = 0; begin < param_.rows(); begin += rows_) {
    const retort_packed_matrix m = PackedMatrix(param_, begin / rows_);
    retort_pack_rows(m.type, m.rows, m.cols, 0, m.rows, staged_.data() + begin * row_bytes_,
                     const_cast<void*>(m.data));
  }
  staged_ = {};
}

void* RowWriter::InPlace(int64_t begin) const {
  if (!staged_.empty()) return const_cast<unsigned char*>(staged_.data()) + begin * row_bytes_;
  if (IsBlockType(param_.dtype)) return nullptr;
  return static_cast<unsigned char*>(param_.data) + begin * row_bytes_;
}

void RowWriter::WriteStored(int64_t begin, int64_t end, const void* rows) const {
  if (void* place = InPlace(begin)) {
    std::memcpy(place, rows, static_cast<size_t>((end - begin) * row_bytes_));
    return;
  }
  const retort_packed_matrix m = PackedMatrix(param_, begin / rows_);
  const int64_t first = begin % rows_;
  retort_pack_rows(m.type, m.rows, m.cols, first, first + end - begin, rows,
                   const_cast<void*>(m.data));
}

Status RowWriter::WriteF32(int64_t begin, int64_t end, const float* rows,
                           std::string_view weight) const {
  const int64_t n = (end - begin) * cols_;
  std::vector<unsigned char> blocks(static_cast<size_t>((end - begin) * row_bytes_));
  retort_quantize(PackedType(param_.dtype), rows, n, blocks.data());
  const int64_t bad = FirstNonFiniteStored(param_.dtype, blocks.data(), n);
  if (bad < n) {
    return OutOfRange(std::string(weight) + ": element " + std::to_string(begin * cols_ + bad) +
                      ", " + std::to_string(rows[bad]) + ", is too large for " +
                      std::string(DTypeName(param_.dtype)) + "; choose storage bf16 or f32");
  }
  WriteStored(begin, end, blocks.data());
  return OkStatus();
}

void DequantizeRows(const TensorView& param, int64_t row_begin, int64_t row_end, float* out) {
  const Matrices m = MatricesOf({param.shape.data(), static_cast<size_t>(param.ndim)});
  for (int64_t begin = row_begin; begin < row_end;) {
    const int64_t end = std::min((begin / m.rows + 1) * m.rows, row_end);
    const retort_packed_matrix matrix = PackedMatrix(param, begin / m.rows);
    const int64_t first = begin % m.rows;
    retort_packed_rows_f32(&matrix, first, first + end - begin, out, m.cols);
    out += (end - begin) * m.cols;
    begin = end;
  }
}

}  // namespace retort::model
