// SPDX-License-Identifier: Apache-2.0
#include "core/text/decoder.h"

#include <utility>

#include "core/text/bpe.h"
#include "core/text/normalizer.h"
#include "core/text/unicode.h"

namespace retort::text {
namespace {

constexpr int kMaxDepth = 8;  // nested Sequences

std::string Join(const std::vector<std::string>& tokens, std::string_view separator) {
  std::string out;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0) out += separator;
    out += tokens[i];
  }
  return out;
}

// Runs of byte tokens become characters; a run that is no UTF-8 becomes one U+FFFD per byte.
std::vector<std::string> FallBack(const std::vector<std::string>& tokens) {
  std::vector<std::string> out;
  std::string run;
  const auto flush = [&] {
    if (run.empty()) return;
    if (IsValidUtf8(run)) {
      out.push_back(run);
    } else {
      out.insert(out.end(), run.size(), std::string(kReplacement));
    }
    run.clear();
  };
  for (const std::string& token : tokens) {
    const int byte = ByteOfToken(token);
    if (byte >= 0) {
      run.push_back(static_cast<char>(byte));
      continue;
    }
    flush();
    out.push_back(token);
  }
  flush();
  return out;
}

void StripToken(std::string_view content, size_t start, size_t stop, std::string* token) {
  size_t begin = 0, end = token->size();
  for (size_t i = 0; i < start && token->compare(begin, content.size(), content) == 0; ++i) {
    begin += content.size();
  }
  for (size_t i = 0; i < stop && end >= begin + content.size() &&
                     token->compare(end - content.size(), content.size(), content) == 0;
       ++i) {
    end -= content.size();
  }
  *token = token->substr(begin, end - begin);
}

}  // namespace

int ByteOfToken(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
  };
  const int high = digit(token[3]), low = digit(token[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

Result<Decoder> Decoder::FromJson(const json::Value& value, std::string_view what) {
  Decoder decoder;
  if (value && !value.is_null()) RETORT_RETURN_IF_ERROR(decoder.Add(value, what, 0));
  decoder.is_bytes_ = decoder.steps_.size() == 1 && decoder.steps_[0].kind == Kind::kByteLevel;
  return decoder;
}

Status Decoder::Add(const json::Value& value, std::string_view what, int depth) {
  const std::string where = std::string(what) + ": tokenizer.json: decoder ";
  const std::string type(value["type"].StringOr(""));
  Step step{.kind = Kind::kFuse};
  if (type == "Sequence") {
    const json::Value parts = value["decoders"];
    if (!parts.is_array() || depth >= kMaxDepth) {
      return InvalidArgument(where +
                             "'Sequence': 'decoders' must be a list, nested at most 8 deep");
    }
    for (size_t i = 0; i < parts.size(); ++i) {
      RETORT_RETURN_IF_ERROR(Add(parts[i], what, depth + 1));
    }
    return OkStatus();
  }
  if (type == "ByteLevel") {
    step.kind = Kind::kByteLevel;
  } else if (type == "ByteFallback") {
    step.kind = Kind::kByteFallback;
  } else if (type == "Replace") {
    step.kind = Kind::kReplace;
    step.from = std::string(value["pattern"]["String"].StringOr(""));
    step.to = std::string(value["content"].StringOr(""));
    if (step.from.empty()) {
      return Unimplemented(where + "'Replace': only a non-empty {\"String\": ...} is supported");
    }
  } else if (type == "Strip") {
    step.kind = Kind::kStrip;
    step.from = std::string(value["content"].StringOr(""));
    const int64_t start = value["start"].IntOr(0), stop = value["stop"].IntOr(0);
    if (step.from.empty() || start < 0 || stop < 0) {
      return InvalidArgument(where + "'Strip': needs 'content' and counts from 0");
    }
    step.start = static_cast<size_t>(start);
    step.stop = static_cast<size_t>(stop);
  } else if (type == "Metaspace") {
    step.kind = Kind::kMetaspace;
    step.from = std::string(value["replacement"].StringOr("\xE2\x96\x81"));
    const std::string_view scheme = value["prepend_scheme"].StringOr(
        value["add_prefix_space"].BoolOr(true) ? "always" : "never");
    step.drop_first = scheme != "never";
    if (step.from.empty()) return InvalidArgument(where + "'Metaspace': 'replacement' is empty");
  } else if (type != "Fuse") {
    return Unimplemented(where + "'" + type +
                         "' is not supported (supported: ByteLevel, Replace, ByteFallback, Fuse, "
                         "Strip, Metaspace, Sequence)");
  }
  steps_.push_back(std::move(step));
  return OkStatus();
}

void Decoder::Apply(const Step& step, std::vector<std::string>* tokens) {
  switch (step.kind) {
    case Kind::kByteLevel: {
      std::string all, bytes;
      for (const std::string& token : *tokens) all += UnmapBytes(token, &bytes) ? bytes : token;
      *tokens = {LossyUtf8(all)};
      return;
    }
    case Kind::kReplace:
      for (std::string& token : *tokens) token = ReplaceAll(token, step.from, step.to);
      return;
    case Kind::kByteFallback: *tokens = FallBack(*tokens); return;
    case Kind::kFuse: *tokens = {Join(*tokens, "")}; return;
    case Kind::kStrip:
      for (std::string& token : *tokens) StripToken(step.from, step.start, step.stop, &token);
      return;
    case Kind::kMetaspace:
      for (size_t i = 0; i < tokens->size(); ++i) {
        const bool drop = i == 0 && step.drop_first;
        (*tokens)[i] = ReplaceAll((*tokens)[i], step.from, drop ? "" : " ");
      }
      return;
  }
}

std::string Decoder::Decode(std::vector<std::string> tokens) const {
  if (steps_.empty()) return Join(tokens, " ");
  for (const Step& step : steps_) Apply(step, &tokens);
  return Join(tokens, "");
}

std::string Decoder::TokenBytes(std::string_view token) const {
  std::string text(token), bytes;
  if (steps_.empty()) return " " + text;  // tokens are joined by spaces
  for (const Step& step : steps_) {
    switch (step.kind) {
      case Kind::kByteLevel:
        if (UnmapBytes(text, &bytes)) text = bytes;
        break;
      case Kind::kReplace: text = ReplaceAll(text, step.from, step.to); break;
      case Kind::kByteFallback:
        if (const int byte = ByteOfToken(text); byte >= 0) return {static_cast<char>(byte)};
        break;
      case Kind::kMetaspace: text = ReplaceAll(text, step.from, " "); break;
      case Kind::kFuse:
      case Kind::kStrip: break;
    }
  }
  return text;
}

void Decoder::StripStart(std::string* first) const {
  if (steps_.empty()) StripToken(" ", 1, 0, first);
  for (const Step& step : steps_) {
    if (step.kind == Kind::kStrip) StripToken(step.from, step.start, 0, first);
    if (step.kind == Kind::kMetaspace && step.drop_first) *first = ReplaceAll(*first, " ", "");
  }
}

}  // namespace retort::text
