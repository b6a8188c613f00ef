// Byte-level BPE (and the other models of tokenizer.json that formats.md lists): text <-> ids.
// Immutable after loading and safe to share between threads.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"

namespace retort::text {

struct EncodeOptions {
  bool add_special_tokens = true;     // the post-processor's template (bos and the like)
  bool split_special_tokens = false;  // true: special tokens typed in the text are plain text
};

class Tokenizer {
 public:
  // The texts of tokenizer.json and tokenizer_config.json ("" if there is none). `what` names
  // the model in errors. Unsupported parts are refused by name.
  static Result<std::unique_ptr<Tokenizer>> FromJson(std::string_view tokenizer_json,
                                                     std::string_view tokenizer_config_json,
                                                     std::string_view what);
  ~Tokenizer();

  Result<std::vector<int32_t>> Encode(std::string_view text,
                                      const EncodeOptions& options = {}) const;
  // Lossy UTF-8 as HF's decoders give it; ids outside the vocabulary are OUT_OF_RANGE.
  Result<std::string> Decode(std::span<const int32_t> ids, bool skip_special_tokens = false) const;

  int32_t vocab_size() const;  // largest id + 1, added tokens included
  std::optional<int32_t> TokenToId(std::string_view token) const;  // as spelled in the vocabulary
  std::string_view IdToToken(int32_t id) const;                    // "" if there is none
  bool IsSpecial(int32_t id) const;
  // The bytes that this token adds to a text (byte map undone; empty for special tokens).
  std::string TokenBytes(int32_t id) const;
  // What is left of the first token's bytes at the start of a text (Llama-2 drops a space there).
  std::string StripStart(std::string first) const;

  // From tokenizer_config.json; -1: none.
  int32_t bos_id() const;
  int32_t eos_id() const;
  int32_t pad_id() const;
  // XXH3-128 (hex) of what decides encoding: equal hashes encode equally.
  const std::string& hash() const;

  struct Impl;

 private:
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Turns a stream of ids into text that never splits a UTF-8 character.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer* tokenizer) : tokenizer_(tokenizer) {}
  std::string Push(int32_t id);  // the characters that became whole; skips special tokens
  std::string Flush();           // what is left, broken bytes as U+FFFD

 private:
  const Tokenizer* tokenizer_;
  std::string pending_;
  bool started_ = false;
};

// Finds stop strings in streamed text: Push gives the text that can no longer be part of a stop
// string; after a hit `stopped()` is true and nothing more comes.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {}
  std::string Push(std::string_view text);
  std::string Flush();  // the held-back text (none after a hit)
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace retort::text
