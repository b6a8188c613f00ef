// What is known of a model without its weights.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/graph/graph.h"
#include "host/session/session.h"

namespace retort::host {

// One JSON object: path, family, parameters, storage, tokenizer, chat format, stop ids, nodes.
std::string ModelJson(const OpenedModel& model, const graph::Graph& graph);

}  // namespace retort::host
