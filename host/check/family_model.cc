// SPDX-License-Identifier: Apache-2.0
#include "host/check/family_model.h"

#include <dlfcn.h>

#include <optional>
#include <utility>

#include "core/json/schema.h"
#include "host/check/guarded.h"

namespace retort::host::check {
namespace {

// The names that transformers gives to keys, all of them in every sample: a family reads its own.
constexpr const char* kSample = R"(, "vocab_size": 96, "hidden_size": 32,
  "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
  "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128, "rms_norm_eps": 1e-6,
  "layer_norm_eps": 1e-5, "initializer_range": 0.02, "rope_theta": 10000.0, "hidden_act": "silu",
  "attention_bias": false, "mlp_bias": false, "tie_word_embeddings": false, "sliding_window": 16,
  "num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8,
  "shared_expert_intermediate_size": 24, "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2})";
constexpr const char* kModelTypes[] = {
    "llama",       "qwen2",      "qwen3",       "mistral",  "gemma",   "gemma2",
    "gemma3_text", "phi3",       "olmo2",       "granite",  "smollm3", "cohere2",
    "stablelm",    "starcoder2", "glm4",        "exaone4",  "apertus", "mixtral",
    "qwen2_moe",   "qwen3_moe",  "deepseek_v3", "gpt_neox", "gpt2",    "falcon"};

// An op of the library under test as a graph node's.
class LibraryOp final : public graph::OpHandle {
 public:
  LibraryOp(RawInstance plugin, const retort_op_v1* table)
      : plugin_(std::move(plugin)), table_(table) {}
  const retort_op_v1& table() const override { return *table_; }
  retort_instance* instance() const override { return plugin_.get(); }

 private:
  RawInstance plugin_;
  const retort_op_v1* table_;
};

const retort_descriptor* FindOp(const retort_entry& entry, const std::string& id) {
  for (uint32_t i = 0; i < entry.count(); ++i) {
    const retort_descriptor* d = entry.describe(i);
    if (d != nullptr && std::string_view(d->kind) == RETORT_KIND_OP && id == d->id) return d;
  }
  return nullptr;
}

Result<std::unique_ptr<graph::OpHandle>> MakeOp(const Subject& subject, const std::string& id,
                                                const std::string& attributes,
                                                std::set<std::string>* missing) {
  const retort_descriptor* d = FindOp(*subject.entry, id);
  if (d == nullptr) {
    missing->insert(id);
    return Unavailable("op/" + id + " is not in the library under test");
  }
  Subject op = subject;
  op.kind = RETORT_KIND_OP;
  op.id = id;
  RETORT_ASSIGN_OR_RETURN(
      op.config,
      json::ResolveConfig(d->config_schema == nullptr ? "" : d->config_schema, attributes));
  RETORT_ASSIGN_OR_RETURN(RawInstance plugin, RawInstance::Create(op));
  RETORT_ASSIGN_OR_RETURN(const retort_op_v1* table,
                          plugin.Table<retort_op_v1>(RETORT_OP_INTERFACE));
  return std::unique_ptr<graph::OpHandle>(std::make_unique<LibraryOp>(std::move(plugin), table));
}

}  // namespace

std::vector<std::string> SampleConfigs(const std::string& id) {
  std::vector<std::string> configs;
  const auto add = [&](const std::string& type) {
    configs.push_back(R"({"model_type": ")" + type + "\"" + kSample);
  };
  for (const char* type : kModelTypes) add(type);
  add(id);
  return configs;
}

Result<Family> Family::Open(const Subject& subject) {
  RETORT_ASSIGN_OR_RETURN(RawInstance plugin, RawInstance::Create(subject));
  Family family(subject, std::move(plugin));
  if (family.plugin_.Find(RETORT_FAMILY_INTERFACE) == nullptr) return family;
  RETORT_ASSIGN_OR_RETURN(family.table_,
                          family.plugin_.Table<retort_family_v1>(RETORT_FAMILY_INTERFACE));
  return family;
}

Result<retort_status> Family::Match(std::string_view config, int32_t* score) const {
  const GuardedBytes text(config);  // read beyond its end, it is a SIGSEGV
  RawCall call;
  const retort_status status = table_->match(plugin_.get(), call.Begin(), text.str(), score);
  if (const Status misuse = call.EndFailed(status, "match"); !misuse.ok()) return misuse;
  return status;
}

Result<std::string> Family::FindConfig() const {
  if (!subject_->model.empty()) return subject_->model;
  std::string best;
  int32_t best_score = 0;
  for (const std::string& config : SampleConfigs(subject_->id)) {
    int32_t score = 0;
    RETORT_ASSIGN_OR_RETURN(const retort_status status, Match(config, &score));
    if (status != RETORT_OK || score <= best_score) continue;
    best = config;
    best_score = score;
  }
  if (best_score > 0) return best;
  return NotFound("it matches none of the kit's sample configs; give one with --model FILE");
}

Result<graph::Graph> Family::Build(std::string_view config, Growth growth) const {
  std::set<std::string> missing;
  graph::Builder builder(subject_->id, [&](const std::string& id, const std::string& attributes) {
    return MakeOp(*subject_, id, attributes, &missing);
  });
  const GuardedBytes text(config);
  GuardedStruct<retort_builder_v1> table(*builder.table(), growth);
  RawCall call(growth);
  RETORT_RETURN_IF_ERROR(
      call.End(table_->build(plugin_.get(), call.Begin(), text.str(), table.get()), "build"));
  if (!missing.empty()) {
    return Unavailable("its graph needs op/" + *missing.begin() + " of another library");
  }
  return builder.Finish();
}

Result<retort_status> Family::TryBuild(std::string_view config, Status* graph) const {
  std::set<std::string> missing;
  graph::Builder builder(subject_->id, [&](const std::string& id, const std::string& attributes) {
    return MakeOp(*subject_, id, attributes, &missing);
  });
  const GuardedBytes text(config);
  RawCall call;
  const retort_status status =
      table_->build(plugin_.get(), call.Begin(), text.str(), builder.table());
  if (const Status misuse = call.EndFailed(status, "build"); !misuse.ok()) return misuse;
  if (status == RETORT_OK) *graph = builder.Finish().status();
  return status;
}

Result<std::string> Family::Describe(std::string_view config) const {
  const GuardedBytes text(config);
  ByteSink bytes(7);
  const retort_sink sink = bytes.get();
  RawCall call;
  RETORT_RETURN_IF_ERROR(
      call.End(table_->describe(plugin_.get(), call.Begin(), text.str(), &sink), "describe"));
  return bytes.bytes();
}

}  // namespace retort::host::check
