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
  for (const auto& [id, finding] : RunAll(SequenceLossRules(), BuiltinSubject("loss", "sft", "{}"))) {
    EXPECT_EQ(finding.verdict, Verdict::kSkip) << id << ": " << finding.text;
  }
}

TEST(NumericBuiltins, AdamWKeepsTheRulesOfOptimizers) {
  ExpectPasses(OptimizerRules(), BuiltinSubject("optimizer", "adamw", "{}"), {"optimizer.load"});
}

}  // namespace
}  // namespace retort::host::check
