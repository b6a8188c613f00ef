// The ways of cutting a text before BPE that GGUF names by one word (tokenizer.ggml.pre), as
// pre_tokenizer objects of tokenizer.json and back.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/json/json.h"

namespace retort::model {

// The key with the whole tokenizer.json.
inline constexpr const char* kGgufTokenizerJson = "tokenizer.huggingface.json";

// kDbrx cuts as kLlama3 does; words that are tokens are merged like any other there.
enum class GgufPre : uint8_t { kGpt2, kSmollm, kQwen2, kLlama3, kDbrx, kDeepseek };

std::optional<GgufPre> GgufPreByName(std::string_view name);
std::string GgufPreNames();  // for messages
// The name that is written.
std::string_view GgufPreName(GgufPre pre);

void WriteGgufPre(GgufPre pre, json::Writer* out);
// Which of them a tokenizer.json has; absent: none.
std::optional<GgufPre> GgufPreOf(const json::Value& tokenizer);

}  // namespace retort::model
