// SPDX-License-Identifier: Apache-2.0
#include "core/text/normalizer.h"

#include <utf8proc.h>

#include <algorithm>

#include "core/text/unicode.h"

namespace retort::text {
namespace {

constexpr int kMaxDepth = 8;  // nested Sequences

// True for characters that no normalisation form changes and that do not compose with what
// follows them in a text of such characters: most of what is written.
bool IsInert(uint32_t c, bool compatibility) {
  if (c < 0x80) return true;
  if (c < 0x300) return !compatibility;  // Latin-1 has compatibility characters
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0xAC00 && c <= 0xD7A3) ||
         (c >= 0x3041 && c <= 0x3096) || (c >= 0x30A1 && c <= 0x30FA) ||
         (c >= 0x3001 && c <= 0x3029) || (c >= 0x2018 && c <= 0x201E) ||
         (c >= 0x0410 && c <= 0x044F);
}

bool IsNormalized(std::string_view text, bool compatibility) {
  for (size_t at = 0; at < text.size();) {
    const Char c = CharAt(text, at);
    if (!IsInert(c.code_point, compatibility)) return false;
    at += c.bytes;
  }
  return true;
}

int CombiningClass(utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; }

// Runs of marks in canonical order. utf8proc's own ordering is quadratic in a run.
void OrderMarks(std::vector<utf8proc_int32_t>* chars) {
  for (size_t i = 0; i < chars->size();) {
    if (CombiningClass((*chars)[i]) == 0) {
      ++i;
      continue;
    }
    size_t end = i;
    while (end < chars->size() && CombiningClass((*chars)[end]) != 0) ++end;
    std::stable_sort(chars->begin() + static_cast<ptrdiff_t>(i),
                     chars->begin() + static_cast<ptrdiff_t>(end),
                     [](auto a, auto b) { return CombiningClass(a) < CombiningClass(b); });
    i = end;
  }
}

}  // namespace

std::string Normalize(std::string_view text, bool compatibility) {
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE |
                                                      (compatibility ? UTF8PROC_COMPAT : 0));
  const auto decompose = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                                        (compatibility ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> chars;
  chars.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Char c = CharAt(text, at);
    utf8proc_int32_t parts[32];
    int boundary = 0;
    const auto code_point = static_cast<utf8proc_int32_t>(c.code_point);
    const utf8proc_ssize_t n =
        utf8proc_decompose_char(code_point, parts, std::size(parts), decompose, &boundary);
    if (n > 0 && n <= static_cast<utf8proc_ssize_t>(std::size(parts))) {
      chars.insert(chars.end(), parts, parts + n);
    } else {
      chars.push_back(code_point);
    }
    at += c.bytes;
  }
  OrderMarks(&chars);
  const utf8proc_ssize_t n =
      utf8proc_normalize_utf32(chars.data(), static_cast<utf8proc_ssize_t>(chars.size()), options);
  std::string out;
  out.reserve(text.size());
  for (utf8proc_ssize_t i = 0; i < n; ++i) {
    AppendUtf8(static_cast<uint32_t>(chars[static_cast<size_t>(i)]), &out);
  }
  return out;
}

std::string ReplaceAll(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  out.reserve(text.size());
  size_t at = 0;
  for (size_t hit; (hit = text.find(from, at)) != std::string_view::npos; at = hit + from.size()) {
    out += text.substr(at, hit - at);
    out += to;
  }
  out += text.substr(at);
  return out;
}

Result<Normalizer> Normalizer::FromJson(const json::Value& value, std::string_view what) {
  Normalizer normalizer;
  if (value && !value.is_null()) RETORT_RETURN_IF_ERROR(normalizer.Add(value, what, 0));
  return normalizer;
}

Status Normalizer::Add(const json::Value& value, std::string_view what, int depth) {
  const std::string where = std::string(what) + ": tokenizer.json: normalizer ";
  const std::string type(value["type"].StringOr(""));
  if (type == "NFC" || type == "NFKC") {
    steps_.push_back({type == "NFC" ? Kind::kNfc : Kind::kNfkc, "", ""});
  } else if (type == "Prepend") {
    steps_.push_back({Kind::kPrepend, "", std::string(value["prepend"].StringOr(""))});
  } else if (type == "Replace") {
    const json::Value from = value["pattern"]["String"];
    if (!from.is_string() || from.StringOr("").empty() || !value["content"].is_string()) {
      return Unimplemented(where +
                           "'Replace': only {\"pattern\": {\"String\": ...}, \"content\": "
                           "...} with a non-empty string is supported");
    }
    steps_.push_back({Kind::kReplace, std::string(from.StringOr("")),
                      std::string(value["content"].StringOr(""))});
  } else if (type == "Sequence") {
    const json::Value parts = value["normalizers"];
    if (!parts.is_array() || depth >= kMaxDepth) {
      return InvalidArgument(where +
                             "'Sequence': 'normalizers' must be a list, nested at most 8 deep");
    }
    for (size_t i = 0; i < parts.size(); ++i) {
      RETORT_RETURN_IF_ERROR(Add(parts[i], what, depth + 1));
    }
  } else {
    return Unimplemented(where + "'" + type +
                         "' is not supported (supported: NFC, NFKC, Prepend, Replace, Sequence)");
  }
  return OkStatus();
}

std::string_view Normalizer::Apply(std::string_view text, std::string* storage) const {
  std::string next;
  for (const Step& step : steps_) {
    switch (step.kind) {
      case Kind::kNfc:
      case Kind::kNfkc:
        if (IsNormalized(text, step.kind == Kind::kNfkc)) continue;
        next = Normalize(text, step.kind == Kind::kNfkc);
        break;
      case Kind::kPrepend:
        if (text.empty()) continue;
        next = step.to;
        next += text;
        break;
      case Kind::kReplace:
        if (text.find(step.from) == std::string_view::npos) continue;
        next = ReplaceAll(text, step.from, step.to);
        break;
    }
    storage->swap(next);
    text = *storage;
  }
  return text;
}

}  // namespace retort::text
