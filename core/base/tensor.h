// A borrowed view of a tensor: what passes between files of core instead of any library's
// tensor type. It owns nothing; whoever hands it over keeps the memory alive for the call.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cassert>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>

namespace retort {

// Element types, then the block types of stored weights (from kQ8_0 on): a row is a whole number
// of blocks, and only kernels/packed.h knows how blocks lie in memory.
enum class DType : uint8_t {
  kF32,
  kF64,
  kF16,
  kBF16,
  kI64,
  kI32,
  kI16,
  kI8,
  kU8,
  kBool,
  kQ8_0,
  kQ4_0,
  kQ4_1,
  kQ4_K,
  kQ6_K,
  kNF4,
};

constexpr bool IsBlockType(DType t) { return t >= DType::kQ8_0; }

// Bytes of one element; 0 for block types.
constexpr int64_t DTypeSize(DType t) {
  switch (t) {
    case DType::kF64:
    case DType::kI64: return 8;
    case DType::kF32:
    case DType::kI32: return 4;
    case DType::kF16:
    case DType::kBF16:
    case DType::kI16: return 2;
    case DType::kI8:
    case DType::kU8:
    case DType::kBool: return 1;
    default: return 0;
  }
}

constexpr std::string_view DTypeName(DType t) {
  constexpr std::array<std::string_view, 16> kNames = {
      "f32", "f64",  "f16",  "bf16", "i64",  "i32",  "i16",  "i8",
      "u8",  "bool", "q8_0", "q4_0", "q4_1", "q4_k", "q6_k", "nf4"};
  return kNames[static_cast<size_t>(t)];
}

// At most four dimensions; strides in elements. Rows may be padded (strides[0] > shape[1]).
// Of a block type the view is a whole matrix [out, in] as retort_packed_matrix describes it:
// strides, bytes() and Rows() mean nothing there.
struct TensorView {
  static constexpr int kMaxDims = 4;

  void* data = nullptr;
  DType dtype = DType::kF32;
  int ndim = 0;
  std::array<int64_t, kMaxDims> shape{};
  std::array<int64_t, kMaxDims> strides{};

  static TensorView Contiguous(void* data, DType dtype, std::span<const int64_t> shape) {
    assert(shape.size() <= kMaxDims);
    TensorView v{.data = data, .dtype = dtype, .ndim = static_cast<int>(shape.size())};
    int64_t stride = 1;
    for (int i = v.ndim - 1; i >= 0; --i) {
      v.shape[i] = shape[i];
      v.strides[i] = stride;
      stride *= shape[i];
    }
    return v;
  }
  static TensorView Contiguous(void* data, DType dtype, std::initializer_list<int64_t> shape) {
    return Contiguous(data, dtype, std::span<const int64_t>(shape.begin(), shape.size()));
  }

  int64_t numel() const {
    int64_t n = 1;
    for (int i = 0; i < ndim; ++i) n *= shape[i];
    return n;
  }
  int64_t rows() const { return ndim == 0 ? 1 : numel() / (shape[ndim - 1] ? shape[ndim - 1] : 1); }
  int64_t cols() const { return ndim == 0 ? 1 : shape[ndim - 1]; }
  int64_t bytes() const { return numel() * DTypeSize(dtype); }
  bool contiguous() const {
    int64_t stride = 1;
    for (int i = ndim - 1; i >= 0; --i) {
      if (shape[i] != 1 && strides[i] != stride) return false;
      stride *= shape[i];
    }
    return true;
  }
  template <class T>
  T* as() const {
    assert(sizeof(T) == static_cast<size_t>(DTypeSize(dtype)));
    return static_cast<T*>(data);
  }
  // Rows [begin, end) of the first dimension.
  TensorView Rows(int64_t begin, int64_t end) const {
    TensorView v = *this;
    v.data = static_cast<char*>(data) + begin * strides[0] * DTypeSize(dtype);
    v.shape[0] = end - begin;
    return v;
  }
};

}  // namespace retort
