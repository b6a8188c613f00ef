// What a Tokenizer is made of, and how its files are read.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/json/json.h"
#include "core/text/added_tokens.h"
#include "core/text/bpe.h"
#include "core/text/decoder.h"
#include "core/text/normalizer.h"
#include "core/text/post_processor.h"
#include "core/text/pre_tokenizer.h"
#include "core/text/tokenizer.h"

namespace retort::text {

// Everything one Encode call writes to; kept between calls so that they allocate little.
struct EncodeScratch {
  BpeScratch bpe;
  Words words;
  std::string valid, normalized;
  std::vector<Cut> cuts, normalized_cuts;
};

struct Tokenizer::Impl {
  std::string what;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  Bpe bpe;
  PostProcessor post_processor;
  Decoder decoder;
  std::vector<AddedToken> added;
  AddedTokenMatcher raw_matcher, normalized_matcher;
  TokenMap added_ids;             // content -> id
  std::vector<int32_t> added_of;  // id -> index in `added`, -1; as long as the vocabulary
  TokenTable bytes;               // id -> what it adds to a text; special tokens: ""
  int32_t vocab_size = 0;
  int32_t bos = -1, eos = -1, pad = -1;
  mutable std::once_flag hash_once;
  mutable std::string hash;
  // What the hash is made of, until it is: keys of tokenizer.json and their texts. With tables the
  // model's is without them; they come from `bpe`.
  mutable std::vector<std::pair<std::string, std::string>> hashed;

  // Scratches not in use; a call takes one and gives it back.
  mutable std::mutex mutex;
  mutable std::vector<std::unique_ptr<EncodeScratch>> idle;

  // `tables`: NULL if they are in the JSON text.
  static Result<std::unique_ptr<Tokenizer>> Make(std::string_view tokenizer_json,
                                                 const BpeTables* tables,
                                                 std::string_view tokenizer_config_json,
                                                 std::string_view what);
  Status ReadTokenizer(const json::Value& root, const BpeTables* tables);
  Status ReadConfig(const json::Value& config);
  Status ReadAdded(const json::Value& list);
  Status CheckAdded(const AddedToken& token, int64_t id, size_t index) const;
  void BuildMatchers();
  void BuildBytes();
  void KeepHashed(const json::Value& root);
  const std::string& Hash() const;

  std::string_view TokenOf(int32_t id) const;
  const AddedToken* AddedOf(int32_t id) const;
  std::optional<int32_t> IdOf(std::string_view token) const;

  Status EncodeText(std::string_view text, bool at_start, bool plain_special,
                    EncodeScratch* scratch, std::vector<int32_t>* ids) const;
  Status EncodeWords(std::string_view text, bool at_start, EncodeScratch* scratch,
                     std::vector<int32_t>* ids) const;
};

}  // namespace retort::text
