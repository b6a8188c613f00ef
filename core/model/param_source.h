// Params in memory seen as the model that they would be on disk: what writers of files read.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>

#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/graph/graph.h"
#include "core/model/source.h"

namespace retort::model {

// Config and texts of `base`, the weights of `params` (f32 views in the graph's order), without
// adapters. All three must outlive the source.
Result<std::unique_ptr<Source>> SourceOfParams(const Source& base, const graph::Graph& graph,
                                               std::span<const TensorView> params);

}  // namespace retort::model
