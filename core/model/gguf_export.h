// A model as a GGUF file: first a plan (keys, tensors with their types and where their weights come
// from, warnings), then the writing, a few rows at a time.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/graph/graph.h"
#include "core/io/gguf_write.h"
#include "core/model/source.h"

namespace retort::model {

// The types that weights can be written in, by name ("q8_0"): one list for flags and messages.
std::string_view ExportTypeName(io::GgmlType type);
std::string ExportTypeNames();
Result<io::GgmlType> ParseExportType(std::string_view name);

struct ExportTypes {
  io::GgmlType type = io::GgmlType::kF16;  // of matrices
  // Of output.weight, or of the embedding that is the head too; absent: `type`, but q6_k (else
  // q8_0) where that has 4 bits: the head's rounding shows in every logit.
  std::optional<io::GgmlType> head;
};

// Weights [row_begin, row_end) of a tensor as f32; rows are all dimensions but the last.
using RowReader = std::function<Status(int64_t row_begin, int64_t row_end, float* out)>;

struct ExportTensor {
  io::GgufItem item;
  std::string cls;  // TensorClass, for reports
  RowReader read;
  std::string_view stored{};  // bytes to be copied as they are, instead of reading
};

struct GgufExport {
  io::GgufKvs kvs;
  std::vector<ExportTensor> tensors;
  std::vector<std::string> warnings;  // what llama.cpp will do otherwise, types that didn't fit
};

// `source`: a model in HF's form (also a GGUF's view), which must outlive the plan; `graph`: its
// graph. Refuses, by name, what GGUF has no place for.
Result<GgufExport> PlanExport(const Source& source, const graph::Graph& graph,
                              const ExportTypes& types);

// The same file in other types: keys and names of the source, of any architecture.
Result<GgufExport> PlanRequantize(const io::Gguf& gguf, const ExportTypes& types);

// By class of tensors and type.
struct ExportClass {
  int64_t tensors = 0, weights = 0;
  uint64_t bytes = 0;
  double square_error = 0, square_weight = 0, max_error = 0;  // of rounding to the type
};
struct ExportReport {
  io::FileDigest file;
  std::map<std::pair<std::string, io::GgmlType>, ExportClass> classes;
};
struct ExportOptions {
  int32_t n_threads = 1;
  std::function<bool(uint64_t bytes_done, uint64_t bytes_all)> progress;  // false: stop (CANCELLED)
};
Result<ExportReport> WriteGguf(io::FileSystem& fs, const std::string& path, const GgufExport& plan,
                               const ExportOptions& options);

}  // namespace retort::model
