// A model as an HF folder of one safetensors file, read and written a few rows at a time.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/io/filesystem.h"
#include "core/model/source.h"

namespace retort::model {

struct ConvertReport {
  int64_t tensors = 0, weights = 0;
  uint64_t bytes = 0;                                         // of model.safetensors
  double square_error = 0, square_weight = 0, max_error = 0;  // of rounding to the type
};

// `store`: kF32, kF16 or kBF16. Makes the folder; what an older model left in it (shards, their
// index) goes once the new weights are there. `progress` as in gguf_export.h.
Result<ConvertReport> WriteFolder(io::FileSystem& fs, const std::string& folder,
                                  const Source& source, DType store,
                                  const std::function<bool(uint64_t, uint64_t)>& progress = {});

// The type of most weights of a model, if it is one of f32, f16 and bf16; else f32.
DType MainType(const Source& source);

}  // namespace retort::model
