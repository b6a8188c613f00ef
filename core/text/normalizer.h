// Normalizers of tokenizer.json: NFC, NFKC, Prepend, Replace (String), Sequence.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/json/json.h"

namespace retort::text {

class Normalizer {
 public:
  static Result<Normalizer> FromJson(const json::Value& value, std::string_view what);
  bool empty() const { return steps_.empty(); }
  // `text` is valid UTF-8. Returns it unchanged (the same view) or a view into `storage`.
  std::string_view Apply(std::string_view text, std::string* storage) const;

 private:
  enum class Kind { kNfc, kNfkc, kPrepend, kReplace };
  struct Step {
    Kind kind;
    std::string from, to;
  };
  Status Add(const json::Value& value, std::string_view what, int depth);
  std::vector<Step> steps_;
};

// Canonical (or compatibility) decomposition, ordering and composition; linear in the text's
// length but for the sort of a run of marks.
std::string Normalize(std::string_view text, bool compatibility);

// All occurrences, left to right.
std::string ReplaceAll(std::string_view text, std::string_view from, std::string_view to);

}  // namespace retort::text
