// Names of the types of cached keys and values, as options give them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "core/base/status.h"
#include "core/base/tensor.h"

namespace retort::engine {

inline Result<DType> ParseKvDtype(std::string_view name) {
  if (name == "f32") return DType::kF32;
  if (name == "bf16") return DType::kBF16;
  if (name == "int8") return DType::kI8;
  return InvalidArgument("kv_dtype \"" + std::string(name) + "\": it is f32, bf16 or int8");
}

}  // namespace retort::engine
