// Where the tensors of an HF folder lie in a GGUF file: under other names, q and k of llama with
// their rows in another order, experts stacked, gemma's norms as 1 + weight.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/io/gguf.h"
#include "core/model/gguf_arch.h"

namespace retort::model {

// A tensor of the HF folder. Rows here are all dimensions of the file's tensor but the last,
// flattened; of a vector, its elements.
struct GgufPart {
  std::string name;
  std::vector<int64_t> shape;
  size_t tensor = 0;      // index in gguf.tensors()
  int64_t row_begin = 0;  // of the file's rows: an expert's first
  int64_t heads = 0;      // of the rows' order; 0: as in the HF folder
  float minus = 0;        // the weight is the stored one less this
};

// The model type of the file. UNIMPLEMENTED names the architectures that are read.
Result<const GgufArch*> GgufArchOf(const io::Gguf& gguf);

// Sorted by name. Without the file's rotary factors, which are part of the config, and without a
// head that repeats the embedding, byte for byte.
Result<std::vector<GgufPart>> GgufParts(const io::Gguf& gguf, const GgufArch& arch);

// True: output.weight is there, and isn't the embedding again.
bool GgufHasOwnHead(const io::Gguf& gguf);

// HF row (head, half, j) is file row (head, j, half), as llama.cpp's converter writes llama models.
inline int64_t PermutedRow(int64_t row, int64_t head_rows) {
  const int64_t in_head = row % head_rows, half_rows = head_rows / 2;
  return row - in_head + in_head % half_rows * 2 + in_head / half_rows;
}
// The way back.
inline int64_t UnpermutedRow(int64_t row, int64_t head_rows) {
  const int64_t in_head = row % head_rows;
  return row - in_head + in_head % 2 * (head_rows / 2) + in_head / 2;
}
// The file's row of a part's row, of `rows`.
inline int64_t FileRow(const GgufPart& part, int64_t row, int64_t rows) {
  return part.row_begin + (part.heads == 0 ? row : PermutedRow(row, rows / part.heads));
}

// NULL: there is none.
const io::GgufTensor* FindTensor(const io::Gguf& gguf, std::string_view name);

}  // namespace retort::model
