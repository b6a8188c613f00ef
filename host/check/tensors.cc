// SPDX-License-Identifier: Apache-2.0
#include "host/check/tensors.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace retort::host::check {
namespace {

// Read as f32 or f64 at a multiple of 4: a quiet NaN.
constexpr unsigned char kPattern[4] = {0xA5, 0xA5, 0xFD, 0xFF};
constexpr size_t kAlignment = 64;

struct ElemInfo {
  const char* name;
  retort_dtype dtype;
};
constexpr ElemInfo kInfos[] = {
    {"f32", {RETORT_DTYPE_FLOAT, 32, 1}}, {"f64", {RETORT_DTYPE_FLOAT, 64, 1}},
    {"f16", {RETORT_DTYPE_FLOAT, 16, 1}}, {"bf16", {RETORT_DTYPE_BFLOAT, 16, 1}},
    {"i64", {RETORT_DTYPE_INT, 64, 1}},   {"i32", {RETORT_DTYPE_INT, 32, 1}},
    {"u8", {RETORT_DTYPE_UINT, 8, 1}},    {"i8", {RETORT_DTYPE_INT, 8, 1}},
};
const ElemInfo& InfoOf(Elem elem) { return kInfos[static_cast<size_t>(elem)]; }

template <class T>
double Load(const unsigned char* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return static_cast<double>(value);
}
template <class T>
void Store(unsigned char* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

uint16_t ToBf16Bits(double x) {
  const auto f = static_cast<float>(x);
  uint32_t bits = 0;
  std::memcpy(&bits, &f, sizeof bits);
  if (std::isnan(f)) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}
double FromBf16Bits(uint16_t half) {
  const uint32_t bits = uint32_t{half} << 16;
  float f = 0;
  std::memcpy(&f, &bits, sizeof f);
  return double{f};
}

}  // namespace

int64_t ElemSize(Elem elem) { return InfoOf(elem).dtype.bits / 8; }
retort_dtype DtypeOf(Elem elem) { return InfoOf(elem).dtype; }
const char* ElemName(Elem elem) { return InfoOf(elem).name; }

bool ElemOf(retort_dtype dtype, Elem* elem) {
  for (size_t i = 0; i < std::size(kInfos); ++i) {
    if (std::memcmp(&kInfos[i].dtype, &dtype, sizeof dtype) != 0) continue;
    *elem = static_cast<Elem>(i);
    return true;
  }
  return false;
}

double RoundToBf16(double x) { return FromBf16Bits(ToBf16Bits(x)); }

Tensor::Tensor(std::string name, Elem elem, std::vector<int64_t> shape, int64_t pad)
    : name_(std::move(name)), elem_(elem), shape_(std::move(shape)), strides_(shape_.size(), 1) {
  for (const int64_t d : shape_) size_ *= d;
  cols_ = shape_.empty() ? 1 : shape_.back();
  row_ = cols_ + (shape_.size() > 1 ? pad : 0);
  for (size_t i = shape_.size(); i-- > 1;) {
    strides_[i - 1] = i + 1 == shape_.size() ? row_ : strides_[i] * shape_[i];
  }
  const int64_t rows = cols_ == 0 ? 0 : size_ / cols_;
  length_ = static_cast<size_t>((rows == 0 ? 0 : (rows - 1) * row_ + cols_) * ElemSize(elem));
  block_.resize(length_ + 2 * kZone + kAlignment);
  const auto address = reinterpret_cast<uintptr_t>(block_.data()) + kZone;
  begin_ = kZone + (kAlignment - address % kAlignment) % kAlignment;
  for (size_t i = 0; i < block_.size(); ++i) block_[i] = kPattern[(i - begin_) % 4];
  raw_ = {.data = size_ == 0 ? nullptr : bytes(),
          .device = {RETORT_DEVICE_CPU, 0},
          .ndim = static_cast<int32_t>(shape_.size()),
          .dtype = DtypeOf(elem),
          .shape = shape_.data(),
          .strides = strides_.data(),
          .byte_offset = 0};
}

Tensor::Tensor(const Tensor& other)
    : Tensor(other.name_, other.elem_, other.shape_, other.row_ - other.cols_) {
  std::memcpy(bytes() - kZone, other.bytes() - kZone, length_ + 2 * kZone);
  raw_.device = other.raw_.device;
}

int64_t Tensor::Offset(int64_t i) const { return (i / cols_ * row_ + i % cols_) * ElemSize(elem_); }

double Tensor::At(int64_t i) const {
  const unsigned char* at = bytes() + Offset(i);
  switch (elem_) {
    case Elem::kF32: return Load<float>(at);
    case Elem::kF64: return Load<double>(at);
    case Elem::kI64: return Load<int64_t>(at);
    case Elem::kI32: return Load<int32_t>(at);
    case Elem::kU8: return Load<uint8_t>(at);
    case Elem::kI8: return Load<int8_t>(at);
    case Elem::kF16: return Load<uint16_t>(at);  // as bits: no rule computes with it
    case Elem::kBF16: {
      uint16_t half = 0;
      std::memcpy(&half, at, sizeof half);
      return FromBf16Bits(half);
    }
  }
  return 0;
}

void Tensor::Set(int64_t i, double value) {
  unsigned char* at = bytes() + Offset(i);
  switch (elem_) {
    case Elem::kF32: return Store(at, static_cast<float>(value));
    case Elem::kF64: return Store(at, value);
    case Elem::kI64: return Store(at, static_cast<int64_t>(value));
    case Elem::kI32: return Store(at, static_cast<int32_t>(value));
    case Elem::kU8: return Store(at, static_cast<uint8_t>(value));
    case Elem::kI8: return Store(at, static_cast<int8_t>(value));
    case Elem::kF16: return Store(at, static_cast<uint16_t>(value));
    case Elem::kBF16: return Store(at, ToBf16Bits(value));
  }
}

void Tensor::Fill(double value) {
  for (int64_t i = 0; i < size_; ++i) Set(i, value);
}

void Tensor::Poison() {
  for (int64_t i = 0; i < size_; ++i) {
    const auto at = static_cast<size_t>(Offset(i));
    for (size_t b = 0; b < static_cast<size_t>(ElemSize(elem_)); ++b) {
      bytes()[at + b] = kPattern[(at + b) % 4];
    }
  }
}

void Tensor::Randomise(Rng* rng, double deviation, double mean) {
  for (int64_t i = 0; i < size_; ++i) Set(i, mean + deviation * rng->Normal());
}

bool Tensor::SameBits(int64_t i, const Tensor& other, int64_t j) const {
  return std::memcmp(bytes() + Offset(i), other.bytes() + other.Offset(j),
                     static_cast<size_t>(ElemSize(elem_))) == 0;
}

Tensor Tensor::Rows(int64_t begin, int64_t end) const {
  std::vector<int64_t> shape = shape_;
  shape[0] = end - begin;
  Tensor part(name_, elem_, shape, row_ - cols_);
  const int64_t each = shape_[0] == 0 ? 0 : size_ / shape_[0];
  for (int64_t i = 0; i < part.size_; ++i) {
    std::memcpy(part.bytes() + part.Offset(i), bytes() + Offset(begin * each + i),
                static_cast<size_t>(ElemSize(elem_)));
  }
  return part;
}

Tensor Tensor::As(Elem elem, int64_t pad) const {
  Tensor other(name_, elem, shape_, pad);
  for (int64_t i = 0; i < size_; ++i) other.Set(i, At(i));
  return other;
}

void Tensor::SetRows(int64_t begin, const Tensor& part) {
  const int64_t each = shape_[0] == 0 ? 0 : size_ / shape_[0];
  for (int64_t i = 0; i < part.size_; ++i) {
    std::memcpy(bytes() + Offset(begin * each + i), part.bytes() + part.Offset(i),
                static_cast<size_t>(ElemSize(elem_)));
  }
}

std::string Tensor::Damage() const {
  const auto row_bytes = static_cast<size_t>(row_ * ElemSize(elem_));
  const auto used = static_cast<size_t>(cols_ * ElemSize(elem_));
  for (size_t i = begin_ - kZone; i < begin_ + length_ + kZone && i < block_.size(); ++i) {
    if (block_[i] == kPattern[(i - begin_) % 4]) continue;
    if (i < begin_) {
      return "byte " + std::to_string(begin_ - i) + " before the start of " + name_ +
             " was overwritten";
    }
    const size_t at = i - begin_;
    if (at >= length_) {
      return "byte " + std::to_string(at - length_) + " after the end of " + name_ +
             " was overwritten";
    }
    if (at % row_bytes >= used) {
      return "byte " + std::to_string(at % row_bytes - used) + " after row " +
             std::to_string(at / row_bytes) + " of " + name_ +
             " was overwritten (it lies between the rows)";
    }
  }
  return "";
}

std::string Tensor::Change() const {
  if (before_.size() != block_.size()) return "";
  for (int64_t i = 0; i < size_; ++i) {
    const auto at = begin_ + static_cast<size_t>(Offset(i));
    if (std::memcmp(&block_[at], &before_[at], static_cast<size_t>(ElemSize(elem_))) != 0) {
      return "the input " + Where(i) + " was written to: now " + std::to_string(At(i));
    }
  }
  return "";
}

std::string Tensor::Where(int64_t i) const {
  std::string text;
  for (size_t d = shape_.size(); d-- > 0;) {
    text = std::to_string(i % shape_[d]) + (text.empty() ? "" : ", ") + text;
    i /= shape_[d];
  }
  return name_ + "[" + text + "]";
}

}  // namespace retort::host::check
