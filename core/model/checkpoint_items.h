// Checkpoint tensors made of params: one view each, or a buffer where several params, or rows of
// one, make up a tensor. Params of adapters are not the checkpoint's.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <list>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/graph/graph.h"
#include "core/io/safetensors.h"
#include "core/model/layout.h"

namespace retort::model {

class CheckpointItems {
 public:
  // `params`: f32 views in the graph's order; both must outlive this.
  CheckpointItems(const graph::Graph& graph, std::span<const TensorView> params, DType store)
      : graph_(graph), params_(params), store_(store) {}

  // Views of the params and of this object's buffers.
  Result<std::vector<io::SafetensorsItem>> Collect();

 private:
  Status AddParam(size_t index);
  Status AddTensor(const std::string& name, const std::vector<Piece>& pieces);
  Status Assemble(const std::string& name, std::vector<Piece> pieces);

  const graph::Graph& graph_;
  std::span<const TensorView> params_;
  DType store_;
  std::map<std::string, std::vector<Piece>> tensors_;
  std::vector<io::SafetensorsItem> items_;
  std::list<std::vector<float>> buffers_;  // views point into them
};

}  // namespace retort::model
