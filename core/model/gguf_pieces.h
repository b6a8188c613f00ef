// SentencePiece's BPE in GGUF (tokenizer.ggml.model "llama"): pieces with scores where a
// tokenizer.json has merges with ranks.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/json/json.h"

namespace retort::model {

struct TextPiece {
  std::string_view text;
  double score = 0;
  bool merges = false;  // a normal piece: made by merging, and part of others
};
using PieceMerge = std::pair<std::string_view, std::string_view>;

// No piece that merges is longer: finding merges costs the square of the length.
inline constexpr size_t kMaxPieceBytes = 512;

// Every pair of pieces that makes a piece, best score first; pairs of one piece by the scores of
// their parts. This order is the rank of a tokenizer.json.
std::vector<PieceMerge> PieceMerges(std::span<const TextPiece> pieces);

// The way back: scores of `pieces` so that llama.cpp, which joins any two neighbours that make a
// piece, best score first, does what the merges do. FAILED_PRECONDITION: no scores can.
Status ScorePieces(std::span<const PieceMerge> merges, std::span<TextPiece> pieces);

// What is done to a text beside merging. A space is put in front of each text between special
// tokens, or of the first alone, which GGUF can't say.
struct PieceForm {
  bool space_in_front = true, first_alone = false;
};
// Of a tokenizer.json; UNIMPLEMENTED names the part that llama.cpp has no place for.
Result<PieceForm> PieceFormOf(const json::Value& tokenizer);
// The keys normalizer, pre_tokenizer, decoder.
void WritePieceNormalizer(bool space_in_front, json::Writer* w);
void WritePieceDecoder(bool space_in_front, json::Writer* w);

}  // namespace retort::model
