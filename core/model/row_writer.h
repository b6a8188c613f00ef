// Rows of one param on their way into memory, whatever its type.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/base/tensor.h"

namespace retort::model {

// Weights per slice: 1 MiB as f32.
inline constexpr int64_t kSliceWeights = int64_t{1} << 18;

// Bytes of one row of `cols` weights in file order.
int64_t FileRowBytes(DType dtype, int64_t cols);

// Index of the first weight that is not finite, or of the first of a block whose scale isn't, among
// `n` in file order; n: all are finite.
int64_t FirstNonFiniteStored(DType dtype, const void* blocks, int64_t n);

// Rows are counted over all matrices of the param, one below the other. Ranges that don't overlap
// may be written at once.
class RowWriter {
 public:
  explicit RowWriter(const TensorView& param);

  // Where the next rows from `begin` on may end at most: not beyond their matrix or a slice, and
  // where blocks are packed in groups, at the end of one.
  int64_t SliceEnd(int64_t begin, int64_t end) const;
  // Whether rows can be packed in these ranges alone; if not, Stage comes first and Unstage last.
  bool Packable(int64_t begin, int64_t end) const;
  void Stage();
  void Unstage();

  // The memory of row `begin` if rows lie there in file order, else NULL.
  void* InPlace(int64_t begin) const;
  // Rows in file order, and as f32; both at most a slice. `weight`: for errors.
  void WriteStored(int64_t begin, int64_t end, const void* rows) const;
  Status WriteF32(int64_t begin, int64_t end, const float* rows, std::string_view weight) const;

 private:
  TensorView param_;
  int64_t rows_ = 0, cols_ = 0;  // of one matrix
  int64_t row_bytes_ = 0;
  std::vector<unsigned char> staged_;  // the whole param in file order
};

}  // namespace retort::model
