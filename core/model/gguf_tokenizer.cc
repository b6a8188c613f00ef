// GGUF key-values as tokenizer.json and tokenizer_config.json.
// SPDX-License-Identifier: Apache-2.0
#include <bit>
#include <cmath>

#include "core/model/gguf_pieces.h"
#include "core/model/gguf_pre.h"
#include "core/model/gguf_view.h"
#include "core/text/vocab.h"

namespace retort::model {
namespace {

constexpr int64_t kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5;

Status Refuse(const io::Gguf& gguf, const std::string& rule) {
  return DataLoss(gguf.path() + ": tokenizer: " + rule);
}

Result<GgufPre> FindPre(const io::Gguf& gguf) {
  const std::string_view name = gguf.String("tokenizer.ggml.pre").value_or("");
  if (const std::optional<GgufPre> pre = GgufPreByName(name)) return *pre;
  return Unimplemented(gguf.path() + ": tokenizer.ggml.pre \"" + std::string(name) +
                       "\" is not known (known are " + GgufPreNames() + ")");
}

Status CheckUnique(const io::Gguf& gguf, const std::vector<std::string_view>& tokens) {
  const size_t mask = std::bit_ceil(tokens.size() * 2 + 16) - 1;
  std::vector<uint32_t> slots(mask + 1);  // number of the token + 1; 0: free
  for (size_t i = 0; i < tokens.size(); ++i) {
    size_t at = text::HashToken(tokens[i]) & mask;
    for (; slots[at] != 0; at = (at + 1) & mask) {
      if (tokens[slots[at] - 1] != tokens[i]) continue;
      return Refuse(gguf, "tokens " + std::to_string(slots[at] - 1) + " and " + std::to_string(i) +
                              " are both \"" + std::string(tokens[i]) + "\"");
    }
    slots[at] = static_cast<uint32_t>(i + 1);
  }
  return OkStatus();
}

Status CheckIds(const io::Gguf& gguf, const GgufVocabulary& v) {
  const auto n = static_cast<int64_t>(v.tokens.size());
  for (const char* name : {"bos", "eos", "eot", "eom", "unknown", "padding"}) {
    const std::string key = std::string("tokenizer.ggml.") + name + "_token_id";
    const auto id = gguf.Int(key);
    if (id && (*id < 0 || *id >= n)) {
      return Refuse(gguf, key + " is " + std::to_string(*id) + ", the vocabulary has " +
                              std::to_string(n) + " tokens");
    }
  }
  return CheckUnique(gguf, v.tokens);
}

// Two parts with a space between them.
Result<std::vector<std::pair<std::string_view, std::string_view>>> SplitMerges(
    const io::Gguf& gguf, const std::vector<std::string_view>& merges) {
  std::vector<std::pair<std::string_view, std::string_view>> pairs;
  pairs.reserve(merges.size());
  for (const std::string_view merge : merges) {
    const size_t space = merge.find(' ');
    const bool two = space != merge.npos && space > 0 && space + 1 < merge.size() &&
                     merge.find(' ', space + 1) == merge.npos;
    if (!two) {
      return Refuse(gguf, "merge " + std::to_string(pairs.size()) + ", \"" + std::string(merge) +
                              "\", is not two parts with a space between them");
    }
    pairs.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  return pairs;
}

// SentencePiece has scores for them.
Result<std::vector<PieceMerge>> MergesOfScores(const io::Gguf& gguf, const GgufVocabulary& v) {
  const auto scores = gguf.Doubles("tokenizer.ggml.scores");
  const size_t n = v.tokens.size();
  if (!scores || scores->size() != n) {
    return Refuse(gguf, "tokenizer.ggml.scores must be " + std::to_string(n) + " numbers");
  }
  std::vector<TextPiece> pieces(n);
  for (size_t i = 0; i < n; ++i) {
    pieces[i] = {v.tokens[i], (*scores)[i], v.types[i] == kNormal};
    if (pieces[i].merges && v.tokens[i].size() > kMaxPieceBytes) {
      return Refuse(gguf, "token " + std::to_string(i) + " has " +
                              std::to_string(v.tokens[i].size()) + " bytes; pieces have at most " +
                              std::to_string(kMaxPieceBytes));
    }
    if (!std::isfinite(pieces[i].score)) {
      return Refuse(gguf, "the score of token " + std::to_string(i) + " isn't finite");
    }
  }
  return PieceMerges(pieces);
}

Result<std::vector<PieceMerge>> ReadMerges(const io::Gguf& gguf, const GgufVocabulary& v) {
  if (v.pieces) return MergesOfScores(gguf, v);
  const auto merges = gguf.Strings("tokenizer.ggml.merges");
  if (!merges) return Refuse(gguf, "tokens and merges must be arrays of strings");
  return SplitMerges(gguf, *merges);
}

Result<GgufVocabulary> ReadVocabulary(const io::Gguf& gguf) {
  const std::string_view model = gguf.String("tokenizer.ggml.model").value_or("");
  if (model != "gpt2" && model != "llama") {
    return Unimplemented(gguf.path() + ": tokenizer.ggml.model \"" + std::string(model) +
                         "\" is not read (gpt2, byte-level BPE, and llama, SentencePiece's BPE, "
                         "are); an HF folder of the model has a tokenizer.json");
  }
  GgufVocabulary v;
  v.pieces = model == "llama";
  if (!v.pieces) {
    RETORT_ASSIGN_OR_RETURN(v.pre, FindPre(gguf));
  }
  auto tokens = gguf.Strings("tokenizer.ggml.tokens");
  if (!tokens) return Refuse(gguf, "tokens and merges must be arrays of strings");
  v.tokens = std::move(*tokens);
  v.types =
      gguf.Ints("tokenizer.ggml.token_type").value_or(std::vector<int64_t>(v.tokens.size(), 1));
  if (v.types.size() != v.tokens.size()) {
    return Refuse(gguf, std::to_string(v.types.size()) + " token types for " +
                            std::to_string(v.tokens.size()) + " tokens");
  }
  RETORT_RETURN_IF_ERROR(CheckIds(gguf, v));
  RETORT_ASSIGN_OR_RETURN(v.merges, ReadMerges(gguf, v));
  v.bos = gguf.Int("tokenizer.ggml.bos_token_id");
  v.eos = gguf.Int("tokenizer.ggml.eos_token_id");
  v.unknown = gguf.Int("tokenizer.ggml.unknown_token_id");
  // SentencePiece and Llama 3 put a bos in front unless told otherwise; the others don't.
  const bool usual = v.pieces || v.pre == GgufPre::kLlama3;
  v.add_bos = gguf.Bool("tokenizer.ggml.add_bos_token").value_or(usual);
  v.add_eos = gguf.Bool("tokenizer.ggml.add_eos_token").value_or(false);
  v.space_in_front = gguf.Bool("tokenizer.ggml.add_space_prefix").value_or(true);
  return v;
}

bool IsSpecial(int64_t type) { return type == kControl || type == kUnknown; }

void AddedTokens(const GgufVocabulary& v, json::Writer* w) {
  w->Key("added_tokens").BeginArray();
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    if (!IsSpecial(v.types[i]) && v.types[i] != kUserDefined) continue;
    w->BeginObject().Field("id", static_cast<int64_t>(i)).Key("content").String(v.tokens[i]);
    w->Field("single_word", false).Field("lstrip", false).Field("rstrip", false);
    w->Field("normalized", false).Field("special", IsSpecial(v.types[i])).EndObject();
  }
  w->EndArray();
}

void ByteLevel(bool use_regex, json::Writer* w) {
  w->BeginObject().Field("type", "ByteLevel").Field("add_prefix_space", false);
  w->Field("trim_offsets", true).Field("use_regex", use_regex).EndObject();
}

// TemplateProcessing with the tokens that encoding adds, else ByteLevel (which changes no ids).
void PostProcessor(const GgufVocabulary& v, json::Writer* w) {
  const bool bos = v.add_bos && v.bos, eos = v.add_eos && v.eos;
  w->Key("post_processor");
  if (!bos && !eos) return v.pieces ? static_cast<void>(w->Null()) : ByteLevel(true, w);
  const auto special = [&](int64_t id, int type) {
    w->BeginObject().Key("SpecialToken").BeginObject();
    w->Key("id").String(v.tokens[static_cast<size_t>(id)]).Field("type_id", type);
    w->EndObject().EndObject();
  };
  const auto sequence = [&](const char* name, int type) {
    if (bos) special(*v.bos, type);
    w->BeginObject().Key("Sequence").BeginObject().Field("id", name).Field("type_id", type);
    w->EndObject().EndObject();
    if (eos) special(*v.eos, type);
  };
  w->BeginObject().Field("type", "TemplateProcessing").Key("single").BeginArray();
  sequence("A", 0);
  w->EndArray().Key("pair").BeginArray();
  sequence("A", 0);
  sequence("B", 1);
  w->EndArray().Key("special_tokens").BeginObject();
  const auto entry = [&](int64_t id) {
    const std::string_view token = v.tokens[static_cast<size_t>(id)];
    w->Key(token).BeginObject().Key("id").String(token);
    w->Key("ids").BeginArray().Int(id).EndArray();
    w->Key("tokens").BeginArray().String(token).EndArray().EndObject();
  };
  if (bos) entry(*v.bos);
  if (eos && !(bos && *v.bos == *v.eos)) entry(*v.eos);
  w->EndObject().EndObject();
}

void Tables(const GgufVocabulary& v, json::Writer* w) {
  w->Key("vocab").BeginObject();
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    if (v.types[i] != kUnused) w->Key(v.tokens[i]).Int(static_cast<int64_t>(i));
  }
  w->EndObject().Key("merges").BeginArray();
  for (const auto& [left, right] : v.merges) {
    w->BeginArray().String(left).String(right).EndArray();
  }
  w->EndArray();
}

// What is done to a text before BPE and to ids after it.
void Form(const GgufVocabulary& v, json::Writer* w) {
  w->Key("normalizer");
  if (v.pieces) {
    WritePieceNormalizer(v.space_in_front, w);
    w->Key("pre_tokenizer").Null();
  } else {
    v.pre == GgufPre::kQwen2 ? w->BeginObject().Field("type", "NFC").EndObject() : w->Null();
    w->Key("pre_tokenizer");
    WriteGgufPre(v.pre, w);
  }
  PostProcessor(v, w);
  w->Key("decoder");
  v.pieces ? WritePieceDecoder(v.space_in_front, w) : ByteLevel(true, w);
}

}  // namespace

Result<std::optional<GgufVocabulary>> ReadGgufVocabulary(const io::Gguf& gguf) {
  std::optional<GgufVocabulary> vocabulary;
  if (gguf.String(kGgufTokenizerJson) || gguf.Find("tokenizer.ggml.tokens") == nullptr) {
    return vocabulary;
  }
  RETORT_ASSIGN_OR_RETURN(vocabulary, ReadVocabulary(gguf));
  return vocabulary;
}

std::vector<std::string_view> GgufUsedTokens(const GgufVocabulary& vocabulary) {
  std::vector<std::string_view> tokens = vocabulary.tokens;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (vocabulary.types[i] == kUnused) tokens[i] = {};
  }
  return tokens;
}

std::string GgufTokenizer(const GgufVocabulary& v, GgufTables tables) {
  json::Writer w;
  w.BeginObject().Field("version", "1.0").Key("truncation").Null().Key("padding").Null();
  AddedTokens(v, &w);
  Form(v, &w);
  w.Key("model").BeginObject().Field("type", "BPE").Key("dropout").Null().Key("unk_token");
  v.pieces&& v.unknown ? w.String(v.tokens[static_cast<size_t>(*v.unknown)]) : w.Null();
  w.Key("continuing_subword_prefix").Null().Key("end_of_word_suffix").Null();
  w.Field("fuse_unk", v.pieces).Field("byte_fallback", v.pieces);
  w.Field("ignore_merges", !v.pieces && v.pre == GgufPre::kLlama3);
  if (tables == GgufTables::kWith) Tables(v, &w);  // text::Tokenizer's hash wants them last
  return w.EndObject().EndObject().Take();
}

std::string GgufTokenizerConfig(const io::Gguf& gguf) {
  const auto tokens = gguf.Strings("tokenizer.ggml.tokens");
  if (!tokens) return "";
  json::Writer w(2);
  w.BeginObject().Field("tokenizer_class", "PreTrainedTokenizerFast");
  struct Key {
    const char *gguf, *hf;
  };
  for (const Key& key : {Key{"bos", "bos_token"},
                         {"eos", "eos_token"},
                         {"unknown", "unk_token"},
                         {"padding", "pad_token"}}) {
    const auto id = gguf.Int(std::string("tokenizer.ggml.") + key.gguf + "_token_id");
    w.Key(key.hf);
    id&&* id >= 0 && static_cast<size_t>(*id) < tokens->size()
        ? w.String((*tokens)[static_cast<size_t>(*id)])
        : w.Null();
  }
  w.Field("add_prefix_space", false).Field("clean_up_tokenization_spaces", false);
  const std::string arch(gguf.String("general.architecture").value_or(""));
  if (const auto n = gguf.Int(arch + ".context_length")) w.Field("model_max_length", *n);
  return w.EndObject().Take();
}

}  // namespace retort::model
