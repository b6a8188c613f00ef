// Arithmetic on sizes that come from files: a wrap-around is an answer, never a value.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>
#include <span>

namespace retort {

// True and *out = a * b (a + b) if the result fits; false and *out untouched if it doesn't.
template <std::integral T>
[[nodiscard]] constexpr bool CheckedMul(T a, T b, T* out) {
  T result{};
  if (__builtin_mul_overflow(a, b, &result)) return false;
  *out = result;
  return true;
}
template <std::integral T>
[[nodiscard]] constexpr bool CheckedAdd(T a, T b, T* out) {
  T result{};
  if (__builtin_add_overflow(a, b, &result)) return false;
  *out = result;
  return true;
}

// The number of elements of `shape`; false if a dimension is negative or the product overflows.
[[nodiscard]] constexpr bool CheckedNumel(std::span<const int64_t> shape, int64_t* out) {
  int64_t n = 1;
  for (int64_t d : shape) {
    if (d < 0 || !CheckedMul(n, d, &n)) return false;
  }
  *out = n;
  return true;
}

// True if [offset, offset + length) lies inside [0, size), without computing a wrapped sum.
[[nodiscard]] constexpr bool RangeFits(uint64_t offset, uint64_t length, uint64_t size) {
  return offset <= size && length <= size - offset;
}

}  // namespace retort
