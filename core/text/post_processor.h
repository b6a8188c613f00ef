// Post-processors of tokenizer.json: the ids put before and after a text's own.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/json/json.h"

namespace retort::text {

struct PostProcessor {
  std::vector<int32_t> prefix, suffix;

  // TemplateProcessing's `single`, ByteLevel (changes no id), and Sequences of them.
  static Result<PostProcessor> FromJson(const json::Value& value, int32_t vocab_size,
                                        std::string_view what);
};

}  // namespace retort::text
