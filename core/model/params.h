// The weights of a graph in memory, how they come from a model on disk or from init rules,
// and how they go back into an HF folder. No LibTorch: views are core's own.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/graph/graph.h"
#include "core/io/filesystem.h"
#include "core/model/source.h"
#include "core/model/storage.h"

namespace retort::model {

// Owns the storage of all params of a graph, each of its own type (core/model/packed.h says how one
// lies in memory) and 64-byte aligned, in one allocation, in params order. Memory is zero until
// written. Views stay valid over moves.
class ParamStore {
 public:
  ParamStore() = default;
  // `dtypes`: of graph.params, as PlanStorage gives them; without: all f32. RESOURCE_EXHAUSTED with
  // the size wanted if the system doesn't give it.
  static Result<ParamStore> Allocate(const graph::Graph& graph, std::span<const DType> dtypes = {});
  ParamStore(ParamStore&&) noexcept;
  ParamStore& operator=(ParamStore&&) noexcept;
  ~ParamStore();

  size_t size() const { return views_.size(); }
  const TensorView& view(size_t param) const { return views_[param]; }
  std::span<const TensorView> views() const { return views_; }
  float* data(size_t param) const { return views_[param].as<float>(); }  // of an f32 param
  int64_t bytes() const { return bytes_; }                               // with padding

 private:
  void* memory_ = nullptr;
  int64_t bytes_ = 0;
  std::vector<TensorView> views_;
};

// Params that the checkpoint has whole, under their own name, instead of the parts that their
// sources name: from now on that is their source, for loading and saving.
void FollowStacks(const Source& source, graph::Graph& graph);

// Reads every param of the graph from `source` straight into `store` (allocated for the graph).
// One error lists all that is wrong: tensors missing (with the nearest name there is), of another
// shape, and of the model but claimed by no param. Checked wholly before the first weight is read.
// Rows that the file has in the param's type are moved without a detour over f32, others are cast
// or quantised slice by slice; what was read of the file is released: beside the store there is at
// most one slice per thread (or one tensor, where it must be transposed or repacked as a whole).
// Params of adapters are left alone.
// `init_seed`: of optional params that the source lacks.
Status LoadParams(const Source& source, const graph::Graph& graph, const ParamStore& store,
                  int32_t n_threads = 1, uint64_t init_seed = 0);

// By the params' init rules; a param's numbers depend on (seed, its name) alone.
Status InitParams(const graph::Graph& graph, uint64_t seed, const ParamStore& store,
                  int32_t n_threads = 1);

// Rows [row_begin, row_end) of a param, all its matrices one below the other, as f32.
void DequantizeRows(const TensorView& param, int64_t row_begin, int64_t row_end, float* out);

// The text files of an HF folder; empty ones are not written.
struct ModelTexts {
  std::string config_json{};
  std::string tokenizer_json{};
  std::string tokenizer_config_json{};
  std::string generation_config_json{};
  std::string chat_template{};
};
ModelTexts TextsOf(const Source& source);

// Writes an HF folder that transformers opens unchanged: config.json with all its keys, `dtype`
// set and `architectures` filled in where absent, model.safetensors under checkpoint names
// (stacked params taken apart, a tied head left out) and the tokenizer's files. `params`: f32
// views in the graph's order. `store`: kF32, kBF16 or kF16. Each file is published durably; the
// digests are for the manifest.
Result<std::vector<io::FileDigest>> WriteModelFolder(io::FileSystem& fs, const std::string& folder,
                                                     const ModelTexts& texts,
                                                     const graph::Graph& graph,
                                                     std::span<const TensorView> params,
                                                     DType store = DType::kF32);

}  // namespace retort::model
