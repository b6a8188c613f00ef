// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "core/io/filesystem.h"
#include "core/model/gguf_export_parts.h"
#include "core/model/gguf_view.h"

namespace retort::model {
namespace {

class Keys {
 public:
  Keys(const Source& source, const GgufArch& arch, const GgufFacts& facts, ExportKeys* out)
      : source_(source), arch_(arch), facts_(facts), out_(*out), key_(arch.gguf) {
    key_ += '.';
  }

  void Write() {
    out_.kvs.String("general.architecture", arch_.gguf).String("general.type", "model");
    out_.kvs.String("general.name", io::BaseName(io::Absolute(source_.path())));
    U32("block_count", facts_.layers);
    U32("context_length", facts_.context);
    U32("embedding_length", facts_.width);
    U32("feed_forward_length", MlpWidth());
    U32("vocab_size", facts_.vocab);
    U32("attention.head_count", facts_.heads);
    U32("attention.head_count_kv", facts_.kv_heads);
    U32("attention.key_length", facts_.head_dim);
    U32("attention.value_length", facts_.head_dim);
    F32("attention.layer_norm_rms_epsilon", facts_.eps);
    Windows();
    Experts();
    if (arch_.block == GgufBlock::kGemma) Gemma();
    Narrow();
  }

 private:
  void U32(const char* name, int64_t value) {
    out_.kvs.U32(key_ + name, static_cast<uint32_t>(value));
  }
  void F32(const char* name, double value) { out_.kvs.F32(key_ + name, static_cast<float>(value)); }
  void Warn(const std::string& text) { out_.warnings.push_back(text); }

  // Of experts the config's own number: the dense layers' width, which no layer here has.
  int64_t MlpWidth() const {
    if (facts_.experts.count == 0) return facts_.mlp_width;
    if (arch_.experts == GgufExperts::kMixtral) return facts_.experts.width;
    return std::max<int64_t>(
        source_.config().root()["intermediate_size"].IntOr(facts_.experts.width), 1);
  }

  void Windows() {
    if (facts_.window == 0) {
      // Phi-3 without a window says 0: llama.cpp tells Phi-4 by it.
      if (arch_.block == GgufBlock::kPhi3) U32("attention.sliding_window", 0);
      if (arch_.model_type == "gemma2") {
        // Without a key gemma2 has its own window.
        U32("attention.sliding_window", facts_.context);
        out_.kvs.Bools(key_ + "attention.sliding_window_pattern", facts_.windowed);
      }
      return;
    }
    U32("attention.sliding_window", facts_.window);
    const bool all = std::all_of(facts_.windowed.begin(), facts_.windowed.end(),
                                 [](uint8_t windowed) { return windowed != 0; });
    if (!all || arch_.block == GgufBlock::kGemma) {
      out_.kvs.Bools(key_ + "attention.sliding_window_pattern", facts_.windowed);
    }
    if (arch_.has_window) return;
    Warn("llama.cpp runs " + std::string(arch_.gguf) +
         " without a sliding window: texts of more than " + std::to_string(facts_.window) +
         " tokens give other results there");
  }

  void Experts() {
    const GgufExpertFacts& experts = facts_.experts;
    if (experts.count == 0) return;
    U32("expert_count", experts.count);
    U32("expert_used_count", experts.used);
    const bool expected = arch_.gguf != "qwen2moe";
    if (experts.norm_top_k != expected) {
      out_.kvs.Bool(key_ + "expert_weights_norm", experts.norm_top_k);
      Warn("llama.cpp takes norm_topk_prob to be " + std::string(expected ? "true" : "false") +
           " in " + std::string(arch_.gguf) + ": its results differ");
    }
    if (arch_.experts == GgufExperts::kMixtral) return;
    U32("expert_feed_forward_length", experts.width);
    if (experts.shared_width > 0) U32("expert_shared_feed_forward_length", experts.shared_width);
  }

  void Gemma() {
    const bool gemma2 = arch_.model_type == "gemma2";
    if (gemma2) F32("attn_logit_softcapping", facts_.attention_cap);
    if (gemma2 || facts_.logit_cap > 0) F32("final_logit_softcapping", facts_.logit_cap);
    if (gemma2 && facts_.attention_cap == 0) {
      Warn("llama.cpp has no gemma2 without attn_logit_softcapping");
    }
    const auto usual = static_cast<double>(
        GemmaQueryScalar(arch_, facts_.layers, facts_.width, facts_.heads, facts_.head_dim));
    const double scale = facts_.attention_scale;
    if (std::abs(scale - 1 / std::sqrt(usual)) <= 1e-9) return;
    F32("attention.scale", scale);
    Warn("llama.cpp takes query_pre_attn_scalar to be " +
         std::to_string(static_cast<int64_t>(usual)) + " here: its results differ");
  }

  void Narrow() {
    const bool square = arch_.model_type == "qwen2" || arch_.model_type == "qwen2_moe" ||
                        arch_.block == GgufBlock::kPhi3 || arch_.block == GgufBlock::kOlmo2;
    if (square && facts_.heads * facts_.head_dim != facts_.width) {
      Warn("llama.cpp opens " + std::string(arch_.gguf) +
           " only if num_attention_heads * head_dim is hidden_size");
    }
  }

  const Source& source_;
  const GgufArch& arch_;
  const GgufFacts& facts_;
  ExportKeys& out_;
  std::string key_;
};

}  // namespace

Status ConfigKeys(const Source& source, const GgufArch& arch, const GgufFacts& facts,
                  ExportKeys* out) {
  const bool usual_scale =
      facts.attention_scale == 0 ||
      std::abs(facts.attention_scale * std::sqrt(static_cast<double>(facts.head_dim)) - 1) < 1e-9;
  const std::string refusal =
      source.path() + ": GGUF's architecture " + std::string(arch.gguf) + " has no place for ";
  if (arch.block != GgufBlock::kGemma && !usual_scale) {
    return Unimplemented(refusal + "a scale of attention scores of its own");
  }
  if (arch.model_type != "gemma2" && facts.attention_cap > 0) {
    return Unimplemented(refusal + "a soft cap of attention scores");
  }
  if (arch.block != GgufBlock::kGemma && facts.logit_cap > 0) {
    return Unimplemented(refusal + "a soft cap of logits");
  }
  if (arch.head == GgufHead::kNever && !facts.tied) {
    return Unimplemented(refusal + "a head of its own; tie_word_embeddings must be true");
  }
  Keys(source, arch, facts, out).Write();
  return RopeKeys(source, arch, facts, out);
}

}  // namespace retort::model
