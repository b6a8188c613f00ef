// Decoders of tokenizer.json: tokens -> text.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/json/json.h"

namespace retort::text {

class Decoder {
 public:
  static Result<Decoder> FromJson(const json::Value& value, std::string_view what);

  // As HF: the steps over the list of tokens, joined (by spaces if there is no decoder at all).
  std::string Decode(std::vector<std::string> tokens) const;
  // What one token adds to a running text, without the rules for a text's start.
  std::string TokenBytes(std::string_view token) const;
  // True if a text is just its tokens' bytes, made valid UTF-8: Decode may take that short way.
  bool is_bytes() const { return is_bytes_; }
  // The rule for a text's start: what is cut from the first token's bytes.
  void StripStart(std::string* first) const;

 private:
  enum class Kind { kByteLevel, kReplace, kByteFallback, kFuse, kStrip, kMetaspace };
  struct Step {
    Kind kind;
    std::string from = {}, to = {};  // kReplace; kStrip and kMetaspace: the character
    size_t start = 0, stop = 0;      // kStrip
    bool drop_first = false;         // kMetaspace: prepend_scheme is not never
  };
  Status Add(const json::Value& value, std::string_view what, int depth);
  static void Apply(const Step& step, std::vector<std::string>* tokens);
  std::vector<Step> steps_;
  bool is_bytes_ = false;
};

// The byte of "<0xHH>", or -1.
int ByteOfToken(std::string_view token);

}  // namespace retort::text
