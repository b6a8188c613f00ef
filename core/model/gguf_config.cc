// GGUF key-values as config.json and generation_config.json.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <vector>

#include "core/model/gguf_layout.h"
#include "core/model/gguf_view.h"

namespace retort::model {
namespace {

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

// A key with a count, or nothing if there is none.
void Copy(const io::Gguf& gguf, const std::string& key, const char* name, json::Writer* out) {
  if (const auto value = gguf.Int(key)) out->Field(name, *value);
}

// "sliding_attention" or "full_attention" of each layer: an array says it of each, a number n that
// one of n layers is full (0: none), absent: of `period`.
Result<std::vector<bool>> WindowLayers(const io::Gguf& gguf, const std::string& key,
                                       int64_t n_layers, int64_t period) {
  const io::GgufKv* kv = gguf.Find(key);
  std::vector<bool> layers(static_cast<size_t>(n_layers));
  if (kv != nullptr && kv->type == io::GgufType::kArray) {
    const bool fits = kv->count == layers.size() && kv->bytes.size() % layers.size() == 0;
    const size_t size = fits ? kv->bytes.size() / layers.size() : 0;
    if (!fits || kv->element == io::GgufType::kString) {
      return DataLoss(gguf.path() + ": key " + key + " must have a boolean for each of " +
                      std::to_string(n_layers) + " layers");
    }
    for (size_t i = 0; i < layers.size(); ++i) {
      const std::string_view bytes = kv->bytes.substr(i * size, size);
      layers[i] = bytes.find_first_not_of('\0') != bytes.npos;
    }
    return layers;
  }
  period = gguf.Int(key).value_or(period);
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto layer = static_cast<int64_t>(i);
    layers[i] = period < 1 || layer % period < period - 1;
  }
  return layers;
}

// sliding_window, and layer_types where layers differ.
Status Windows(const io::Gguf& gguf, const GgufArch& arch, const std::string& key,
               json::Writer* out) {
  const bool gemma = arch.block == GgufBlock::kGemma;
  const bool gemma2 = arch.model_type == "gemma2";
  const int64_t window = gguf.Int(key + "attention.sliding_window").value_or(gemma2 ? 4096 : 0);
  const std::string pattern = key + "attention.sliding_window_pattern";
  const bool by_layer = gemma || (arch.model_type.starts_with("qwen") && window > 0);
  if (window < 0 || window > INT32_MAX) {
    return DataLoss(gguf.path() + ": key " + key + "attention.sliding_window is " +
                    std::to_string(window) + ", must be 0 to 2^31 - 1");
  }
  if (!by_layer) {
    if (arch.model_type == "mistral" || arch.model_type == "phi3" || arch.model_type == "mixtral") {
      out->Key("sliding_window");
      window > 0 ? out->Int(window) : out->Null();
    }
    return OkStatus();
  }
  RETORT_ASSIGN_OR_RETURN(const int64_t n_layers, Count(gguf, key + "block_count"));
  RETORT_ASSIGN_OR_RETURN(const std::vector<bool> layers, WindowLayers(gguf, pattern, n_layers,
                                                                       gemma2  ? 2
                                                                       : gemma ? 6
                                                                               : 0));
  if (!gemma) out->Field("use_sliding_window", true).Field("max_window_layers", int64_t{0});
  out->Key("sliding_window").Int(window > 0 ? window : 4096).Key("layer_types").BeginArray();
  for (const bool slides : layers) {
    out->String(slides && window > 0 ? "sliding_attention" : "full_attention");
  }
  out->EndArray();
  return OkStatus();
}

Status Experts(const io::Gguf& gguf, const GgufArch& arch, const std::string& key,
               json::Writer* out) {
  if (arch.experts == GgufExperts::kNone) return OkStatus();
  RETORT_ASSIGN_OR_RETURN(const int64_t count, Count(gguf, key + "expert_count"));
  RETORT_ASSIGN_OR_RETURN(const int64_t used, Count(gguf, key + "expert_used_count"));
  const bool mixtral = arch.experts == GgufExperts::kMixtral;
  out->Field(mixtral ? "num_local_experts" : "num_experts", count);
  out->Field("num_experts_per_tok", used);
  if (mixtral) return OkStatus();
  Copy(gguf, key + "expert_feed_forward_length", "moe_intermediate_size", out);
  Copy(gguf, key + "expert_shared_feed_forward_length", "shared_expert_intermediate_size", out);
  const bool norm = gguf.Bool(key + "expert_weights_norm").value_or(arch.gguf == "qwen3moe");
  out->Field("norm_topk_prob", norm).Field("decoder_sparse_step", int64_t{1});
  out->Key("mlp_only_layers").BeginArray().EndArray();
  return OkStatus();
}

// A soft cap: `fallback` if the file doesn't say (0: none), null for none.
void SoftCap(const io::Gguf& gguf, const std::string& key, double fallback, const char* name,
             json::Writer* out) {
  const double cap = gguf.Double(key).value_or(fallback);
  out->Key(name);
  cap > 0 ? out->Float(static_cast<float>(cap)) : out->Null();
}

Status Gemma(const io::Gguf& gguf, const GgufArch& arch, const std::string& key,
             json::Writer* out) {
  if (arch.block != GgufBlock::kGemma) return OkStatus();
  const bool gemma2 = arch.model_type == "gemma2";
  SoftCap(gguf, key + "attn_logit_softcapping", gemma2 ? 50 : 0, "attn_logit_softcapping", out);
  SoftCap(gguf, key + "final_logit_softcapping", gemma2 ? 30 : 0, "final_logit_softcapping", out);
  out->Key("query_pre_attn_scalar");
  if (const auto scale = gguf.Double(key + "attention.scale"); scale && *scale > 0) {
    const double scalar = 1 / (*scale * *scale), whole = std::round(scalar);
    const bool is_whole = static_cast<float>(1 / std::sqrt(whole)) == static_cast<float>(*scale);
    is_whole ? out->Int(static_cast<int64_t>(whole)) : out->Double(scalar);
    return OkStatus();
  }
  RETORT_ASSIGN_OR_RETURN(const int64_t blocks, Count(gguf, key + "block_count"));
  RETORT_ASSIGN_OR_RETURN(const int64_t width, Count(gguf, key + "embedding_length"));
  RETORT_ASSIGN_OR_RETURN(const int64_t heads, Count(gguf, key + "attention.head_count"));
  const int64_t head_dim = gguf.Int(key + "attention.key_length").value_or(width / heads);
  out->Int(GemmaQueryScalar(arch, blocks, width, heads, head_dim));
  return OkStatus();
}

void Biases(const io::Gguf& gguf, const GgufArch& arch, json::Writer* out) {
  const bool no_key = arch.qkv_bias || arch.model_type == "mistral" ||
                      arch.model_type == "mixtral" || arch.model_type == "phi3";
  if (!no_key) {
    out->Field("attention_bias", FindTensor(gguf, "blk.0.attn_q.bias") != nullptr);
  }
  if (arch.model_type == "llama") {
    out->Field("mlp_bias", FindTensor(gguf, "blk.0.ffn_up.bias") != nullptr);
  }
}

}  // namespace

int64_t GemmaQueryScalar(const GgufArch& arch, int64_t blocks, int64_t width, int64_t heads,
                         int64_t head_dim) {
  // The models of 27 B parameters, which are known by their number of layers.
  const bool largest = blocks == (arch.model_type == "gemma2" ? 46 : 62);
  return largest ? width / heads : head_dim;
}

Result<std::string> GgufConfig(const io::Gguf& gguf) {
  RETORT_ASSIGN_OR_RETURN(const GgufArch* arch, GgufArchOf(gguf));
  const std::string key = std::string(arch->gguf) + ".";
  const io::GgufTensor* embedding = FindTensor(gguf, "token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2) {
    return DataLoss(gguf.path() + ": has no matrix token_embd.weight");
  }
  json::Writer w(2);
  w.BeginObject().Key("architectures").BeginArray().String(arch->class_name).EndArray();
  w.Field("model_type", std::string(arch->model_type));
  w.Field("vocab_size", embedding->shape[0]);
  RETORT_RETURN_IF_ERROR(Shapes(gguf, key, &w));
  Number(gguf, key + "attention.layer_norm_rms_epsilon", "rms_norm_eps", &w);
  RETORT_RETURN_IF_ERROR(GgufRope(gguf, *arch, key, &w));
  w.Field(arch->block == GgufBlock::kGemma ? "hidden_activation" : "hidden_act",
          std::string(arch->activation));
  w.Field("tie_word_embeddings", !GgufHasOwnHead(gguf));
  Biases(gguf, *arch, &w);
  RETORT_RETURN_IF_ERROR(Windows(gguf, *arch, key, &w));
  RETORT_RETURN_IF_ERROR(Experts(gguf, *arch, key, &w));
  RETORT_RETURN_IF_ERROR(Gemma(gguf, *arch, key, &w));
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
