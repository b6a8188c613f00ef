// Reading tokenizer.json and tokenizer_config.json.
// SPDX-License-Identifier: Apache-2.0
#include "core/text/tokenizer_parts.h"

#include <algorithm>
#include <utility>

#include "core/base/hash.h"

namespace retort::text {
namespace {

constexpr size_t kMaxAddedBytes = 1024;

// A token of tokenizer_config.json: a string, or an AddedToken object.
std::string_view TokenText(const json::Value& value) {
  return value.is_object() ? value["content"].StringOr("") : value.StringOr("");
}

std::string ClassName(const json::Value& config) {
  std::string name(config["tokenizer_class"].StringOr(""));
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  return name;
}

}  // namespace

Status Tokenizer::Impl::ReadTokenizer(const json::Value& root, const BpeTables* tables) {
  if (!root.is_object()) {
    return InvalidArgument(what + ": tokenizer.json: the file must hold a JSON object");
  }
  RETORT_ASSIGN_OR_RETURN(normalizer, Normalizer::FromJson(root["normalizer"], what));
  RETORT_ASSIGN_OR_RETURN(pre_tokenizer, PreTokenizer::FromJson(root["pre_tokenizer"], what));
  RETORT_ASSIGN_OR_RETURN(bpe,
                          Bpe::FromJson(root["model"], tables, pre_tokenizer.byte_level(), what));
  RETORT_ASSIGN_OR_RETURN(decoder, Decoder::FromJson(root["decoder"], what));
  vocab_size = bpe.tokens().size();
  RETORT_RETURN_IF_ERROR(ReadAdded(root["added_tokens"]));
  RETORT_ASSIGN_OR_RETURN(post_processor,
                          PostProcessor::FromJson(root["post_processor"], vocab_size, what));
  BuildMatchers();
  BuildBytes();
  return OkStatus();
}

Status Tokenizer::Impl::CheckAdded(const AddedToken& token, int64_t id, size_t index) const {
  const std::string where =
      what + ": tokenizer.json: added_tokens[" + std::to_string(index) + "]: ";
  const int64_t limit = int64_t{bpe.tokens().size()} * 4 + 65'536;
  if (id < 0 || id >= limit) {
    return InvalidArgument(where + "id " + std::to_string(id) + " is outside 0.." +
                           std::to_string(limit - 1));
  }
  if (token.content.empty() || token.content.size() > kMaxAddedBytes) {
    return InvalidArgument(where + "'content' has " + std::to_string(token.content.size()) +
                           " bytes; 1 to 1024 are allowed");
  }
  const auto in_vocab = bpe.vocab().Find(token.content);
  if (in_vocab && *in_vocab != id) {
    return InvalidArgument(where + "'" + token.content + "' has id " + std::to_string(id) +
                           ", but " + std::to_string(*in_vocab) + " in model.vocab");
  }
  const std::string_view other = bpe.tokens().Get(static_cast<int32_t>(id));
  if (!in_vocab && !other.empty()) {
    return InvalidArgument(where + "id " + std::to_string(id) + " of '" + token.content +
                           "' already belongs to '" + std::string(other) + "'");
  }
  return OkStatus();
}

Status Tokenizer::Impl::ReadAdded(const json::Value& list) {
  if (list && !list.is_null() && !list.is_array()) {
    return InvalidArgument(what + ": tokenizer.json: added_tokens is not a list");
  }
  added.reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i) {
    const json::Value entry = list[i];
    AddedToken token;
    const auto id = entry["id"].AsInt();
    if (!id.ok()) {
      return id.status().WithContext(what + ": tokenizer.json: added_tokens[" + std::to_string(i) +
                                     "].id");
    }
    token.content = std::string(entry["content"].StringOr(""));
    token.single_word = entry["single_word"].BoolOr(false);
    token.lstrip = entry["lstrip"].BoolOr(false);
    token.rstrip = entry["rstrip"].BoolOr(false);
    token.special = entry["special"].BoolOr(false);
    token.normalized = entry["normalized"].BoolOr(!token.special);
    RETORT_RETURN_IF_ERROR(CheckAdded(token, *id, i));
    token.id = static_cast<int32_t>(*id);
    if (!added_ids.Insert(token.content, token.id)) {
      return InvalidArgument(what + ": tokenizer.json: added token '" + token.content +
                             "' is listed twice");
    }
    vocab_size = std::max(vocab_size, token.id + 1);
    added.push_back(std::move(token));
  }
  added_of.assign(static_cast<size_t>(vocab_size), -1);
  for (size_t i = 0; i < added.size(); ++i) {
    int32_t& slot = added_of[static_cast<size_t>(added[i].id)];
    if (slot >= 0) {
      return InvalidArgument(what + ": tokenizer.json: added tokens '" +
                             added[static_cast<size_t>(slot)].content + "' and '" +
                             added[i].content + "' share the id " + std::to_string(added[i].id));
    }
    slot = static_cast<int32_t>(i);
  }
  return OkStatus();
}

void Tokenizer::Impl::BuildMatchers() {
  std::vector<const AddedToken*> raw, normalized;
  std::vector<std::string> raw_texts, normalized_texts;
  for (const AddedToken& token : added) {
    std::string storage;
    (token.normalized ? normalized : raw).push_back(&token);
    (token.normalized ? normalized_texts : raw_texts)
        .emplace_back(token.normalized ? normalizer.Apply(token.content, &storage) : token.content);
  }
  raw_matcher.Build(raw, raw_texts);
  normalized_matcher.Build(normalized, normalized_texts);
}

void Tokenizer::Impl::BuildBytes() {
  bytes.Resize(vocab_size, bpe.vocab().bytes());
  for (int32_t id = 0; id < vocab_size; ++id) {
    const AddedToken* token = AddedOf(id);
    if (token == nullptr && !bpe.tokens().Has(id)) continue;
    bytes.Set(id, token != nullptr && token->special ? "" : decoder.TokenBytes(TokenOf(id)));
  }
}

Status Tokenizer::Impl::ReadConfig(const json::Value& config) {
  const auto id_of = [&](const char* key) {
    const std::string_view token = TokenText(config[key]);
    return token.empty() ? -1 : IdOf(token).value_or(-1);
  };
  bos = id_of("bos_token");
  eos = id_of("eos_token");
  pad = id_of("pad_token");
  if (ClassName(config) != "LlamaTokenizer") return OkStatus();
  // These classes build their own template from the two switches.
  const json::Value add_bos = config["add_bos_token"], add_eos = config["add_eos_token"];
  if (add_bos.is_bool()) {
    post_processor.prefix.clear();
    if (add_bos.BoolOr(false)) {
      if (bos < 0) {
        return InvalidArgument(what +
                               ": tokenizer_config.json: add_bos_token is true, but "
                               "bos_token is not in the vocabulary");
      }
      post_processor.prefix.push_back(bos);
    }
  }
  if (add_eos.is_bool()) {
    post_processor.suffix.clear();
    if (add_eos.BoolOr(false)) {
      if (eos < 0) {
        return InvalidArgument(what +
                               ": tokenizer_config.json: add_eos_token is true, but "
                               "eos_token is not in the vocabulary");
      }
      post_processor.suffix.push_back(eos);
    }
  }
  return OkStatus();
}

void Tokenizer::Impl::KeepHashed(const json::Value& root) {
  for (const char* key : {"normalizer", "pre_tokenizer", "added_tokens", "model"}) {
    hashed.emplace_back(key, root[key] ? root[key].Dump() : "");
  }
}

const std::string& Tokenizer::Impl::Hash() const {
  std::call_once(hash_once, [this] {
    Hasher hasher;
    hasher.UpdateSized("retort tokenizer 1");
    for (const auto& [key, text] : hashed) {
      hasher.UpdateSized(key);
      hasher.UpdateSized(key == "model" ? bpe.WithTables(text) : text);
    }
    for (const auto* ids : {&post_processor.prefix, &post_processor.suffix}) {
      hasher.UpdateSized(std::string_view(reinterpret_cast<const char*>(ids->data()),
                                          ids->size() * sizeof(int32_t)));
    }
    hash = hasher.Hex();
    hashed = {};
  });
  return hash;
}

}  // namespace retort::text
