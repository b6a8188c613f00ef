// A model that is yet to be made: a config and a tokenizer, and a seed for the weights.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/base/status.h"
#include "core/model/source.h"

namespace retort::model {

struct Blueprint {
  std::string config = {};     // config.json's text
  std::string tokenizer = {};  // a folder with tokenizer.json, or that file
  uint64_t init_seed = 0;
};

// A Source without tensors, whose init_seed is set; `name` is its path in errors. A vocab_size that
// the config lacks is the tokenizer's; one that is smaller is refused.
Result<std::unique_ptr<Source>> OpenBlueprint(const Blueprint& blueprint, const std::string& name);

}  // namespace retort::model
