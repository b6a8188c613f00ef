// SPDX-License-Identifier: Apache-2.0
#include "core/model/gguf_pre.h"

#include <array>
#include <vector>

namespace retort::model {
namespace {

// Split patterns as the tokenizers themselves spell them (docs/formats.md §5).
constexpr const char* kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kDeepseekNumbers = R"(\p{N}{1,3})";
constexpr const char* kDeepseekCjk = "[一-龥\u3040-ゟ゠-ヿ]+";
constexpr const char* kDeepseekRest =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+)"
    "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*"
    R"(|\s*)"
    "[\r\n]+"
    R"(|\s+(?!\S)|\s+)";

struct PreName {
  std::string_view name;
  GgufPre pre;
};
// The first of each is the one that is written.
constexpr std::array<PreName, 9> kPreNames = {{{"gpt-2", GgufPre::kGpt2},
                                               {"smollm", GgufPre::kSmollm},
                                               {"qwen2", GgufPre::kQwen2},
                                               {"deepseek-r1-qwen", GgufPre::kQwen2},
                                               {"llama-bpe", GgufPre::kLlama3},
                                               {"llama3", GgufPre::kLlama3},
                                               {"llama-v3", GgufPre::kLlama3},
                                               {"dbrx", GgufPre::kDbrx},
                                               {"deepseek-v3", GgufPre::kDeepseek}}};

// What comes before the byte map.
struct Cuts {
  std::vector<std::string_view> patterns = {};
  bool digits = false;     // each digit alone
  bool bytes_cut = false;  // the byte map cuts as GPT-2 does
};

Cuts CutsOf(GgufPre pre) {
  switch (pre) {
    case GgufPre::kGpt2: return {.bytes_cut = true};
    case GgufPre::kSmollm: return {.digits = true, .bytes_cut = true};
    case GgufPre::kQwen2: return {.patterns = {kQwen2Pattern}};
    case GgufPre::kLlama3:
    case GgufPre::kDbrx: return {.patterns = {kLlama3Pattern}};
    case GgufPre::kDeepseek: return {.patterns = {kDeepseekNumbers, kDeepseekCjk, kDeepseekRest}};
  }
  return {};
}

// The steps of a pre_tokenizer, sequences opened; false: a step that GGUF doesn't know.
bool AddSteps(const json::Value& step, int depth, Cuts* cuts, bool* done) {
  const std::string_view type = step["type"].StringOr("");
  if (type == "Sequence" && depth == 0) {
    const json::Value list = step["pretokenizers"];
    for (size_t i = 0; i < list.size(); ++i) {
      if (!AddSteps(list[i], depth + 1, cuts, done)) return false;
    }
    return true;
  }
  if (*done) return false;  // nothing may follow the byte map
  if (type == "ByteLevel") {
    *done = true;
    cuts->bytes_cut = step["use_regex"].BoolOr(true);
    return !step["add_prefix_space"].BoolOr(true);
  }
  if (type == "Digits") {
    const bool first = !cuts->digits && cuts->patterns.empty();
    cuts->digits = step["individual_digits"].BoolOr(false);
    return first && cuts->digits;
  }
  const json::Value regex = step["pattern"]["Regex"];
  if (type != "Split" || !regex.is_string() || step["invert"].BoolOr(false)) return false;
  if (step["behavior"].StringOr("") != "Isolated" || cuts->digits) return false;
  cuts->patterns.push_back(regex.StringOr(""));
  return true;
}

}  // namespace

std::optional<GgufPre> GgufPreByName(std::string_view name) {
  for (const PreName& candidate : kPreNames) {
    if (candidate.name == name) return candidate.pre;
  }
  return std::nullopt;
}

std::string GgufPreNames() {
  std::string known;
  for (const PreName& one : kPreNames) known.append(known.empty() ? "" : ", ").append(one.name);
  return known;
}

std::string_view GgufPreName(GgufPre pre) {
  for (const PreName& candidate : kPreNames) {
    if (candidate.pre == pre) return candidate.name;
  }
  return "";
}

void WriteGgufPre(GgufPre pre, json::Writer* out) {
  const Cuts cuts = CutsOf(pre);
  out->BeginObject().Field("type", "Sequence").Key("pretokenizers").BeginArray();
  if (cuts.digits) {
    out->BeginObject().Field("type", "Digits").Field("individual_digits", true).EndObject();
  }
  for (const std::string_view pattern : cuts.patterns) {
    out->BeginObject().Field("type", "Split").Key("pattern").BeginObject();
    out->Field("Regex", pattern).EndObject();
    out->Field("behavior", "Isolated").Field("invert", false).EndObject();
  }
  out->BeginObject().Field("type", "ByteLevel").Field("add_prefix_space", false);
  out->Field("trim_offsets", true).Field("use_regex", cuts.bytes_cut).EndObject();
  out->EndArray().EndObject();
}

std::optional<GgufPre> GgufPreOf(const json::Value& tokenizer) {
  Cuts cuts;
  bool done = false;
  if (!AddSteps(tokenizer["pre_tokenizer"], 0, &cuts, &done) || !done) return std::nullopt;
  const bool whole_words = tokenizer["model"]["ignore_merges"].BoolOr(false);
  for (const PreName& candidate : kPreNames) {
    const Cuts known = CutsOf(candidate.pre);
    const bool same = known.patterns == cuts.patterns && known.digits == cuts.digits &&
                      known.bytes_cut == cuts.bytes_cut;
    if (same && whole_words == (candidate.pre == GgufPre::kLlama3)) return candidate.pre;
  }
  return std::nullopt;
}

}  // namespace retort::model
