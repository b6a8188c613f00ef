// Rotary positions of a GGUF as keys of config.json, in the spelling of transformers 4, which
// transformers 5 reads too.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>

#include "core/model/gguf_layout.h"
#include "core/model/gguf_view.h"

namespace retort::model {
namespace {

constexpr const char* kOriginal = "original_max_position_embeddings";

// An F32 vector.
Result<std::vector<float>> Factors(const io::Gguf& gguf, const io::GgufTensor& tensor) {
  const size_t n = tensor.shape.size() == 1 ? static_cast<size_t>(tensor.shape[0]) : 0;
  if (tensor.type != io::GgmlType::kF32 || n == 0) {
    return DataLoss(gguf.path() + ": " + std::string(tensor.name) +
                    " must be F32 of one dimension");
  }
  std::vector<float> out(n);
  io::Dequantize(tensor.type, gguf.bytes(tensor).data(), static_cast<int64_t>(n), out.data());
  return out;
}

double Rounded(const io::Gguf& gguf, const std::string& key, double fallback) {
  return gguf.Double(key).value_or(fallback);
}

// llama.cpp keeps Llama 3.1's scaling as one factor per frequency. Only the total factor differs
// between the models that are out; what doesn't follow the rule is refused, not guessed.
Status Llama3Scaling(const io::Gguf& gguf, const io::GgufTensor& tensor, const std::string& key,
                     double theta, json::Writer* out) {
  RETORT_ASSIGN_OR_RETURN(const std::vector<float> given, Factors(gguf, tensor));
  Llama3Rule rule;
  rule.factor = Rounded(gguf, key + kLlama3Factor, *std::max_element(given.begin(), given.end()));
  rule.low = Rounded(gguf, key + kLlama3Low, rule.low);
  rule.high = Rounded(gguf, key + kLlama3High, rule.high);
  if (gguf.Find(key + kLlama3Factor) != nullptr) {
    rule.context = gguf.Int(key + "rope.scaling.original_context_length").value_or(rule.context);
  }
  const auto dims = static_cast<int64_t>(given.size()) * 2;
  const std::vector<float> expected = Llama3Factors(rule, theta, dims);
  for (size_t j = 0; j < given.size(); ++j) {
    if (!(std::abs(given[j] - expected[j]) <= 1e-3f * expected[j])) {
      return Unimplemented(gguf.path() + ": rope_freqs.weight does not follow the llama3 rule");
    }
  }
  out->Key("rope_scaling").BeginObject().Field("rope_type", "llama3");
  out->Field("factor", rule.factor).Field("low_freq_factor", rule.low);
  out->Field("high_freq_factor", rule.high).Field(kOriginal, rule.context).EndObject();
  return OkStatus();
}

// Phi-3's factors of short and long contexts. The attention factor is written where it isn't the
// one that the contexts give.
Status LongRope(const io::Gguf& gguf, const std::string& key, json::Writer* out) {
  const io::GgufTensor* tables[2] = {FindTensor(gguf, "rope_factors_short.weight"),
                                     FindTensor(gguf, "rope_factors_long.weight")};
  if (tables[0] == nullptr || tables[1] == nullptr) {
    return DataLoss(gguf.path() +
                    ": needs both rope_factors_short.weight and rope_factors_long.weight");
  }
  const double context = static_cast<double>(gguf.Int(key + "context_length").value_or(0));
  const auto original = gguf.Int(key + "rope.scaling.original_context_length");
  if (!original || *original < 2) {
    return DataLoss(gguf.path() + ": has no key " + key +
                    "rope.scaling.original_context_length of at least 2");
  }
  out->Field(kOriginal, *original).Key("rope_scaling").BeginObject();
  out->Field("type", "longrope").Field("rope_type", "longrope");
  for (int i = 0; i < 2; ++i) {
    RETORT_ASSIGN_OR_RETURN(const std::vector<float> factors, Factors(gguf, *tables[i]));
    out->Key(i == 0 ? "short_factor" : "long_factor").BeginArray();
    for (const float factor : factors) out->Float(factor);
    out->EndArray();
  }
  out->Field(kOriginal, *original);
  const double scale = context / static_cast<double>(*original);
  const double usual =
      scale > 1 ? std::sqrt(1 + std::log(scale) / std::log(static_cast<double>(*original))) : 1;
  const auto given = gguf.Double(key + "rope.scaling.attn_factor");
  if (given && std::abs(*given - usual) > 1e-5 * usual) {
    out->Key("attention_factor").Float(static_cast<float>(*given));
  }
  out->EndObject();
  return OkStatus();
}

// linear and yarn.
Status Scaling(const io::Gguf& gguf, const std::string& key, json::Writer* out) {
  const std::string scaling = key + "rope.scaling.";
  const std::string_view type = gguf.String(scaling + "type").value_or("none");
  if (type == "none" || type.empty()) return OkStatus();
  const auto factor = gguf.Double(scaling + "factor");
  if ((type != "linear" && type != "yarn") || !factor) {
    return Unimplemented(gguf.path() + ": rope scaling \"" + std::string(type) +
                         "\" is not read from GGUF (linear and yarn with a factor are)");
  }
  out->Key("rope_scaling").BeginObject().Field("rope_type", std::string(type));
  out->Key("factor").Float(static_cast<float>(*factor));
  if (type == "yarn") {
    if (const auto n = gguf.Int(scaling + "original_context_length")) out->Field(kOriginal, *n);
    struct Key {
      const char *gguf, *hf;
    };
    for (const Key& one : {Key{"yarn_attn_factor", "attention_factor"},
                           {"yarn_beta_fast", "beta_fast"},
                           {"yarn_beta_slow", "beta_slow"}}) {
      const auto value = gguf.Double(scaling + one.gguf);
      if (value) out->Key(one.hf).Float(static_cast<float>(*value));
    }
  }
  out->EndObject();
  return OkStatus();
}

// The part of each head that is rotated.
Status PartialRotary(const io::Gguf& gguf, const GgufArch& arch, const std::string& key,
                     json::Writer* out) {
  const auto dims = gguf.Int(key + "rope.dimension_count");
  const auto width = gguf.Int(key + "embedding_length"),
             heads = gguf.Int(key + "attention.head_count");
  if (!dims || !width || !heads || *heads < 1) return OkStatus();
  const int64_t head_dim = gguf.Int(key + "attention.key_length").value_or(*width / *heads);
  if (*dims < 1 || *dims > head_dim) {
    return DataLoss(gguf.path() + ": key " + key + "rope.dimension_count is " +
                    std::to_string(*dims) + ", must be 1 to " + std::to_string(head_dim));
  }
  if (arch.block == GgufBlock::kPhi3) {
    out->Field("partial_rotary_factor", static_cast<double>(*dims) / static_cast<double>(head_dim));
  } else if (*dims != head_dim) {
    return Unimplemented(gguf.path() + ": key " + key + "rope.dimension_count: " +
                         std::string(arch.gguf) + " with a part of each head rotated is not read");
  }
  return OkStatus();
}

}  // namespace

std::vector<float> Llama3Factors(const Llama3Rule& rule, double theta, int64_t rotary_dim) {
  std::vector<float> out(static_cast<size_t>(rotary_dim / 2));
  const auto context = static_cast<double>(rule.context);
  for (size_t j = 0; j < out.size(); ++j) {
    const double exponent = 2 * static_cast<double>(j) / static_cast<double>(rotary_dim);
    const double wavelength = 2 * std::numbers::pi * std::pow(theta, exponent);
    double factor = 1;
    if (wavelength > context / rule.low) {
      factor = rule.factor;
    } else if (wavelength >= context / rule.high) {
      const double smooth = (context / wavelength - rule.low) / (rule.high - rule.low);
      factor = 1 / ((1 - smooth) / rule.factor + smooth);
    }
    out[j] = static_cast<float>(factor);
  }
  return out;
}

Status GgufRope(const io::Gguf& gguf, const GgufArch& arch, const std::string& key,
                json::Writer* out) {
  const bool gemma3 = arch.model_type == "gemma3_text";
  const auto base = gguf.Double(key + "rope.freq_base");
  const double theta = base.value_or(gemma3 ? 1e6 : 10000);
  if (base) out->Key("rope_theta").Float(static_cast<float>(theta));
  if (gemma3) {
    const auto local = gguf.Double(key + "rope.freq_base_swa");
    out->Key("rope_local_base_freq").Float(static_cast<float>(local.value_or(10000)));
  }
  RETORT_RETURN_IF_ERROR(PartialRotary(gguf, arch, key, out));
  if (const io::GgufTensor* factors = FindTensor(gguf, "rope_freqs.weight")) {
    return Llama3Scaling(gguf, *factors, key, theta, out);
  }
  if (arch.block == GgufBlock::kPhi3 && (FindTensor(gguf, "rope_factors_short.weight") != nullptr ||
                                         FindTensor(gguf, "rope_factors_long.weight") != nullptr)) {
    return LongRope(gguf, key, out);
  }
  return Scaling(gguf, key, out);
}

}  // namespace retort::model
