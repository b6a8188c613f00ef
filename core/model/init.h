// First values of one param; also of the optional parts that a checkpoint lacks.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/graph/graph.h"

namespace retort::model {

// `view`: of the param in a store; rounded to its type. A param's numbers depend on (seed, its
// name) alone.
Status InitParam(const graph::Param& param, uint64_t seed, const TensorView& view);

}  // namespace retort::model
