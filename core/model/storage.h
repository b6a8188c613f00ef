// In which type each weight of a model is kept in memory: what the option `storage` means.
// Matrices that linear nodes, embeddings, heads and experts read may be narrow or packed; norms,
// biases, adapters and the weights of custom ops are f32.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/graph/graph.h"

namespace retort::model {

class Source;

enum class Storage : uint8_t {
  kAuto,  // as the file has them: packed blocks, f16, bf16; else f32. Weights that are trained: f32
  kF32,
  kF16,
  kBF16,
  kQ8_0,
  kQ4_0,
  kQ4_1,
  kQ4_K,
  kQ6_K,
  kNF4,
};

// The values of the option, in one place: "auto", "f32", ... and "auto, f32, ..." for texts.
std::string_view StorageName(Storage storage);
std::string StorageNames(std::string_view separator = ", ");
// INVALID_ARGUMENT with the list, and the nearest name.
Result<Storage> ParseStorage(std::string_view name);

struct StorageOptions {
  Storage storage = Storage::kF32;
  // The base is trained unless the graph has adapters: what gets gradients is f32. kAuto is f32
  // then for all, adapters or not, so that training starts from the same numbers everywhere.
  bool for_training = false;
};

struct StoragePlan {
  std::vector<DType> dtypes;  // of graph.params
  // Params that could not have the type asked for, as sentences ("3 params are q8_0 instead of
  // q4_k: their rows are no multiple of 256 weights (first: ...)").
  std::vector<std::string> notes;
};
// `source`: the model to be read, for kAuto; NULL: kAuto is f32.
StoragePlan PlanStorage(const graph::Graph& graph, const StorageOptions& options,
                        const Source* source);

// Bytes of the memory of a param.
int64_t StoredBytes(DType dtype, const std::vector<int64_t>& shape);

// What is kept, by type, most bytes first.
struct StorageReport {
  struct Part {
    DType dtype = DType::kF32;
    int64_t params = 0, bytes = 0;
  };
  std::vector<Part> parts;
  std::vector<std::string> notes;
};
StorageReport ReportStorage(const graph::Graph& graph, const StoragePlan& plan);
// "q4_1 59.7 MB, q8_0 30.1 MB, f32 0.1 MB"
std::string StorageText(const StorageReport& report);

}  // namespace retort::model
