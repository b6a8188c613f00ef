// How params and checkpoint tensors correspond: shared by loading and saving.
// A matrix here is [rows, cols] with rows = all dimensions but the last, flattened; a vector has
// one element per row. Params and sources of a transposed matrix are both seen as [out, in].
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/graph/graph.h"

namespace retort::model {

struct RowsCols {
  int64_t rows = 1, cols = 1;
};

inline RowsCols AsMatrix(const std::vector<int64_t>& shape, bool transposed = false) {
  RowsCols m;
  if (shape.size() == 1) m.rows = shape[0];
  if (shape.size() < 2) return m;
  for (size_t d = 0; d + 1 < shape.size(); ++d) m.rows *= shape[d];
  m.cols = shape.back();
  return transposed ? RowsCols{m.cols, m.rows} : m;
}

// Rows [param_begin, param_begin + rows) of a param are rows [source_begin, ..) of a tensor.
struct Piece {
  size_t param = 0, source = 0;  // indices: graph.params, param.sources
  int64_t param_begin = 0, source_begin = 0, rows = 0;
};

}  // namespace retort::model
