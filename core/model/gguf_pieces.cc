// SPDX-License-Identifier: Apache-2.0
#include "core/model/gguf_pieces.h"

#include <algorithm>
#include <string>
#include <unordered_map>

namespace retort::model {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581

using PieceIndex = std::unordered_map<std::string_view, size_t>;

PieceIndex IndexOf(std::span<const TextPiece> pieces) {
  PieceIndex index;
  index.reserve(pieces.size());
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (pieces[i].merges) index.emplace(pieces[i].text, i);
  }
  return index;
}

bool StartsChar(char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }

// The steps of an object or of a Sequence of such under `list`.
std::vector<json::Value> Steps(const json::Value& value, const char* list) {
  if (!value || value.is_null()) return {};
  if (value["type"].StringOr("") != "Sequence") return {value};
  std::vector<json::Value> steps;
  for (size_t i = 0; i < value[list].size(); ++i) steps.push_back(value[list][i]);
  return steps;
}

std::string Named(const json::Value& step) { return std::string(step["type"].StringOr("?")); }

bool IsReplace(const json::Value& step, std::string_view from, std::string_view to) {
  return step["type"].StringOr("") == "Replace" && step["pattern"]["String"].StringOr("") == from &&
         step["content"].StringOr("") == to;
}

}  // namespace

std::vector<PieceMerge> PieceMerges(std::span<const TextPiece> pieces) {
  struct Found {
    double score, left, right;
    PieceMerge merge;
  };
  const PieceIndex index = IndexOf(pieces);
  std::vector<Found> found;
  for (const TextPiece& piece : pieces) {
    if (!piece.merges) continue;
    const auto first = static_cast<std::ptrdiff_t>(found.size());
    for (size_t cut = 1; cut < piece.text.size(); ++cut) {
      if (!StartsChar(piece.text[cut])) continue;
      const auto left = index.find(piece.text.substr(0, cut));
      if (left == index.end()) continue;
      const auto right = index.find(piece.text.substr(cut));
      if (right == index.end()) continue;
      found.push_back({.score = piece.score,
                       .left = pieces[left->second].score,
                       .right = pieces[right->second].score,
                       .merge = {left->first, right->first}});
    }
    std::stable_sort(found.begin() + first, found.end(), [](const Found& a, const Found& b) {
      return std::pair(a.left, a.right) > std::pair(b.left, b.right);
    });
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const Found& a, const Found& b) { return a.score > b.score; });
  std::vector<PieceMerge> merges;
  merges.reserve(found.size());
  for (const Found& one : found) merges.push_back(one.merge);
  return merges;
}

Status ScorePieces(std::span<const PieceMerge> merges, std::span<TextPiece> pieces) {
  const PieceIndex index = IndexOf(pieces);
  // What no merge makes is never chosen by its score.
  for (size_t i = 0; i < pieces.size(); ++i) {
    pieces[i].score = -static_cast<double>(merges.size() + i);
  }
  std::vector<bool> scored(pieces.size());
  size_t last = pieces.size();
  double score = 0;
  for (const auto& [left, right] : merges) {
    const std::string joined = std::string(left) + std::string(right);
    const auto at = index.find(joined);
    if (at == index.end()) {
      return FailedPrecondition("\"" + joined + "\" is merged, but is no piece of its own");
    }
    if (at->second == last) continue;
    last = at->second;
    if (scored[last]) {
      return FailedPrecondition("merges of \"" + joined + "\" have others between them");
    }
    scored[last] = true;
    pieces[last].score = score--;
  }
  std::vector<PieceMerge> given(merges.begin(), merges.end()), all = PieceMerges(pieces);
  std::sort(given.begin(), given.end());
  std::sort(all.begin(), all.end());
  if (given == all) return OkStatus();
  const auto apart = std::mismatch(all.begin(), all.end(), given.begin(), given.end());
  const PieceMerge& one = apart.first != all.end() ? *apart.first : *apart.second;
  return FailedPrecondition("its merges aren't those that a SentencePiece model has: \"" +
                            std::string(one.first) + "\" and \"" + std::string(one.second) +
                            "\" are joined by one of the two alone");
}

Result<PieceForm> PieceFormOf(const json::Value& tokenizer) {
  PieceForm form{.space_in_front = false};
  bool spaces_replaced = false;
  for (const json::Value& step : Steps(tokenizer["normalizer"], "normalizers")) {
    if (step["type"].StringOr("") == "Prepend" && step["prepend"].StringOr("") == kSpace &&
        !spaces_replaced) {
      form.space_in_front = true;
    } else if (IsReplace(step, " ", kSpace)) {
      spaces_replaced = true;
    } else {
      return Unimplemented("its normalizer " + Named(step) + " has no place in GGUF");
    }
  }
  for (const json::Value& step : Steps(tokenizer["pre_tokenizer"], "pretokenizers")) {
    const bool no_spaces_left =
        spaces_replaced && Named(step) == "Split" && step["pattern"]["String"].StringOr("") == " ";
    if (no_spaces_left) continue;
    const std::string_view scheme = step["prepend_scheme"].StringOr("always");
    if (Named(step) != "Metaspace" || step["split"].BoolOr(true) || spaces_replaced ||
        step["replacement"].StringOr("") != kSpace) {
      return Unimplemented("its pre_tokenizer " + Named(step) +
                           " cuts a text where llama.cpp's SentencePiece doesn't");
    }
    spaces_replaced = true;
    form.space_in_front = scheme != "never";
    form.first_alone = scheme == "first";
  }
  if (!spaces_replaced) return Unimplemented("it keeps spaces as they are, SentencePiece doesn't");
  return form;
}

void WritePieceNormalizer(bool space_in_front, json::Writer* w) {
  w->BeginObject().Field("type", "Sequence").Key("normalizers").BeginArray();
  if (space_in_front) {
    w->BeginObject().Field("type", "Prepend").Key("prepend").String(kSpace).EndObject();
  }
  w->BeginObject().Field("type", "Replace").Key("pattern").BeginObject().Field("String", " ");
  w->EndObject().Key("content").String(kSpace).EndObject().EndArray().EndObject();
}

void WritePieceDecoder(bool space_in_front, json::Writer* w) {
  w->BeginObject().Field("type", "Sequence").Key("decoders").BeginArray();
  w->BeginObject().Field("type", "Replace").Key("pattern").BeginObject().Key("String");
  w->String(kSpace).EndObject().Field("content", " ").EndObject();
  w->BeginObject().Field("type", "ByteFallback").EndObject();
  w->BeginObject().Field("type", "Fuse").EndObject();
  if (space_in_front) {
    w->BeginObject().Field("type", "Strip").Field("content", " ").Field("start", 1);
    w->Field("stop", 0).EndObject();
  }
  w->EndArray().EndObject();
}

}  // namespace retort::model
