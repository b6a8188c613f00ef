// What writers of HF folders share.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/io/filesystem.h"
#include "core/model/params.h"

namespace retort::model {

// The base's config with all its keys in their order; only what the weights decide is changed:
// dtype, and architectures where they are absent; of a reward model the class for sequences and its
// one label. `store`: kF32, kBF16 or kF16.
Result<std::string> SavedConfig(const std::string& text, DType store, bool reward_model = false);

// config.json as given and the other texts that aren't empty, each published durably.
Status WriteTexts(io::FileSystem& fs, const std::string& folder, const ModelTexts& texts,
                  const std::string& config, std::vector<io::FileDigest>* digests);

}  // namespace retort::model
