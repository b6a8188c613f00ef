// rope_scaling as GGUF has it: keys of linear and yarn, tensors of factors for llama3 and longrope.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "core/model/gguf_export_parts.h"
#include "core/model/gguf_view.h"

namespace retort::model {
namespace {

constexpr const char* kOriginal = "original_max_position_embeddings";

class Rope {
 public:
  Rope(const Source& source, const GgufArch& arch, const GgufFacts& facts, ExportKeys* out)
      : source_(source), arch_(arch), facts_(facts), out_(*out), key_(arch.gguf) {
    key_ += '.';
  }

  Status Write() {
    const bool part = facts_.rotary_dim != facts_.head_dim;
    if (part && arch_.block != GgufBlock::kPhi3) {
      return Refuse("partial_rotary_factor");
    }
    out_.kvs.U32(key_ + "rope.dimension_count", static_cast<uint32_t>(facts_.rotary_dim));
    F32("rope.freq_base", facts_.theta > 0 ? facts_.theta : facts_.window_theta);
    if (facts_.window_theta > 0) F32("rope.freq_base_swa", facts_.window_theta);
    if (facts_.scaling.empty()) return OkStatus();
    RETORT_ASSIGN_OR_RETURN(
        const json::Document doc,
        json::Document::Parse(facts_.scaling, source_.path() + ": rope_scaling"));
    return Scaling(doc.root());
  }

 private:
  void F32(const std::string& name, double value) {
    out_.kvs.F32(key_ + name, static_cast<float>(value));
  }
  void Context(int64_t original) {
    out_.kvs.U32(key_ + "rope.scaling.original_context_length", static_cast<uint32_t>(original));
  }
  Status Refuse(const std::string& thing) const {
    return Unimplemented(source_.path() + ": GGUF's architecture " + std::string(arch_.gguf) +
                         " has no place for " + thing + "; keep the model as an HF folder");
  }
  Status Bad(const std::string& key, const std::string& rule) const {
    return InvalidArgument(source_.path() + ": rope_scaling: \"" + key + "\" " + rule);
  }

  Status Scaling(const json::Value& scaling) {
    const std::string type(scaling["rope_type"].StringOr(scaling["type"].StringOr("default")));
    if (type == "linear") return Linear(scaling);
    if (type == "yarn") return Yarn(scaling);
    if (type == "llama3" && arch_.gguf == "llama") return Llama3(scaling);
    const bool longrope = type == "longrope" || type == "su";
    if (longrope && arch_.block == GgufBlock::kPhi3) return LongRope(scaling);
    return Refuse("rope_scaling \"" + type + "\"");
  }

  // Keys that nothing here writes would be lost.
  Status Only(const json::Value& scaling, std::initializer_list<std::string_view> known) const {
    for (size_t i = 0; i < scaling.size(); ++i) {
      const std::string_view name = scaling.key_at(i);
      const bool of_all = name == "rope_type" || name == "type" || name == "rope_theta" ||
                          name == "partial_rotary_factor";
      if (of_all || std::find(known.begin(), known.end(), name) != known.end()) continue;
      if (scaling.value_at(i).is_null()) continue;
      return Refuse("rope_scaling's key \"" + std::string(name) + "\"");
    }
    return OkStatus();
  }

  Result<double> Positive(const json::Value& scaling, const char* name, double fallback = 0) const {
    const double value = scaling[name].DoubleOr(fallback);
    if (value > 0 && std::isfinite(value)) return value;
    return Bad(name, "must be a number above 0");
  }

  Status Linear(const json::Value& scaling) {
    RETORT_RETURN_IF_ERROR(Only(scaling, {"factor"}));
    RETORT_ASSIGN_OR_RETURN(const double factor, Positive(scaling, "factor"));
    out_.kvs.String(key_ + "rope.scaling.type", "linear");
    F32("rope.scaling.factor", factor);
    return OkStatus();
  }

  Status Yarn(const json::Value& scaling) {
    RETORT_RETURN_IF_ERROR(
        Only(scaling, {"factor", "attention_factor", "beta_fast", "beta_slow", kOriginal}));
    RETORT_ASSIGN_OR_RETURN(const double factor, Positive(scaling, "factor"));
    out_.kvs.String(key_ + "rope.scaling.type", "yarn");
    F32("rope.scaling.factor", factor);
    Context(scaling[kOriginal].IntOr(facts_.context));
    struct Key {
      const char *hf, *gguf;
      double usual;
    };
    for (const Key& key : {Key{"attention_factor", "yarn_attn_factor", 0.1 * std::log(factor) + 1},
                           {"beta_fast", "yarn_beta_fast", 32},
                           {"beta_slow", "yarn_beta_slow", 1}}) {
      if (!scaling[key.hf] || scaling[key.hf].is_null()) continue;
      RETORT_ASSIGN_OR_RETURN(const double value, Positive(scaling, key.hf));
      F32(std::string("rope.scaling.") + key.gguf, value);
      if (std::abs(value - key.usual) <= 1e-6 * key.usual) continue;
      out_.warnings.push_back(std::string("llama.cpp doesn't read rope_scaling's ") + key.hf +
                              " in " + std::string(arch_.gguf) + ": its results differ");
    }
    return OkStatus();
  }

  Status Llama3(const json::Value& scaling) {
    RETORT_RETURN_IF_ERROR(
        Only(scaling, {"factor", "low_freq_factor", "high_freq_factor", kOriginal}));
    Llama3Rule rule;
    RETORT_ASSIGN_OR_RETURN(rule.factor, Positive(scaling, "factor"));
    RETORT_ASSIGN_OR_RETURN(rule.low, Positive(scaling, "low_freq_factor"));
    RETORT_ASSIGN_OR_RETURN(rule.high, Positive(scaling, "high_freq_factor"));
    rule.context = scaling[kOriginal].IntOr(0);
    if (rule.context < 1) return Bad(kOriginal, "must be a whole number above 0");
    Context(rule.context);
    F32(kLlama3Factor, rule.factor);
    F32(kLlama3Low, rule.low);
    F32(kLlama3High, rule.high);
    out_.factors.emplace_back("rope_freqs.weight",
                              Llama3Factors(rule, facts_.theta, facts_.rotary_dim));
    return OkStatus();
  }

  Status LongRope(const json::Value& scaling) {
    RETORT_RETURN_IF_ERROR(
        Only(scaling, {"factor", "attention_factor", "short_factor", "long_factor", kOriginal}));
    const int64_t original =
        scaling[kOriginal].IntOr(source_.config().root()[kOriginal].IntOr(facts_.context));
    if (original < 2) return Bad(kOriginal, "must be a whole number above 1");
    const double scale = static_cast<double>(facts_.context) / static_cast<double>(original);
    RETORT_ASSIGN_OR_RETURN(const double factor, Positive(scaling, "factor", scale));
    const double usual =
        factor > 1 ? std::sqrt(1 + std::log(factor) / std::log(static_cast<double>(original))) : 1;
    RETORT_ASSIGN_OR_RETURN(const double attention, Positive(scaling, "attention_factor", usual));
    out_.kvs.String(key_ + "rope.scaling.type", "longrope");
    Context(original);
    F32("rope.scaling.attn_factor", attention);
    for (const char* name : {"long_factor", "short_factor"}) {
      const json::Value list = scaling[name];
      if (!list.is_array() || static_cast<int64_t>(list.size()) * 2 != facts_.rotary_dim) {
        return Bad(name, "must have " + std::to_string(facts_.rotary_dim / 2) + " numbers");
      }
      std::vector<float> factors;
      for (size_t i = 0; i < list.size(); ++i) {
        factors.push_back(static_cast<float>(list[i].DoubleOr(0)));
        if (!(factors.back() > 0)) return Bad(name, "must have numbers above 0");
      }
      const bool is_long = std::string_view(name) == "long_factor";
      out_.factors.emplace_back(is_long ? "rope_factors_long.weight" : "rope_factors_short.weight",
                                std::move(factors));
    }
    return OkStatus();
  }

  const Source& source_;
  const GgufArch& arch_;
  const GgufFacts& facts_;
  ExportKeys& out_;
  std::string key_;
};

}  // namespace

Status RopeKeys(const Source& source, const GgufArch& arch, const GgufFacts& facts,
                ExportKeys* out) {
  return Rope(source, arch, facts, out).Write();
}

}  // namespace retort::model
