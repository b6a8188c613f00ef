// Tensors that the numeric rules hand to a plugin: between red zones, with gaps between rows where
// asked for, every byte that no element covers a quiet NaN pattern. Elements are read and written
// as doubles, by their row-major index, whatever the dtype.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/rng.h"
#include "retort/abi/tensor.h"

namespace retort::host::check {

enum class Elem : uint8_t { kF32, kF64, kF16, kBF16, kI64, kI32, kU8, kI8 };
int64_t ElemSize(Elem elem);
retort_dtype DtypeOf(Elem elem);
const char* ElemName(Elem elem);
// The other way round; false: none of them.
bool ElemOf(retort_dtype dtype, Elem* elem);

// x rounded to the nearest bf16, ties to even.
double RoundToBf16(double x);

class Tensor {
 public:
  // `pad`: elements between two rows (the last dimension's), for two dimensions and more. Elements
  // start as the NaN pattern (integers: as its bits).
  Tensor(std::string name, Elem elem, std::vector<int64_t> shape, int64_t pad = 0);

  Tensor(const Tensor& other);  // damage and device too, not what Remember took
  Tensor& operator=(const Tensor& other) { return *this = Tensor(other); }
  Tensor(Tensor&&) noexcept = default;
  Tensor& operator=(Tensor&&) noexcept = default;

  retort_tensor* get() { return &raw_; }
  const std::string& name() const { return name_; }
  Elem elem() const { return elem_; }
  const std::vector<int64_t>& shape() const { return shape_; }
  int64_t size() const { return size_; }  // elements

  double At(int64_t i) const;
  void Set(int64_t i, double value);
  void Fill(double value);
  void Poison();  // elements become the NaN pattern again
  // Normal numbers of that deviation.
  void Randomise(Rng* rng, double deviation, double mean = 0);
  bool SameBits(int64_t i, const Tensor& other, int64_t j) const;

  // Copies of rows [begin, end) of the first dimension, with the same padding.
  Tensor Rows(int64_t begin, int64_t end) const;
  // The same numbers in another dtype, or with another gap between rows.
  Tensor As(Elem elem, int64_t pad = 0) const;
  // Puts the elements of `part` in from row `begin` on.
  void SetRows(int64_t begin, const Tensor& part);

  // "" or where the first byte outside the elements is that was overwritten.
  std::string Damage() const;
  // Takes the present elements as those that must stay; Change gives "" or the first that differs.
  void Remember() { before_ = block_; }
  std::string Change() const;
  // "logits[3, 17]".
  std::string Where(int64_t i) const;

 private:
  static constexpr size_t kZone = 256;
  int64_t Offset(int64_t i) const;  // bytes from the first element
  const unsigned char* bytes() const { return block_.data() + begin_; }
  unsigned char* bytes() { return block_.data() + begin_; }

  std::string name_;
  Elem elem_;
  int64_t size_ = 1, cols_ = 1, row_ = 1;  // row_: elements from row to row
  std::vector<int64_t> shape_, strides_;
  std::vector<unsigned char> block_, before_;
  size_t begin_ = 0, length_ = 0;
  retort_tensor raw_{};
};

}  // namespace retort::host::check
