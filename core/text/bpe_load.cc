// Reading the `model` of a tokenizer.json: refusals first, tables after.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/text/bpe.h"

namespace retort::text {
namespace {

Status Bad(std::string_view what, const std::string& message) {
  return InvalidArgument(std::string(what) + ": tokenizer.json: " + message);
}

std::string Quoted(std::string_view text) {
  std::string shown = "'" + std::string(text.substr(0, 60));
  return shown + (text.size() > 60 ? "...'" : "'");
}

// Ids may have gaps, but not so many that a small file asks for a large table.
int64_t IdLimit(size_t entries) { return static_cast<int64_t>(entries) * 4 + 65'536; }

Status RefuseUnsupported(const json::Value& model, std::string_view what) {
  const std::string_view type = model["type"].StringOr("BPE");
  if (type != "BPE") {
    return Unimplemented(std::string(what) + ": tokenizer.json: model " + Quoted(type) +
                         " is not supported (supported: BPE)");
  }
  if (model["dropout"] && !model["dropout"].is_null() && model["dropout"].DoubleOr(1) != 0) {
    return Unimplemented(std::string(what) + ": tokenizer.json: model.dropout is not supported");
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!model[key].StringOr("").empty()) {
      return Unimplemented(std::string(what) + ": tokenizer.json: model." + key +
                           " is not supported (only empty)");
    }
  }
  return OkStatus();
}

}  // namespace

Result<Bpe> Bpe::FromJson(const json::Value& model, const BpeTables* tables, bool byte_level,
                          std::string_view what) {
  if (!model.is_object()) return Bad(what, "'model' is missing or not an object");
  RETORT_RETURN_IF_ERROR(RefuseUnsupported(model, what));
  Bpe bpe;
  bpe.byte_level_ = byte_level;
  bpe.byte_fallback_ = !byte_level && model["byte_fallback"].BoolOr(false);
  bpe.fuse_unk_ = model["fuse_unk"].BoolOr(false);
  bpe.ignore_merges_ = model["ignore_merges"].BoolOr(false);
  if (tables != nullptr) {
    RETORT_RETURN_IF_ERROR(bpe.TakeTables(*tables, what));
  } else {
    RETORT_RETURN_IF_ERROR(bpe.ReadVocab(model["vocab"], what));
    RETORT_RETURN_IF_ERROR(bpe.ReadMerges(model["merges"], what));
  }
  RETORT_RETURN_IF_ERROR(bpe.ReadUnknown(model, what));
  bpe.PrepareBytes();
  return bpe;
}

Status Bpe::ReadVocab(const json::Value& vocab, std::string_view what) {
  if (!vocab.is_object() || vocab.size() == 0) {
    return Bad(what, "model.vocab is missing, empty or not an object");
  }
  size_t bytes = 0;
  int64_t top = -1;
  for (size_t i = 0; i < vocab.size(); ++i) {
    const auto id = vocab.value_at(i).AsInt();
    if (!id.ok() || *id < 0 || *id >= IdLimit(vocab.size())) {
      return Bad(what, "id of token " + Quoted(vocab.key_at(i)) + " is " +
                           vocab.value_at(i).Dump() + "; ids are integers from 0 to " +
                           std::to_string(IdLimit(vocab.size()) - 1) + " here");
    }
    top = std::max(top, *id);
    bytes += vocab.key_at(i).size();
  }
  vocab_.Reserve(vocab.size(), bytes);
  tokens_.Resize(static_cast<int32_t>(top + 1), bytes);
  for (size_t i = 0; i < vocab.size(); ++i) {
    const std::string_view token = vocab.key_at(i);
    const auto id = static_cast<int32_t>(vocab.value_at(i).IntOr(0));
    if (tokens_.Has(id)) {
      return Bad(what, "tokens " + Quoted(tokens_.Get(id)) + " and " + Quoted(token) +
                           " share the id " + std::to_string(id));
    }
    tokens_.Set(id, token);
    vocab_.Insert(token, id);
  }
  return OkStatus();
}

Status Bpe::ReadMerges(const json::Value& merges, std::string_view what) {
  if (!merges.is_array()) return Bad(what, "model.merges is missing or not a list");
  merges_.Reserve(merges.size());
  std::string joined;
  for (size_t i = 0; i < merges.size(); ++i) {
    const json::Value merge = merges[i];
    std::string_view left, right;
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      left = merge[0].StringOr("");
      right = merge[1].StringOr("");
    } else if (merge.is_string()) {
      const std::string_view both = merge.StringOr("");
      const size_t space = both.find(' ');
      if (space != std::string_view::npos && both.find(' ', space + 1) == std::string_view::npos) {
        left = both.substr(0, space);
        right = both.substr(space + 1);
      }
    }
    if (left.empty() || right.empty()) {
      return Bad(what, "model.merges[" + std::to_string(i) + "] is " + Quoted(merge.Dump()) +
                           ", not two tokens");
    }
    RETORT_RETURN_IF_ERROR(AddMerge(i, left, right, &joined, what));
  }
  return OkStatus();
}

Status Bpe::AddMerge(size_t rank, std::string_view left, std::string_view right,
                     std::string* joined, std::string_view what) {
  joined->assign(left).append(right);
  const auto a = vocab_.Find(left), b = vocab_.Find(right), c = vocab_.Find(*joined);
  if (!a || !b || !c) {
    return Bad(what, "model.merges[" + std::to_string(rank) +
                         "]: " + Quoted(!a ? left : (!b ? right : std::string_view(*joined))) +
                         " is not in model.vocab");
  }
  merges_.Set(*a, *b, {static_cast<uint32_t>(rank), *c});
  if (from_tables_) listed_[rank] = {*a, *b};
  return OkStatus();
}

Status Bpe::TakeTables(const BpeTables& tables, std::string_view what) {
  size_t bytes = 0, n = 0, top = 0;
  for (size_t id = 0; id < tables.tokens.size(); ++id) {
    if (tables.tokens[id].data() == nullptr) continue;
    bytes += tables.tokens[id].size();
    ++n;
    top = id + 1;
  }
  if (n == 0 || top > static_cast<size_t>(IdLimit(n))) {
    return Bad(what, std::to_string(n) + " tokens with ids up to " + std::to_string(top) +
                         " are no vocabulary");
  }
  from_tables_ = true;
  vocab_.Reserve(n, bytes);
  tokens_.Resize(static_cast<int32_t>(top), bytes);
  for (size_t i = 0; i < top; ++i) {
    const std::string_view token = tables.tokens[i];
    const auto id = static_cast<int32_t>(i);
    if (token.data() == nullptr) continue;
    tokens_.Set(id, token);
    if (!vocab_.Insert(token, id)) return Bad(what, "token " + Quoted(token) + " occurs twice");
  }
  merges_.Reserve(tables.merges.size());
  listed_.resize(tables.merges.size());
  std::string joined;
  for (size_t i = 0; i < tables.merges.size(); ++i) {
    const auto& [left, right] = tables.merges[i];
    RETORT_RETURN_IF_ERROR(AddMerge(i, left, right, &joined, what));
  }
  return OkStatus();
}

std::string Bpe::WithTables(std::string_view model) const {
  if (!from_tables_) return std::string(model);
  json::Writer vocab, merges;
  vocab.BeginObject();
  for (int32_t id = 0; id < tokens_.size(); ++id) {
    if (tokens_.Has(id)) vocab.Key(tokens_.Get(id)).Int(id);
  }
  merges.BeginArray();
  for (const auto& [left, right] : listed_) {
    merges.BeginArray().String(tokens_.Get(left)).String(tokens_.Get(right)).EndArray();
  }
  std::string text(model.substr(0, model.size() - 1));  // without its brace
  text.append(",\"vocab\":").append(vocab.EndObject().Take());
  return text.append(",\"merges\":").append(merges.EndArray().Take()).append("}");
}

Status Bpe::ReadUnknown(const json::Value& model, std::string_view what) {
  const std::string_view unk = model["unk_token"].StringOr("");
  if (unk.empty()) return OkStatus();
  const auto id = vocab_.Find(unk);
  if (!id) return Bad(what, "model.unk_token " + Quoted(unk) + " is not in model.vocab");
  unk_id_ = *id;
  return OkStatus();
}

void Bpe::PrepareBytes() {
  std::string spelled;
  for (unsigned b = 0; b < 256; ++b) {
    spelled.clear();
    if (byte_level_) {
      const uint32_t c = ByteToChar(static_cast<uint8_t>(b));
      if (c < 0x80) {
        spelled.push_back(static_cast<char>(c));
      } else {
        spelled.push_back(static_cast<char>(0xC0 | c >> 6));
        spelled.push_back(static_cast<char>(0x80 | (c & 0x3F)));
      }
    } else {
      constexpr char kHex[] = "0123456789ABCDEF";
      spelled = std::string("<0x") + kHex[b >> 4] + kHex[b & 15] + ">";
    }
    byte_ids_[b] = vocab_.Find(spelled).value_or(-1);
  }
  if (!byte_level_ || !ignore_merges_) return;
  byte_words_.Reserve(vocab_.size(), vocab_.bytes());
  for (int32_t id = 0; id < tokens_.size(); ++id) {
    if (tokens_.Has(id) && UnmapBytes(tokens_.Get(id), &spelled)) byte_words_.Insert(spelled, id);
  }
}

}  // namespace retort::text
