// GGUF key-values as config.json and generation_config.json.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "core/model/gguf_view.h"

namespace retort::model {
namespace {

struct Architecture {
  std::string_view gguf, hf, class_name;
};
constexpr std::array<Architecture, 3> kArchitectures = {{{"llama", "llama", "LlamaForCausalLM"},
                                                         {"qwen2", "qwen2", "Qwen2ForCausalLM"},
                                                         {"qwen3", "qwen3", "Qwen3ForCausalLM"}}};

const io::GgufTensor* FindTensor(const io::Gguf& gguf, std::string_view name) {
  for (const io::GgufTensor& tensor : gguf.tensors()) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

Result<const Architecture*> FindArchitecture(const io::Gguf& gguf) {
  const auto arch = gguf.String("general.architecture");
  if (!arch) return DataLoss(gguf.path() + ": has no key general.architecture");
  std::string known;
  for (const Architecture& candidate : kArchitectures) {
    if (candidate.gguf == *arch) return &candidate;
    known.append(known.empty() ? "" : ", ").append(candidate.gguf);
  }
  return Unimplemented(gguf.path() + ": architecture \"" + std::string(*arch) +
                       "\" is not read from GGUF (read are " + known + ")");
}

// A count: at least 1, and small enough for every consumer.
Result<int64_t> Count(const io::Gguf& gguf, const std::string& key) {
  const io::GgufKv* kv = gguf.Find(key);
  if (kv == nullptr) return DataLoss(gguf.path() + ": has no key " + key);
  const std::optional<int64_t> value = gguf.Int(key);
  if (!value || *value < 1 || *value > INT32_MAX) {
    return DataLoss(gguf.path() + ": key " + key + " must be a whole number of 1 to 2^31 - 1" +
                    (value ? ", not " + std::to_string(*value) : ""));
  }
  return *value;
}

// Floats of a GGUF are f32: their shortest digits are those that the converter read.
void Number(const io::Gguf& gguf, const std::string& key, const char* name, json::Writer* out) {
  if (const auto value = gguf.Double(key)) out->Key(name).Float(static_cast<float>(*value));
}

Status Shapes(const io::Gguf& gguf, const std::string& arch, json::Writer* out) {
  struct Key {
    const char *gguf, *hf;
  };
  for (const Key& key : {Key{"embedding_length", "hidden_size"},
                         {"feed_forward_length", "intermediate_size"},
                         {"block_count", "num_hidden_layers"},
                         {"attention.head_count", "num_attention_heads"},
                         {"context_length", "max_position_embeddings"}}) {
    RETORT_ASSIGN_OR_RETURN(const int64_t value, Count(gguf, arch + key.gguf));
    out->Field(key.hf, value);
  }
  RETORT_ASSIGN_OR_RETURN(const int64_t heads, Count(gguf, arch + "attention.head_count"));
  RETORT_ASSIGN_OR_RETURN(const int64_t width, Count(gguf, arch + "embedding_length"));
  int64_t kv_heads = heads, head_dim = width / heads;
  if (gguf.Find(arch + "attention.head_count_kv") != nullptr) {
    RETORT_ASSIGN_OR_RETURN(kv_heads, Count(gguf, arch + "attention.head_count_kv"));
  }
  if (gguf.Find(arch + "attention.key_length") != nullptr) {
    RETORT_ASSIGN_OR_RETURN(head_dim, Count(gguf, arch + "attention.key_length"));
  }
  out->Field("num_key_value_heads", kv_heads).Field("head_dim", head_dim);
  return OkStatus();
}

void TokenIds(const io::Gguf& gguf, json::Writer* out) {
  struct Key {
    const char *gguf, *hf;
  };
  for (const Key& key : {Key{"bos", "bos_token_id"}, {"eos", "eos_token_id"}}) {
    const auto id = gguf.Int(std::string("tokenizer.ggml.") + key.gguf + "_token_id");
    out->Key(key.hf);
    id ? out->Int(*id) : out->Null();
  }
  if (const auto id = gguf.Int("tokenizer.ggml.padding_token_id")) out->Field("pad_token_id", *id);
}

// llama.cpp keeps Llama 3.1's scaling as one factor per frequency. The rule that gave them has
// known constants; only the total factor differs between models. Checked, not guessed.
Result<std::string> Llama3Scaling(const io::Gguf& gguf, const io::GgufTensor& factors,
                                  double theta) {
  constexpr double kLow = 1, kHigh = 4, kContext = 8192;
  const auto n = static_cast<size_t>(factors.shape.empty() ? 0 : factors.shape.back());
  if (factors.type != io::GgmlType::kF32 || n == 0) {
    return DataLoss(gguf.path() + ": rope_freqs.weight must be F32 of one dimension");
  }
  std::vector<float> given(n);
  io::Dequantize(factors.type, gguf.bytes(factors).data(), static_cast<int64_t>(n), given.data());
  const double factor = *std::max_element(given.begin(), given.end());
  for (size_t j = 0; j < n; ++j) {
    const double exponent = -static_cast<double>(j) / static_cast<double>(n);
    const double wavelength = 2 * std::numbers::pi / std::pow(theta, exponent);
    double expected = 1;
    if (wavelength > kContext / kLow) {
      expected = factor;
    } else if (wavelength >= kContext / kHigh) {
      const double smooth = (kContext / wavelength - kLow) / (kHigh - kLow);
      expected = 1 / ((1 - smooth) / factor + smooth);
    }
    if (!(std::abs(given[j] - expected) <= 1e-3 * expected)) {
      return Unimplemented(gguf.path() + ": rope_freqs.weight does not follow the llama3 rule");
    }
  }
  json::Writer w;
  w.BeginObject().Field("rope_type", "llama3").Field("factor", factor);
  w.Field("low_freq_factor", kLow).Field("high_freq_factor", kHigh);
  w.Field("original_max_position_embeddings", static_cast<int64_t>(kContext)).EndObject();
  return w.Take();
}

}  // namespace

Result<std::string> GgufRopeScaling(const io::Gguf& gguf, const std::string& arch) {
  const double theta = gguf.Double(arch + "rope.freq_base").value_or(10000);
  if (const io::GgufTensor* factors = FindTensor(gguf, "rope_freqs.weight")) {
    return Llama3Scaling(gguf, *factors, theta);
  }
  const std::string_view type = gguf.String(arch + "rope.scaling.type").value_or("none");
  if (type == "none" || type.empty()) return std::string();
  const auto factor = gguf.Double(arch + "rope.scaling.factor");
  if ((type != "linear" && type != "yarn") || !factor) {
    return Unimplemented(gguf.path() + ": rope scaling \"" + std::string(type) +
                         "\" is not read from GGUF (linear and yarn with a factor are)");
  }
  json::Writer w;
  w.BeginObject().Field("rope_type", std::string(type));
  w.Key("factor").Float(static_cast<float>(*factor));
  if (const auto context = gguf.Int(arch + "rope.scaling.original_context_length")) {
    w.Field("original_max_position_embeddings", *context);
  }
  return w.EndObject().Take();
}

Result<std::string> GgufConfig(const io::Gguf& gguf) {
  RETORT_ASSIGN_OR_RETURN(const Architecture* architecture, FindArchitecture(gguf));
  const std::string arch = std::string(architecture->gguf) + ".";
  const io::GgufTensor* embedding = FindTensor(gguf, "token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2) {
    return DataLoss(gguf.path() + ": has no matrix token_embd.weight");
  }
  json::Writer w(2);
  w.BeginObject().Key("architectures").BeginArray().String(architecture->class_name).EndArray();
  w.Field("model_type", std::string(architecture->hf)).Field("vocab_size", embedding->shape[0]);
  RETORT_RETURN_IF_ERROR(Shapes(gguf, arch, &w));
  Number(gguf, arch + "attention.layer_norm_rms_epsilon", "rms_norm_eps", &w);
  Number(gguf, arch + "rope.freq_base", "rope_theta", &w);
  RETORT_ASSIGN_OR_RETURN(const std::string scaling, GgufRopeScaling(gguf, arch));
  if (!scaling.empty()) w.Key("rope_scaling").Raw(scaling);
  w.Field("hidden_act", "silu");
  w.Field("tie_word_embeddings", FindTensor(gguf, "output.weight") == nullptr);
  if (architecture->hf != "qwen2") {  // which always has biases
    w.Field("attention_bias", FindTensor(gguf, "blk.0.attn_q.bias") != nullptr);
  }
  if (architecture->hf == "llama") {
    w.Field("mlp_bias", FindTensor(gguf, "blk.0.ffn_up.bias") != nullptr);
  }
  TokenIds(gguf, &w);
  return w.Field("dtype", "float32").EndObject().Take();
}

std::string GgufGenerationConfig(const io::Gguf& gguf) {
  json::Writer w(2);
  w.BeginObject();
  if (const auto bos = gguf.Int("tokenizer.ggml.bos_token_id")) w.Field("bos_token_id", *bos);
  std::vector<int64_t> ends;
  for (const char* name : {"eos", "eot", "eom"}) {
    const auto id = gguf.Int(std::string("tokenizer.ggml.") + name + "_token_id");
    if (id && std::find(ends.begin(), ends.end(), *id) == ends.end()) ends.push_back(*id);
  }
  if (ends.size() == 1) w.Field("eos_token_id", ends[0]);
  if (ends.size() > 1) {
    w.Key("eos_token_id").BeginArray();
    for (int64_t id : ends) w.Int(id);
    w.EndArray();
  }
  if (const auto pad = gguf.Int("tokenizer.ggml.padding_token_id")) w.Field("pad_token_id", *pad);
  return w.EndObject().Take();
}

}  // namespace retort::model
