// The built-in plugins keep the rules of their kinds.
// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/check_numeric/numeric_harness.h"

namespace retort::host::check {
namespace {

std::string Builtin(const std::string& kind, const std::string& id) {
  return std::string(RETORT_PLUGIN_DIR) + "/libretort_" + kind + "_" + id + ".so";
}
Subject BuiltinSubject(const std::string& kind, const std::string& id, const std::string& config) {
  return SubjectOf(Builtin(kind, id), kind, id, config);
}

TEST(NumericBuiltins, SftKeepsTheRulesOfTokenLosses) {
  for (const char* config : {"{}", R"({"label_smoothing": 0.1, "z_loss": 1e-3})"}) {
    ExpectPasses(TokenLossRules(), BuiltinSubject("loss", "sft", config));
  }
}

TEST(NumericBuiltins, SftWithDftHoldsAPartConstant) {
  ExpectPasses(TokenLossRules(), BuiltinSubject("loss", "sft", R"({"variant": "dft"})"),
               {"token_loss.gradient"});
}

TEST(NumericBuiltins, SftIsNoSequenceLoss) {
  for (const auto& [id, finding] :
       RunAll(SequenceLossRules(), BuiltinSubject("loss", "sft", "{}"))) {
    EXPECT_EQ(finding.verdict, Verdict::kSkip) << id << ": " << finding.text;
  }
}

TEST(NumericBuiltins, KdKeepsTheRulesOfTokenLosses) {
  for (const char* config :
       {"{}", R"({"alpha": 0.3, "temperature": 1, "t_squared": false})",
        R"({"divergence": "reverse_kl", "temperature": 1.5, "alpha": 0.5})",
        R"({"divergence": "jsd", "jsd_beta": 0.2, "teacher_tail": "renormalize"})",
        R"({"divergence": "total_variation", "temperature": 1})",
        R"({"teacher_tail": "drop", "teacher_entropy": true})",
        R"({"divergence": "jsd", "teacher_tail": "drop", "alpha": 0.5})"}) {
    SCOPED_TRACE(config);
    ExpectPasses(TokenLossRules(), BuiltinSubject("loss", "kd", config));
  }
}

TEST(NumericBuiltins, PolicyLossesKeepTheRulesOfSequenceLosses) {
  const std::pair<const char*, const char*> losses[] = {
      {"grpo", "{}"},
      {"grpo", R"({"loss_type": "grpo", "beta": 0.04, "entropy_coef": 0.01})"},
      {"grpo", R"({"loss_type": "bnpo", "epsilon_high": 0.28, "delta": 2})"},
      {"grpo", R"({"loss_type": "dr_grpo", "kl_estimator": "k2", "beta": 0.1, "kl_max": 5})"},
      {"grpo", R"({"importance_sampling_level": "sequence", "beta": 0.1})"},
      {"grpo", R"({"loss_type": "luspo", "importance_sampling_level": "sequence_sum"})"},
      {"grpo", R"({"loss_type": "sapo", "use_bias_correction_kl": true, "beta": 0.1})"},
      {"grpo", R"({"rollout_is": "token_truncate", "count_masked": false})"},
      {"rloo", "{}"},
      {"reinforce", R"({"rollout_is": "none", "entropy_coef": 0.01})"},
      {"ppo", "{}"},
      {"ppo", R"({"vf_coef": 0})"}};
  for (const auto& [id, config] : losses) {
    SCOPED_TRACE(std::string(id) + " " + config);
    std::vector<std::string> skipped;
    if (std::string(id) == "reinforce") skipped = {"sequence_loss.on_policy"};
    ExpectPasses(SequenceLossRules(), BuiltinSubject("loss", id, config), skipped);
  }
}

TEST(NumericBuiltins, SurrogatesHoldAPartConstant) {
  for (const char* config :
       {R"({"loss_type": "cispo"})", R"({"beta": 1, "kl_estimator": "k3+"})"}) {
    SCOPED_TRACE(config);
    ExpectPasses(SequenceLossRules(), BuiltinSubject("loss", "grpo", config),
                 {"sequence_loss.derivative"});
  }
}

TEST(NumericBuiltins, PreferenceLossesKeepTheRulesOfSequenceLosses) {
  const std::pair<const char*, const char*> losses[] = {
      {"dpo", "{}"},
      {"dpo", R"({"loss_type": "hinge", "beta": 1})"},
      {"dpo", R"({"loss_type": "ipo"})"},
      {"dpo", R"({"loss_type": "robust", "label_smoothing": 0.1})"},
      {"dpo", R"({"loss_type": "sigmoid_norm", "beta": 2})"},
      {"bradley_terry", "{}"},
      {"bradley_terry", R"({"center_rewards_coefficient": 0.1, "margin": true})"}};
  for (const auto& [id, config] : losses) {
    SCOPED_TRACE(std::string(id) + " " + config);
    ExpectPasses(SequenceLossRules(), BuiltinSubject("loss", id, config),
                 {"sequence_loss.on_policy"});
  }
}

TEST(NumericBuiltins, XieluKeepsTheRulesOfOps) {
  ExpectPasses(OpRules(), BuiltinSubject("op", "xielu", "{}"), {"op.decode", "op.inplace"});
}

TEST(NumericBuiltins, OptimizersKeepTheirRules) {
  const std::vector<std::pair<const char*, const char*>> plugins = {
      {"adamw", "{}"},
      {"adamw_8bit", "{}"},
      {"adamw_8bit", R"({"min_8bit_size": 100})"},
      {"lion", "{}"},
      {"sgd", "{}"},
      {"sgd", R"({"momentum": 0.9, "nesterov": true})"},
      {"sgd", R"({"momentum": 0.9, "dampening": 0.5, "decoupled_weight_decay": true})"}};
  for (const auto& [id, config] : plugins) {
    SCOPED_TRACE(std::string(id) + " " + config);
    ExpectPasses(OptimizerRules(), BuiltinSubject("optimizer", id, config), {"optimizer.load"});
  }
}

TEST(NumericBuiltins, OptimizersOfWholeMatricesKeepTheirRules) {
  for (const char* config : {"{}", R"({"adjust": "original", "nesterov": false})"}) {
    ExpectPasses(OptimizerRules(), BuiltinSubject("optimizer", "muon", config), {"optimizer.load"});
  }
  for (const char* config : {"{}", R"({"scale_parameter": true, "relative_step": true})"}) {
    ExpectPasses(OptimizerRules(), BuiltinSubject("optimizer", "adafactor", config),
                 {"optimizer.load", "optimizer.shards"});
  }
}

#ifdef RETORT_ENGINE_FILE
TEST(NumericBuiltins, FamiliesKeepTheirRules) {
  for (const char* id : {"llama", "qwen2", "qwen3", "mistral", "olmo2", "gemma2", "phi3",
                         "gemma3_text", "qwen2_moe", "qwen3_moe", "mixtral"}) {
    SCOPED_TRACE(id);
    Subject subject = BuiltinSubject("family", id, "{}");
    subject.engine_path = RETORT_ENGINE_FILE;
    ExpectPasses(FamilyRules(), subject);
  }
}

TEST(NumericBuiltins, AFamilyIsSkippedWithoutAnEngineOrWithALargeModel) {
  Subject subject = BuiltinSubject("family", "llama", "{}");
  ExpectPasses(FamilyRules(), subject, {"family.load", "family.decode"});
  subject.engine_path = RETORT_ENGINE_FILE;
  subject.model = R"({"model_type": "llama", "vocab_size": 50000, "hidden_size": 4096,
    "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
    "max_position_embeddings": 128})";
  const Findings findings = RunAll(FamilyRules(), subject);
  EXPECT_EQ(findings.at("family.build").verdict, Verdict::kPass);
  EXPECT_EQ(findings.at("family.load").verdict, Verdict::kSkip);
  EXPECT_NE(findings.at("family.load").text.find("50000000"), std::string::npos);
}
#endif

}  // namespace
}  // namespace retort::host::check
