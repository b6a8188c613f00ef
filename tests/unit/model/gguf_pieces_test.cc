// SentencePiece's BPE in a GGUF: pieces and scores of a model that sentencepiece trained must give
// the ids of sentencepiece and of HF tokenizers (tests/peers/make_tokenizer_goldens.py made them).
// SPDX-License-Identifier: Apache-2.0
#include "core/model/gguf_pieces.h"

#include <gmock/gmock.h>

#include <fstream>
#include <numeric>

#include "core/model/source.h"
#include "core/model/tokenizer.h"
#include "core/text/tokenizer.h"
#include "tests/unit/io/gguf_bytes.h"
#include "tests/unit/io/temp_folder.h"

namespace retort::model {
namespace {

using io::GgufBytes;
using ::testing::HasSubstr;

const std::string kFolder = std::string(RETORT_SOURCE_DIR) + "/tests/golden/tokenizers/";

std::vector<json::Document> Lines(const std::string& name) {
  std::vector<json::Document> lines;
  std::ifstream in(kFolder + name, std::ios::binary);
  for (std::string line; std::getline(in, line);) {
    lines.push_back(json::Document::Parse(line, name).value());
  }
  return lines;
}

std::vector<int32_t> Ids(const json::Value& list) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < list.size(); ++i) ids.push_back(static_cast<int32_t>(list[i].IntOr(-1)));
  return ids;
}

// As sentencepiece gave them; what follows the last piece are its ids of the texts.
struct Golden {
  Golden() : lines(Lines("pieces.spm.jsonl")) {
    const size_t n = lines.size() - Lines("texts.jsonl").size();
    for (size_t i = 0; i < n; ++i) {
      const json::Value line = lines[i].root();
      pieces.emplace_back(line[0].StringOr(""));
      scores.push_back(static_cast<float>(line[1].DoubleOr(0)));
      types.push_back(static_cast<int32_t>(line[2].IntOr(0)));
    }
  }
  json::Value IdsOf(size_t text) const { return lines[pieces.size() + text].root(); }

  std::vector<json::Document> lines;
  std::vector<std::string> pieces;
  std::vector<float> scores;
  std::vector<int32_t> types;
};

GgufBytes File(const Golden& golden, size_t n_scores) {
  GgufBytes f;
  f.String("general.architecture", "llama").U32("llama.block_count", 1);
  f.U32("llama.context_length", 64).U32("llama.embedding_length", 4);
  f.U32("llama.feed_forward_length", 6).U32("llama.attention.head_count", 2);
  f.U32("llama.attention.head_count_kv", 1).F32("llama.rope.freq_base", 10000.0f);
  f.F32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  f.String("tokenizer.ggml.model", "llama").Strings("tokenizer.ggml.tokens", golden.pieces);
  f.Ints("tokenizer.ggml.token_type", golden.types);
  std::string scores = io::Raw(uint32_t{6}) + io::Raw(uint64_t{n_scores});
  for (size_t i = 0; i < n_scores; ++i) scores += io::Raw(golden.scores[i]);
  f.Kv("tokenizer.ggml.scores", 9, scores);
  f.U32("tokenizer.ggml.bos_token_id", 1).U32("tokenizer.ggml.eos_token_id", 2);
  f.U32("tokenizer.ggml.unknown_token_id", 0);
  return f.Floats("token_embd.weight", {4, golden.pieces.size()},
                  std::vector<float>(4 * golden.pieces.size()));
}

std::unique_ptr<text::Tokenizer> TokenizerOf(const GgufBytes& file) {
  const io::TempFolder dir;
  const auto source = Source::Open(dir.Write("m.gguf", file.Bytes())).value();
  auto tokenizer = OpenTokenizer(*source).value();
  const auto from_json =
      text::Tokenizer::FromJson(source->tokenizer_json(), source->tokenizer_config_json(), "m");
  EXPECT_EQ(tokenizer->hash(), from_json.value()->hash());
  return tokenizer;
}

TEST(GgufPieces, IdsAreThoseOfSentencePieceAndHfTokenizers) {
  const Golden golden;
  ASSERT_EQ(golden.pieces.size(), 500u);
  const auto tokenizer = TokenizerOf(File(golden, golden.scores.size()));
  const auto texts = Lines("texts.jsonl"), hf = Lines("pieces.ids.jsonl");
  size_t compared = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::string text(texts[i].root()["text"].StringOr(""));
    const std::vector<int32_t> ids = tokenizer->Encode(text).value();
    EXPECT_EQ(ids, Ids(hf[i].root()["ids"])) << i;
    EXPECT_EQ(tokenizer->Decode(ids).value(), hf[i].root()["decoded"].StringOr(text)) << i;
    if (golden.IdsOf(i).is_null()) continue;  // names added tokens
    EXPECT_EQ(tokenizer->Encode(text, {.add_special_tokens = false}).value(), Ids(golden.IdsOf(i)))
        << i;
    ++compared;
  }
  EXPECT_GT(compared, 90u);
}

TEST(GgufPieces, WithoutASpaceInFront) {
  const Golden golden;
  GgufBytes file = File(golden, golden.scores.size());
  const auto with = TokenizerOf(file);
  const auto without = TokenizerOf(file.Bool("tokenizer.ggml.add_space_prefix", false)
                                       .Bool("tokenizer.ggml.add_bos_token", false));
  EXPECT_EQ(without->Encode(" the sum").value(),
            with->Encode("the sum", {.add_special_tokens = false}).value());
  EXPECT_EQ(without->Decode(without->Encode(" the sum").value()).value(), " the sum");
}

TEST(GgufPieces, WrongScoresAndPiecesAreRefused) {
  const auto refused = [](const Golden& golden, size_t n_scores, const std::string& rule) {
    const io::TempFolder dir;
    const auto source = Source::Open(dir.Write("m.gguf", File(golden, n_scores).Bytes()));
    ASSERT_FALSE(source.ok()) << rule;
    EXPECT_THAT(source.status().message(), HasSubstr(rule));
    EXPECT_THAT(source.status().message(), HasSubstr("m.gguf"));
  };
  Golden golden;
  refused(golden, 499, "tokenizer.ggml.scores must be 500 numbers");
  golden.scores[300] = NAN;
  refused(golden, 500, "the score of token 300 isn't finite");
  golden.scores[300] = 0;
  golden.pieces[300] = std::string(kMaxPieceBytes + 1, 'x');
  refused(golden, 500, "token 300 has 513 bytes");
}

// The way back: transformers' merges give scores that order pieces as sentencepiece's do.
TEST(ScorePieces, OrdersPiecesAsSentencePieceDoes) {
  const Golden golden;
  const json::Document tokenizer =
      json::Document::Parse(io::ReadAll(kFolder + "pieces.json"), "pieces.json").value();
  const json::Value list = tokenizer.root()["model"]["merges"];
  std::vector<PieceMerge> merges;
  for (size_t i = 0; i < list.size(); ++i) {
    merges.emplace_back(list[i][size_t{0}].StringOr(""), list[i][size_t{1}].StringOr(""));
  }
  std::vector<TextPiece> pieces;
  for (size_t i = 0; i < golden.pieces.size(); ++i) {
    pieces.push_back({.text = golden.pieces[i], .merges = golden.types[i] == 1});
  }
  ASSERT_TRUE(ScorePieces(merges, pieces).ok());
  std::vector<size_t> order(pieces.size()), theirs;
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return pieces[a].score > pieces[b].score; });
  std::erase_if(order, [&](size_t i) { return golden.types[i] != 1; });
  theirs = order;
  std::stable_sort(theirs.begin(), theirs.end(),
                   [&](size_t a, size_t b) { return golden.scores[a] > golden.scores[b]; });
  EXPECT_EQ(order, theirs);
}

Status Score(std::vector<PieceMerge> merges) {
  std::vector<TextPiece> pieces;
  for (const char* text : {"a", "b", "c", "ab", "bc", "abc"}) {
    pieces.push_back({.text = text, .merges = true});
  }
  return ScorePieces(merges, pieces);
}

TEST(ScorePieces, MergesThatNoScoresMakeAreRefused) {
  const PieceMerge a_b{"a", "b"}, b_c{"b", "c"}, ab_c{"ab", "c"}, a_bc{"a", "bc"};
  EXPECT_TRUE(Score({a_b, b_c, ab_c, a_bc}).ok());
  EXPECT_THAT(Score({a_b, b_c, ab_c}).message(), HasSubstr("\"a\" and \"bc\""));
  EXPECT_THAT(Score({a_b, ab_c, b_c, a_bc}).message(), HasSubstr("others between them"));
  EXPECT_THAT(Score({a_b, b_c, ab_c, a_bc, {"c", "a"}}).message(), HasSubstr("no piece"));
}

}  // namespace
}  // namespace retort::model
