// Stacks of experts: a checkpoint has a tensor for each expert's matrix, or all of them as one
// tensor under the param's own name (what transformers writes with save_original_format=False).
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/model/params.h"

namespace retort::model {
namespace {

bool HasAny(const Source& source, const graph::Param& param) {
  return std::any_of(param.sources.begin(), param.sources.end(), [&](const graph::Source& part) {
    return source.Find(part.checkpoint_name) != nullptr;
  });
}

}  // namespace

void FollowStacks(const Source& source, graph::Graph& graph) {
  for (graph::Param& param : graph.params) {
    const TensorInfo* whole = source.Find(param.name);
    if (whole == nullptr || whole->shape != param.shape || HasAny(source, param)) continue;
    param.sources = {{.checkpoint_name = param.name}};
  }
}

}  // namespace retort::model
