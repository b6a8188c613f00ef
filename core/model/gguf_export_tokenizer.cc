// A tokenizer.json (byte-level BPE, or SentencePiece's) as the keys tokenizer.ggml.* that llama.cpp
// reads, and whole beside them, so that nothing is lost on the way back.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <optional>
#include <set>

#include "core/model/files.h"
#include "core/model/gguf_export_parts.h"
#include "core/model/gguf_pieces.h"
#include "core/model/gguf_pre.h"

namespace retort::model {
namespace {

enum TokenType : int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

// "<0x0A>"
bool IsByteToken(std::string_view token) {
  const auto is_hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); };
  return token.size() == 6 && token.starts_with("<0x") && is_hex(token[3]) && is_hex(token[4]) &&
         token[5] == '>';
}

class TokenizerWriter {
 public:
  TokenizerWriter(const Source& source, int64_t vocab, const json::Value& tokenizer,
                  const json::Value& config, ExportKeys* out)
      : source_(source),
        vocab_(vocab),
        tokenizer_(tokenizer),
        config_(config),
        kvs_(out->kvs),
        warnings_(out->warnings) {}

  Status Write() {
    RETORT_RETURN_IF_ERROR(CheckModel());
    RETORT_RETURN_IF_ERROR(Tokens());
    RETORT_RETURN_IF_ERROR(Merges());
    const bool pieces = tokenizer_["model"]["byte_fallback"].BoolOr(false);
    RETORT_RETURN_IF_ERROR(pieces ? Pieces() : ByteLevel());
    RETORT_RETURN_IF_ERROR(PostProcessor(tokenizer_["post_processor"]));
    const std::string_view kind = config_["tokenizer_class"].StringOr("");
    if (kind == "LlamaTokenizer" || kind == "LlamaTokenizerFast") {
      add_bos_ = config_["add_bos_token"].BoolOr(add_bos_);
      add_eos_ = config_["add_eos_token"].BoolOr(add_eos_);
    }
    kvs_.Strings("tokenizer.ggml.tokens", tokens_).I32s("tokenizer.ggml.token_type", types_);
    Ids();
    kvs_.Bool("tokenizer.ggml.add_bos_token", add_bos_);
    kvs_.Bool("tokenizer.ggml.add_eos_token", add_eos_);
    if (!source_.chat_template().empty()) {
      kvs_.String("tokenizer.chat_template", source_.chat_template());
    }
    kvs_.String(kGgufTokenizerJson, source_.tokenizer_json());
    return OkStatus();
  }

 private:
  Status Refuse(const std::string& rule) const {
    return Unimplemented(source_.path() + ": tokenizer.json: " + rule +
                         "; keep the model as an HF folder, or convert it with llama.cpp's "
                         "convert_hf_to_gguf.py");
  }

  Status CheckModel() const {
    const json::Value model = tokenizer_["model"];
    const std::string_view type = model["type"].StringOr("BPE");
    if (type != "BPE") {
      return Refuse("its model is " + std::string(type) + ", GGUF takes BPE here");
    }
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (!model[key].StringOr("").empty()) return Refuse(std::string(key) + " is set");
    }
    return OkStatus();
  }

  Status Place(int64_t id, std::string_view token, int32_t type) {
    if (id < 0 || id >= vocab_) {
      return InvalidArgument(source_.path() + ": tokenizer.json: token \"" + std::string(token) +
                             "\" has id " + std::to_string(id) + ", the embedding has " +
                             std::to_string(vocab_) + " rows");
    }
    const auto at = static_cast<size_t>(id);
    if (types_[at] != kUnused && tokens_[at] != token) {
      return InvalidArgument(source_.path() + ": tokenizer.json: tokens \"" + tokens_[at] +
                             "\" and \"" + std::string(token) + "\" have one id, " +
                             std::to_string(id));
    }
    tokens_[at] = token;
    types_[at] = type;
    return OkStatus();
  }

  Status Tokens() {
    tokens_.resize(static_cast<size_t>(vocab_));
    types_.assign(tokens_.size(), kUnused);
    const json::Value vocab = tokenizer_["model"]["vocab"];
    for (size_t i = 0; i < vocab.size(); ++i) {
      RETORT_RETURN_IF_ERROR(Place(vocab.value_at(i).IntOr(-1), vocab.key_at(i), kNormal));
    }
    const json::Value added = tokenizer_["added_tokens"];
    for (size_t i = 0; i < added.size(); ++i) {
      const bool special = added[i]["special"].BoolOr(false);
      RETORT_RETURN_IF_ERROR(Place(added[i]["id"].IntOr(-1), added[i]["content"].StringOr(""),
                                   special ? kControl : kUserDefined));
    }
    // Rows of the embedding without a token: llama.cpp wants a name of its own for each.
    const std::set<std::string> taken(tokens_.begin(), tokens_.end());
    for (size_t i = 0; i < tokens_.size(); ++i) {
      if (types_[i] != kUnused) continue;
      tokens_[i] = "[PAD" + std::to_string(i) + "]";
      if (taken.contains(tokens_[i])) {
        return Refuse("\"" + tokens_[i] + "\" is a token, and the name of an empty row");
      }
    }
    return OkStatus();
  }

  Status Merges() {
    const json::Value merges = tokenizer_["model"]["merges"];
    for (size_t i = 0; i < merges.size(); ++i) {
      if (merges[i].is_string()) {
        merges_.emplace_back(merges[i].StringOr(""));
      } else {
        merges_.push_back(std::string(merges[i][size_t{0}].StringOr("")) + " " +
                          std::string(merges[i][size_t{1}].StringOr("")));
      }
      if (std::count(merges_.back().begin(), merges_.back().end(), ' ') != 1) {
        return Refuse("merge " + std::to_string(i) + " is not of two parts without spaces");
      }
    }
    return OkStatus();
  }

  Status ByteLevel() {
    const std::optional<GgufPre> pre = GgufPreOf(tokenizer_);
    if (!pre) {
      return Refuse("its pre_tokenizer is none that GGUF has a name for here (" + GgufPreNames() +
                    ")");
    }
    const std::string_view normalizer = tokenizer_["normalizer"]["type"].StringOr("");
    if (!normalizer.empty() && !(normalizer == "NFC" && *pre == GgufPre::kQwen2)) {
      return Refuse("its normalizer " + std::string(normalizer) + " has no place in GGUF");
    }
    kvs_.String("tokenizer.ggml.model", "gpt2").String("tokenizer.ggml.pre", GgufPreName(*pre));
    kvs_.Strings("tokenizer.ggml.merges", merges_);
    return OkStatus();
  }

  // SentencePiece's BPE: scores for ranks.
  Status Pieces() {
    const Result<PieceForm> form = PieceFormOf(tokenizer_);
    if (!form.ok()) return Refuse(form.status().message());
    if (form->first_alone) {
      warnings_.push_back(
          "llama.cpp puts a space in front of each text after a special token, "
          "this tokenizer in front of the first text alone");
    }
    const std::string_view unknown = tokenizer_["model"]["unk_token"].StringOr("");
    std::vector<TextPiece> pieces(tokens_.size());
    for (size_t i = 0; i < tokens_.size(); ++i) {
      if (types_[i] == kNormal && IsByteToken(tokens_[i])) types_[i] = kByte;
      if (types_[i] != kUnused && tokens_[i] == unknown) {
        types_[i] = kUnknown;
        unknown_ = static_cast<int64_t>(i);
      }
      pieces[i] = {.text = tokens_[i], .merges = types_[i] == kNormal};
      if (pieces[i].merges && tokens_[i].size() > kMaxPieceBytes) {
        return Refuse("token " + std::to_string(i) + " has more than " +
                      std::to_string(kMaxPieceBytes) + " bytes");
      }
    }
    std::vector<PieceMerge> merges;
    for (const std::string_view merge : merges_) {
      const size_t space = merge.find(' ');
      merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
    }
    const Status scored = ScorePieces(merges, pieces);
    if (!scored.ok()) return Refuse(scored.message());
    std::vector<float> scores;
    for (const TextPiece& piece : pieces) scores.push_back(static_cast<float>(piece.score));
    kvs_.String("tokenizer.ggml.model", "llama").String("tokenizer.ggml.pre", "default");
    kvs_.F32s("tokenizer.ggml.scores", scores);
    kvs_.Bool("tokenizer.ggml.add_space_prefix", form->space_in_front);
    return OkStatus();
  }

  // What encoding adds to a text: GGUF knows one token in front and one behind.
  Status PostProcessor(const json::Value& processor) {
    const std::string_view type = processor["type"].StringOr("");
    if (type.empty() || type == "ByteLevel") return OkStatus();
    if (type == "Sequence") {
      const json::Value list = processor["processors"];
      for (size_t i = 0; i < list.size(); ++i) RETORT_RETURN_IF_ERROR(PostProcessor(list[i]));
      return OkStatus();
    }
    if (type != "TemplateProcessing") {
      return Refuse("its post_processor " + std::string(type) + " has no place in GGUF");
    }
    const json::Value single = processor["single"];
    bool text_passed = false;
    for (size_t i = 0; i < single.size(); ++i) {
      if (single[i]["Sequence"]) {
        text_passed = true;
        continue;
      }
      const std::string_view name = single[i]["SpecialToken"]["id"].StringOr("");
      const json::Value ids = processor["special_tokens"][name]["ids"];
      bool& add = text_passed ? add_eos_ : add_bos_;
      if (ids.size() != 1 || add) {
        return Refuse("its post_processor adds more than a token in front and one behind");
      }
      add = true;
      (text_passed ? added_eos_ : added_bos_) = ids[size_t{0}].IntOr(-1);
    }
    return OkStatus();
  }

  // The id of a token that tokenizer_config.json names, as a text or as an object.
  std::optional<int64_t> Named(const char* key) const {
    const json::Value value = config_[key];
    const std::string_view name =
        value.is_object() ? value["content"].StringOr("") : value.StringOr("");
    if (name.empty()) return std::nullopt;
    const auto it = std::find(tokens_.begin(), tokens_.end(), name);
    if (it == tokens_.end()) return std::nullopt;
    return it - tokens_.begin();
  }

  // eos_token_id of generation_config.json and config.json: a number, or a list.
  std::vector<int64_t> Ends() const {
    std::vector<int64_t> ends;
    const auto add = [&](std::optional<int64_t> id) {
      const bool fits = id && *id >= 0 && *id < vocab_;
      if (fits && std::find(ends.begin(), ends.end(), *id) == ends.end()) ends.push_back(*id);
    };
    add(Named("eos_token"));
    const auto add_all = [&](const json::Value& value) {
      if (value.is_number()) add(value.IntOr(-1));
      for (size_t i = 0; value.is_array() && i < value.size(); ++i) add(value[i].IntOr(-1));
    };
    const auto generation = json::Document::Parse(
        source_.generation_config_json().empty() ? "{}" : source_.generation_config_json(),
        source_.path() + ": generation_config.json");
    if (generation.ok()) add_all(generation->root()["eos_token_id"]);
    add_all(source_.config().root()["eos_token_id"]);
    return ends;
  }

  void Id(const char* name, std::optional<int64_t> id, const char* config_key = nullptr) {
    if (!id && config_key != nullptr) {
      const json::Value value = source_.config().root()[config_key];
      if (value.is_number()) id = value.IntOr(-1);
    }
    if (!id || *id < 0 || *id >= vocab_) return;
    kvs_.U32(std::string("tokenizer.ggml.") + name + "_token_id", static_cast<uint32_t>(*id));
  }

  void Ids() {
    Id("bos", added_bos_ ? added_bos_ : Named("bos_token"), "bos_token_id");
    std::vector<int64_t> ends = Ends();
    if (added_eos_) {
      ends.erase(std::remove(ends.begin(), ends.end(), *added_eos_), ends.end());
      ends.insert(ends.begin(), *added_eos_);
    }
    const char* names[] = {"eos", "eot", "eom"};
    for (size_t i = 0; i < std::min(ends.size(), std::size(names)); ++i) Id(names[i], ends[i]);
    Id("unknown", unknown_ ? unknown_ : Named("unk_token"));
    Id("padding", Named("pad_token"), "pad_token_id");
  }

  const Source& source_;
  const int64_t vocab_;
  const json::Value &tokenizer_, &config_;
  io::GgufKvs& kvs_;
  std::vector<std::string>& warnings_;
  std::vector<std::string> tokens_, merges_;
  std::vector<int32_t> types_;
  bool add_bos_ = false, add_eos_ = false;
  std::optional<int64_t> added_bos_, added_eos_, unknown_;
};

}  // namespace

Status TokenizerKeys(const Source& source, int64_t vocab, ExportKeys* out) {
  if (source.tokenizer_json().empty()) {
    out->warnings.push_back("the model has no tokenizer; llama.cpp doesn't open the file");
    return OkStatus();
  }
  const json::ParseOptions limits{.max_bytes = kMaxTokenizerBytes};
  RETORT_ASSIGN_OR_RETURN(
      const json::Document tokenizer,
      json::Document::Parse(source.tokenizer_json(), source.path() + ": tokenizer.json", limits));
  const std::string& text = source.tokenizer_config_json();
  RETORT_ASSIGN_OR_RETURN(const json::Document config,
                          json::Document::Parse(text.empty() ? "{}" : text,
                                                source.path() + ": tokenizer_config.json", limits));
  const json::Value root = tokenizer.root(), settings = config.root();
  return TokenizerWriter(source, vocab, root, settings, out).Write();
}

}  // namespace retort::model
