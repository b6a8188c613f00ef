// SPDX-License-Identifier: Apache-2.0
#include "core/text/pre_tokenizer.h"

#include <algorithm>
#include <utility>

#include "core/text/unicode.h"

namespace retort::text {
namespace {

constexpr int kMaxDepth = 8;  // nested Sequences

std::string Where(std::string_view what, std::string_view type) {
  return std::string(what) + ": tokenizer.json: pre_tokenizer '" + std::string(type) + "'";
}

// Every character for which `is` holds, a match each.
template <class Is>
void MatchChars(std::string_view text, Is is, std::vector<Range>* matches) {
  for (size_t at = 0; at < text.size();) {
    const Char c = CharAt(text, at);
    if (is(c.code_point)) matches->push_back({at, at + c.bytes});
    at += c.bytes;
  }
}

// \w+|[^\w\s]+
void MatchWords(std::string_view text, std::vector<Range>* matches) {
  int previous = 0;  // 0 space, 1 word, 2 other
  for (size_t at = 0; at < text.size();) {
    const Char c = CharAt(text, at);
    const int kind = IsWordChar(c.code_point) ? 1 : (ClassOf(c.code_point) & kSpace) != 0 ? 0 : 2;
    if (kind != 0 && kind == previous) {
      matches->back().end += c.bytes;
    } else if (kind != 0) {
      matches->push_back({at, at + c.bytes});
    }
    previous = kind;
    at += c.bytes;
  }
}

bool IsPunctuationChar(uint32_t c) {
  const uint8_t bits = ClassOf(c);
  return (bits & kPunctuation) != 0 || (c < 128 && (bits & kSymbol) != 0);
}

}  // namespace

Result<PreTokenizer> PreTokenizer::FromJson(const json::Value& value, std::string_view what) {
  PreTokenizer result;
  if (value && !value.is_null()) RETORT_RETURN_IF_ERROR(result.Add(value, what, 0));
  return result;
}

Status PreTokenizer::Add(const json::Value& value, std::string_view what, int depth) {
  const std::string type(value["type"].StringOr(""));
  if (type == "Sequence") {
    const json::Value parts = value["pretokenizers"];
    if (!parts.is_array() || depth >= kMaxDepth) {
      return InvalidArgument(Where(what, type) +
                             ": 'pretokenizers' must be a list, nested at most 8 deep");
    }
    for (size_t i = 0; i < parts.size(); ++i) {
      RETORT_RETURN_IF_ERROR(Add(parts[i], what, depth + 1));
    }
    return OkStatus();
  }
  if (byte_level_) {
    return Unimplemented(Where(what, type) + " after ByteLevel is not supported");
  }
  if (type == "ByteLevel") {
    AddByteLevel(value);
  } else if (type == "Split") {
    return AddSplit(value, what);
  } else if (type == "Digits") {
    const bool single = value["individual_digits"].BoolOr(false);
    steps_.push_back(
        {.kind = Kind::kDigits, .behavior = single ? Behavior::kIsolated : Behavior::kContiguous});
  } else if (type == "Punctuation") {
    const auto behavior = ReadBehavior(value["behavior"].StringOr("Isolated"));
    if (!behavior.ok()) return behavior.status().WithContext(Where(what, type));
    steps_.push_back({.kind = Kind::kPunctuation, .behavior = *behavior});
  } else if (type == "Whitespace") {
    steps_.push_back({.kind = Kind::kWhitespace, .behavior = Behavior::kRemoved, .invert = true});
  } else if (type == "Metaspace") {
    return AddMetaspace(value, what);
  } else {
    return Unimplemented(Where(what, type) +
                         " is not supported (supported: ByteLevel, Split, Digits, Punctuation, "
                         "Whitespace, Metaspace, Sequence)");
  }
  return OkStatus();
}

Result<PreTokenizer::Behavior> PreTokenizer::ReadBehavior(std::string_view name) {
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  return InvalidArgument("behavior '" + std::string(name) +
                         "' is unknown (Isolated, Removed, MergedWithPrevious, MergedWithNext, "
                         "Contiguous)");
}

void PreTokenizer::AddByteLevel(const json::Value& value) {
  byte_level_ = true;
  if (value["add_prefix_space"].BoolOr(true)) {
    steps_.push_back({.kind = Kind::kPrefixSpace, .literal = " ", .split = false});
  }
  if (value["use_regex"].BoolOr(true)) {
    steps_.push_back({.kind = Kind::kKnown, .known = KnownPattern::kGpt2});
  }
}

Status PreTokenizer::AddSplit(const json::Value& value, std::string_view what) {
  const auto behavior = ReadBehavior(value["behavior"].StringOr(""));
  if (!behavior.ok()) return behavior.status().WithContext(Where(what, "Split"));
  Step step{.kind = Kind::kString, .behavior = *behavior, .invert = value["invert"].BoolOr(false)};
  const json::Value pattern = value["pattern"];
  if (pattern["String"].is_string()) {
    step.literal = std::string(pattern["String"].StringOr(""));
    if (step.literal.empty()) {
      return InvalidArgument(Where(what, "Split") + ": the pattern is empty");
    }
  } else if (pattern["Regex"].is_string()) {
    const std::string_view text = pattern["Regex"].StringOr("");
    if (const auto known = FindKnownPattern(text)) {
      step.kind = Kind::kKnown;
      step.known = *known;
    } else {
      auto regex = Regex::Compile(text);
      if (!regex.ok()) return regex.status().WithContext(Where(what, "Split"));
      step.kind = Kind::kRegex;
      step.regex = std::move(*regex);
    }
  } else {
    return InvalidArgument(Where(what, "Split") +
                           ": 'pattern' must be {\"Regex\": ...} or {\"String\": ...}");
  }
  steps_.push_back(std::move(step));
  return OkStatus();
}

Status PreTokenizer::AddMetaspace(const json::Value& value, std::string_view what) {
  Step step{.kind = Kind::kMetaspace};
  step.literal = std::string(value["replacement"].StringOr("\xE2\x96\x81"));
  if (step.literal.empty() || CharBytes(step.literal[0]) != step.literal.size()) {
    return InvalidArgument(Where(what, "Metaspace") + ": 'replacement' must be one character");
  }
  const std::string_view scheme =
      value["prepend_scheme"].StringOr(value["add_prefix_space"].BoolOr(true) ? "always" : "never");
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    return InvalidArgument(Where(what, "Metaspace") + ": prepend_scheme '" + std::string(scheme) +
                           "' is unknown (always, first, never)");
  }
  step.scheme = scheme == "always"  ? Scheme::kAlways
                : scheme == "first" ? Scheme::kFirst
                                    : Scheme::kNever;
  step.split = value["split"].BoolOr(true);
  steps_.push_back(std::move(step));
  return OkStatus();
}

Status PreTokenizer::Split(bool at_start, Words* words) const {
  words->ranges.clear();
  if (!words->text.empty()) words->ranges.push_back({0, words->text.size()});
  for (const Step& step : steps_) {
    if (step.kind == Kind::kPrefixSpace || step.kind == Kind::kMetaspace) {
      ApplyPrefix(step, at_start, words);
      if (step.kind == Kind::kPrefixSpace || !step.split) continue;
    }
    RETORT_RETURN_IF_ERROR(ApplySplit(step, words));
  }
  return OkStatus();
}

Status PreTokenizer::ApplySplit(const Step& step, Words* words) {
  const Deadline deadline(words->text.size());
  words->next.clear();
  for (const Range range : words->ranges) {
    const std::string_view text = words->text.substr(range.begin, range.end - range.begin);
    if (step.kind == Kind::kKnown && step.behavior == Behavior::kIsolated) {
      size_t gap = 0;  // start of what no match covers
      for (size_t at = 0; at < text.size();) {
        const size_t end = MatchAt(step.known, text, at);
        if (end == at) {
          at += CharBytes(text[at]);
          continue;
        }
        if (gap < at) words->next.push_back({range.begin + gap, range.begin + at});
        words->next.push_back({range.begin + at, range.begin + end});
        gap = at = end;
      }
      if (gap < text.size()) words->next.push_back({range.begin + gap, range.end});
      continue;
    }
    words->matches.clear();
    RETORT_RETURN_IF_ERROR(FindMatches(step, text, deadline, &words->matches));
    EmitPieces(step, range, words);
  }
  words->ranges.swap(words->next);
  return OkStatus();
}

Status PreTokenizer::FindMatches(const Step& step, std::string_view text, const Deadline& deadline,
                                 std::vector<Range>* matches) {
  switch (step.kind) {
    case Kind::kKnown:
      for (size_t at = 0; at < text.size();) {
        const size_t end = MatchAt(step.known, text, at);
        if (end > at) matches->push_back({at, end});
        at = end > at ? end : at + CharBytes(text[at]);
      }
      return OkStatus();
    case Kind::kRegex: return step.regex->FindAll(text, deadline, matches);
    case Kind::kString:
    case Kind::kMetaspace:
      for (size_t at = 0; (at = text.find(step.literal, at)) != std::string_view::npos;) {
        matches->push_back({at, at + step.literal.size()});
        at += step.literal.size();
      }
      return OkStatus();
    case Kind::kDigits:
      MatchChars(
          text, [](uint32_t c) { return (ClassOf(c) & kNumber) != 0; }, matches);
      return OkStatus();
    case Kind::kPunctuation: MatchChars(text, IsPunctuationChar, matches); return OkStatus();
    case Kind::kWhitespace: MatchWords(text, matches); return OkStatus();
    case Kind::kPrefixSpace: return OkStatus();
  }
  return OkStatus();
}

// Matches and what lies between, joined as the behaviour says, in HF's order of decisions.
void PreTokenizer::EmitPieces(const Step& step, Range range, Words* words) {
  auto& pieces = words->pieces;
  pieces.clear();
  size_t done = 0;
  for (const Range match : words->matches) {
    if (done < match.begin) pieces.push_back({{done, match.begin}, step.invert});
    pieces.push_back({match, !step.invert});
    done = match.end;
  }
  if (done < range.end - range.begin) {
    pieces.push_back({{done, range.end - range.begin}, step.invert});
  }
  const Behavior behavior =
      step.kind == Kind::kMetaspace ? Behavior::kMergedWithNext : step.behavior;
  const size_t first = words->next.size();
  bool previous = false;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const bool backwards = behavior == Behavior::kMergedWithNext;
    const Words::Piece& piece = pieces[backwards ? pieces.size() - 1 - i : i];
    const Range absolute{range.begin + piece.range.begin, range.begin + piece.range.end};
    const bool joins = behavior == Behavior::kContiguous
                           ? piece.match == previous
                           : piece.match && !previous && behavior != Behavior::kIsolated &&
                                 behavior != Behavior::kRemoved;
    previous = piece.match;
    if (behavior == Behavior::kRemoved && piece.match) continue;
    if (joins && words->next.size() > first) {
      Range& last = words->next.back();
      (backwards ? last.begin : last.end) = backwards ? absolute.begin : absolute.end;
    } else {
      words->next.push_back(absolute);
    }
  }
  auto begin = words->next.begin() + static_cast<ptrdiff_t>(first);
  if (behavior == Behavior::kMergedWithNext) std::reverse(begin, words->next.end());
  std::erase_if(words->next, [](Range r) { return r.begin == r.end; });
}

// Rewrites the text with a prefix before each word (unless it is there), and for Metaspace with
// spaces replaced.
void PreTokenizer::ApplyPrefix(const Step& step, bool at_start, Words* words) {
  const bool metaspace = step.kind == Kind::kMetaspace;
  std::string& out = words->next_storage;
  out.clear();
  out.reserve(words->text.size() + words->ranges.size());
  words->next.clear();
  for (const Range range : words->ranges) {
    const size_t begin = out.size();
    std::string_view word = words->text.substr(range.begin, range.end - range.begin);
    const bool wanted = step.scheme == Scheme::kAlways ||
                        (step.scheme == Scheme::kFirst && at_start && range.begin == 0);
    const bool present = word.starts_with(step.literal) || (metaspace && word.starts_with(' '));
    if (wanted && !present) out += step.literal;
    if (!metaspace) out += word;
    for (size_t at = 0; metaspace && at < word.size();) {
      const size_t space = std::min(word.find(' ', at), word.size());
      out += word.substr(at, space - at);
      if (space < word.size()) out += step.literal;
      at = space + 1;
    }
    words->next.push_back({begin, out.size()});
  }
  words->storage.swap(out);
  words->text = words->storage;
  words->ranges.swap(words->next);
}

}  // namespace retort::text
