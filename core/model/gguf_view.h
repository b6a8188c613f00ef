// A GGUF seen as an HF folder: pure functions from its key-values to the texts and names.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/io/gguf.h"
#include "core/model/files.h"
#include "core/model/gguf_arch.h"
#include "core/model/gguf_pre.h"

namespace retort::model {

// config.json and generation_config.json; UNIMPLEMENTED names the architectures that are read.
Result<std::string> GgufConfig(const io::Gguf& gguf);
std::string GgufGenerationConfig(const io::Gguf& gguf);

// A tokenizer in llama.cpp's keys; views point into the file.
struct GgufVocabulary {
  std::vector<std::string_view> tokens;
  std::vector<std::pair<std::string_view, std::string_view>> merges;
  std::vector<int64_t> types;
  GgufPre pre = GgufPre::kGpt2;
  std::optional<int64_t> bos, eos, unknown;
  bool add_bos = false, add_eos = false;
  bool pieces = false, space_in_front = true;  // SentencePiece's (gguf_pieces.h), else byte-level
};
// Nothing: the file holds no tokenizer, or the one that its maker wrote (kGgufTokenizerJson).
Result<std::optional<GgufVocabulary>> ReadGgufVocabulary(const io::Gguf& gguf);
// It as tokenizer.json; without its tables it is what text::Tokenizer::FromTables takes.
enum class GgufTables { kWith, kWithout };
std::string GgufTokenizer(const GgufVocabulary& vocabulary, GgufTables tables);
// What belongs to tokens that there are: a view without data for the others.
std::vector<std::string_view> GgufUsedTokens(const GgufVocabulary& vocabulary);
// tokenizer_config.json.
std::string GgufTokenizerConfig(const io::Gguf& gguf);

// The rotary keys of the config: rope_theta, rope_scaling and what belongs to them. `key` is
// "llama." or so.
Status GgufRope(const io::Gguf& gguf, const GgufArch& arch, const std::string& key,
                json::Writer* out);

// Keys of GGUF that llama.cpp doesn't know (it infers or ignores them): "<arch>." + this.
inline constexpr const char* kLlama3Factor = "rope.scaling.llama3_factor";
inline constexpr const char* kLlama3Low = "rope.scaling.llama3_low_freq_factor";
inline constexpr const char* kLlama3High = "rope.scaling.llama3_high_freq_factor";

// One factor per frequency, by the rule of Llama 3.1: frequencies are divided by them.
struct Llama3Rule {
  double factor = 8, low = 1, high = 4;
  int64_t context = 8192;
};
std::vector<float> Llama3Factors(const Llama3Rule& rule, double theta, int64_t rotary_dim);

// query_pre_attn_scalar where neither file says it, as llama.cpp has it.
int64_t GemmaQueryScalar(const GgufArch& arch, int64_t blocks, int64_t width, int64_t heads,
                         int64_t head_dim);

}  // namespace retort::model
