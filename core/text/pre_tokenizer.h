// Pre-tokenizers of tokenizer.json: a normalised text -> the words that BPE sees.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/json/json.h"
#include "core/text/regex.h"
#include "core/text/scan.h"

namespace retort::text {

// The words of one text: ranges of `text`, which lies in `storage` if a step rewrote it.
struct Words {
  std::string_view text;
  std::vector<Range> ranges;
  std::string storage;

  // Buffers of the steps.
  std::string next_storage;
  std::vector<Range> next, matches;
  struct Piece {
    Range range;
    bool match;
  };
  std::vector<Piece> pieces;
};

class PreTokenizer {
 public:
  static Result<PreTokenizer> FromJson(const json::Value& value, std::string_view what);
  // True if the vocabulary is byte-mapped (a ByteLevel step, always the last).
  bool byte_level() const { return byte_level_; }
  // `at_start`: the text is the start of what the user gave. words->text is set beforehand.
  Status Split(bool at_start, Words* words) const;

 private:
  enum class Kind {
    kKnown,  // a scanner
    kRegex,
    kString,
    kDigits,  // runs, or each alone with behavior isolated
    kPunctuation,
    kWhitespace,   // \w+|[^\w\s]+
    kPrefixSpace,  // ByteLevel's add_prefix_space
    kMetaspace,
  };
  enum class Behavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };
  enum class Scheme { kAlways, kFirst, kNever };
  struct Step {
    Kind kind;
    Behavior behavior = Behavior::kIsolated;
    bool invert = false;
    KnownPattern known = KnownPattern::kGpt2;
    std::optional<Regex> regex = {};
    std::string literal = {};  // of kString; the replacement of kMetaspace
    Scheme scheme = Scheme::kAlways;
    bool split = true;
  };
  Status Add(const json::Value& value, std::string_view what, int depth);
  Status AddSplit(const json::Value& value, std::string_view what);
  Status AddMetaspace(const json::Value& value, std::string_view what);
  void AddByteLevel(const json::Value& value);

  static Status ApplySplit(const Step& step, Words* words);
  static Status FindMatches(const Step& step, std::string_view text, const Deadline& deadline,
                            std::vector<Range>* matches);
  static void EmitPieces(const Step& step, Range range, Words* words);
  static void ApplyPrefix(const Step& step, bool at_start, Words* words);
  static Result<Behavior> ReadBehavior(std::string_view name);

  std::vector<Step> steps_;
  bool byte_level_ = false;
};

}  // namespace retort::text
