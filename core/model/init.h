// First values of one param; also of the optional parts that a checkpoint lacks.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/graph/graph.h"

namespace retort::model {

void InitParam(const graph::Param& param, uint64_t seed, float* out);

}  // namespace retort::model
