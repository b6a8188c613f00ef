// Graphs without nodes, for tests of loading and saving.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "core/graph/graph.h"
#include "core/model/source.h"
#include "retort/abi/draft/optimizer.h"

namespace retort::model {

inline graph::Param MakeParam(std::string name, std::vector<int64_t> shape,
                              std::vector<graph::Source> sources = {}) {
  graph::Param param;
  if (sources.empty()) sources.push_back({.checkpoint_name = name});
  param.name = std::move(name);
  param.shape = std::move(shape);
  param.sources = std::move(sources);
  return param;
}

inline graph::Graph MakeGraph(std::vector<graph::Param> params) {
  graph::Graph graph;
  graph.family = "test";
  graph.params = std::move(params);
  return graph;
}

// One param for each tensor of a model; those of two dimensions are matrices.
inline graph::Graph TensorGraph(const Source& source) {
  std::vector<graph::Param> params;
  for (const TensorInfo& tensor : source.tensors()) {
    params.push_back(MakeParam(tensor.name, tensor.shape));
    params.back().roles = tensor.shape.size() > 1 ? RETORT_ROLE_MATRIX : RETORT_ROLE_NORM;
  }
  return MakeGraph(std::move(params));
}

}  // namespace retort::model
