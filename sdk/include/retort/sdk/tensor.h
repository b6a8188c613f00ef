// Typed, checked access to tensors that the host passes.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_SDK_TENSOR_H_
#define RETORT_SDK_TENSOR_H_

#include <cstdint>
#include <span>
#include <string>
#include <type_traits>

#include "retort/abi/tensor.h"
#include "retort/sdk/guard.h"

namespace retort::sdk {

template <class T>
constexpr bool IsType(retort_dtype d) {
  constexpr uint8_t kCode = std::is_floating_point_v<T> ? RETORT_DTYPE_FLOAT
                            : std::is_signed_v<T>       ? RETORT_DTYPE_INT
                                                        : RETORT_DTYPE_UINT;
  return d.code == kCode && d.bits == 8 * sizeof(T) && d.lanes == 1;
}

// Rows of a matrix, or elements of a vector (cols 1); rows may be padded.
template <class T>
struct Matrix {
  T* data = nullptr;
  int64_t rows = 0, cols = 0, stride = 0;

  T* operator[](int64_t r) const { return data + r * stride; }
  explicit operator bool() const { return rows > 0; }
};

// Throws UNIMPLEMENTED unless it is on the CPU, of T, and has elements of a row adjacent.
template <class T>
Matrix<T> MatrixOf(const retort_tensor& t, const char* name) {
  const bool vector = t.ndim == 1;
  if (t.device.type != RETORT_DEVICE_CPU || !IsType<std::remove_const_t<T>>(t.dtype) ||
      t.ndim < 1 || t.ndim > 2 || (!vector && t.shape[1] > 1 && t.strides[1] != 1)) {
    throw Failure(RETORT_UNIMPLEMENTED,
                  std::string(name) +
                      ": this device, dtype or layout is not supported (type code " +
                      std::to_string(t.dtype.code) + ", " + std::to_string(t.dtype.bits) +
                      " bits, " + std::to_string(t.ndim) + " dimensions)");
  }
  return {static_cast<T*>(t.data), t.shape[0], vector ? 1 : t.shape[1], t.strides[0]};
}

// A flat, contiguous tensor.
template <class T>
std::span<T> FlatOf(const retort_tensor& t, const char* name) {
  int64_t n = 1;
  bool contiguous = true;
  for (int32_t i = t.ndim - 1; i >= 0; --i) {
    contiguous = contiguous && (t.shape[i] == 1 || t.strides[i] == n);
    n *= t.shape[i];
  }
  if (t.device.type != RETORT_DEVICE_CPU || !IsType<std::remove_const_t<T>>(t.dtype) ||
      !contiguous) {
    throw Failure(RETORT_UNIMPLEMENTED,
                  std::string(name) + ": this device, dtype or layout is not supported");
  }
  return {static_cast<T*>(t.data), static_cast<size_t>(n)};
}

}  // namespace retort::sdk

#endif  // RETORT_SDK_TENSOR_H_
