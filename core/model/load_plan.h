// Which rows of which checkpoint tensors make up which rows of which params.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <set>
#include <vector>

#include "core/base/status.h"
#include "core/graph/graph.h"
#include "core/model/layout.h"
#include "core/model/source.h"

namespace retort::model {

struct LoadPlan {
  std::vector<Piece> pieces;  // by params, then by sources
  std::set<size_t> to_init;   // params with an optional part that is not there
};

// Claims every tensor of the model for some rows of some param of the base; one error lists all
// that doesn't fit. Reads no weight.
Result<LoadPlan> PlanLoading(const Source& source, const graph::Graph& graph);

}  // namespace retort::model
