// Log-probabilities of given texts: what the command logprob and the host API share.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/engine/engine.h"
#include "core/text/tokenizer.h"

namespace retort::host {

// Tokens gathered before the model runs over them: many passes' worth, little memory.
inline constexpr size_t kLogprobChunkTokens = 32768;

// Ids whose tokens from `first` on are looked up.
struct LogprobIds {
  std::vector<int32_t> ids;
  int64_t first = 1;
};

// Every token of `text` after the first counts. `tokenizer` may be NULL: an error that says so.
Result<LogprobIds> EncodeText(const text::Tokenizer* tokenizer, std::string_view text,
                              std::string_view where);
// The tokens of `completion` count.
Result<LogprobIds> EncodePair(const text::Tokenizer* tokenizer, std::string_view prompt,
                              std::string_view completion, std::string_view where);
Status CheckVocabulary(std::span<const int32_t> ids, int64_t vocab, std::string_view where);

// One list per item; empty where nothing counts. max_tokens: of one pass; 0: chosen. adapter: of
// the model's graph; -1: none.
Result<std::vector<std::vector<float>>> Logprobs(engine::Model& model,
                                                 std::span<const LogprobIds> items,
                                                 int64_t max_tokens, const engine::Cancel* cancel,
                                                 int32_t adapter);

}  // namespace retort::host
