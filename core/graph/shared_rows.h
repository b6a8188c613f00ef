// Whether texts may share the rows of their common beginning in a training batch.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/graph/graph.h"

namespace retort::graph {

// A row's values depend on the rows before it alone, and only attention looks at those. Not so with
// rope scalings that go by a text's length, custom ops that read along a sequence, and experts,
// whose load-balancing loss counts rows.
bool TextsMayShareRows(const Graph& graph);

}  // namespace retort::graph
