// A grpo stage where there is nothing to learn, and one that learns what it is rewarded for.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "core/io/safetensors.h"
#include "tests/golden/program.h"

namespace retort::golden {
namespace {

using testing::HasSubstr;

// `more`: further keys of the stage.
Outcome RunStage(const std::string& folder, std::string more) {
  if (more.find("\"rewards\"") == std::string::npos)
    more = R"("rewards": ["number_match"], )" + more;
  if (more.find("\"save_steps\"") == std::string::npos) more = R"("save_steps": 0, )" + more;
  const std::string data =
      std::string(RETORT_SOURCE_DIR) + "/tests/fixtures/gsm8k/train_small.jsonl";
  WriteText(folder + "/p.json", R"({"retort": 1, "name": "rl", "seed": 5, "models": {"m": ")" +
                                    ModelPath("qwen2") + R"("}, "data": {"q": {"path": ")" + data +
                                    R"(", "map": {"prompt": "question"}}, "refs": {"path": ")" +
                                    data + R"(",
      "map": {"prompt": "question", "completion": "answer"}}}, "stages": [{
      "name": "rl", "kind": "grpo", "model": "m", "data": "q", "logging_steps": 1,
      "mask_truncated_completions": false, )" +
                                    more + "}]}");
  return RunRetort({"run", folder + "/p.json", "--set", "output=" + folder + "/run"});
}

double MeanOver(const std::vector<json::Document>& lines, size_t begin, const char* key) {
  double sum = 0;
  for (size_t i = begin; i < begin + 5; ++i) sum += lines[i].root()[key].DoubleOr(0);
  return sum / 5;
}

// A random model answers nothing right: every group has one reward, and none is left.
TEST(Grpo, GroupsThatAreAllAlikeTeachNothingAndAreToldOf) {
  const std::string folder = ScratchFolder("grpo_alike");
  const Outcome run = RunStage(folder, R"("num_generations": 4, "prompts_per_step": 2,
      "dynamic_sampling": true, "max_resamples": 2, "max_steps": 2,
      "steps_per_generation": 2, "learning_rate": 0.1, "sampling": {"max_tokens": 6})");
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.err, HasSubstr("all rewards were equal in each of 6 groups"));
  const auto lines = ReadLines(folder + "/run/metrics.jsonl");
  ASSERT_EQ(lines.size(), 2U);
  for (const json::Document& line : lines) {
    EXPECT_EQ(line.root()["grad_norm"].DoubleOr(-1), 0);
    EXPECT_EQ(line.root()["no_labels"].DoubleOr(0), 1);
    EXPECT_EQ(line.root()["frac_reward_zero_std"].DoubleOr(0), 1);
  }
}

// What is taken off long answers makes them short.
TEST(Grpo, LearnsToBeBriefFromThePenaltyOfLength) {
  const std::string folder = ScratchFolder("grpo_brief");
  const Outcome run = RunStage(folder, R"("num_generations": 8, "prompts_per_step": 8,
      "overlong_buffer": 24, "max_steps": 30, "learning_rate": 3e-3,
      "sampling": {"max_tokens": 24})");
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const auto lines = ReadLines(folder + "/run/metrics.jsonl");
  ASSERT_EQ(lines.size(), 30U);
  EXPECT_LT(MeanOver(lines, 25, "completions/mean_length"),
            0.6 * MeanOver(lines, 0, "completions/mean_length"));
  EXPECT_GT(MeanOver(lines, 25, "reward"), MeanOver(lines, 0, "reward") + 0.2);
}

std::vector<float> Floats(const io::Safetensors& file, const std::string& name) {
  const io::SafetensorsEntry* entry = file.Find(name);
  EXPECT_NE(entry, nullptr) << name;
  if (entry == nullptr) return {};
  const std::string_view bytes = file.bytes(*entry);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

// Of each param, what checkpoints say: 0.6 of the policy and 0.4 of what the reference was.
TEST(Grpo, TheReferenceFollowsThePolicyAsCheckpointsTell) {
  const std::string folder = ScratchFolder("grpo_follow");
  const Outcome run = RunStage(folder, R"("num_generations": 4, "prompts_per_step": 4,
      "max_steps": 5, "learning_rate": 3e-3, "save_steps": 1, "save_total_limit": 0,
      "overlong_buffer": 12, "sync_ref_model": true, "ref_model_sync_steps": 2,
      "sampling": {"max_tokens": 12}, "loss": [{"plugin": "grpo", "config": {"beta": 0.1}}])");
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const auto state = [&](int step) {
    return io::Safetensors::Open(folder + "/run/rl/checkpoint-" + std::to_string(step) +
                                 "/trainer/optimizer.safetensors")
        .value();
  };
  const io::Safetensors first = state(1), second = state(2), third = state(3), fourth = state(4);
  int compared = 0;
  const auto policy = [&](int step) {
    return io::Safetensors::OpenFolder(folder + "/run/rl/checkpoint-" + std::to_string(step))
        .value();
  };
  const io::Safetensors policy2 = policy(2), policy4 = policy(4);
  for (const io::SafetensorsEntry& entry : first.entries()) {
    if (!entry.name.starts_with("reference/")) continue;
    const std::string name = entry.name.substr(std::string("reference/").size());
    const auto r1 = Floats(first, entry.name), r2 = Floats(second, entry.name);
    const auto r3 = Floats(third, entry.name), r4 = Floats(fourth, entry.name);
    const auto w2 = Floats(policy2, name), w4 = Floats(policy4, name);
    ASSERT_EQ(r1.size(), w2.size()) << name;
    EXPECT_EQ(r2, r3) << name;
    for (size_t i = 0; i < r1.size(); ++i) {
      ASSERT_NEAR(r2[i], 0.6F * w2[i] + 0.4F * r1[i], 1e-6F) << name;
      ASSERT_NEAR(r4[i], 0.6F * w4[i] + 0.4F * r3[i], 1e-6F) << name;
    }
    ++compared;
  }
  EXPECT_GT(compared, 10);
  const auto lines = ReadLines(folder + "/run/metrics.jsonl");
  EXPECT_EQ(lines[0].root()["grpo/kl"].DoubleOr(-1), 0);  // at the start they are one
  EXPECT_GT(lines[1].root()["grpo/kl"].DoubleOr(-1), 0);
}

TEST(Grpo, AReferenceThatIsThePolicyAgainEachStepHasNoDivergence) {
  const std::string folder = ScratchFolder("grpo_same");
  const Outcome run = RunStage(folder, R"("num_generations": 4, "prompts_per_step": 4,
      "max_steps": 4, "learning_rate": 3e-3, "overlong_buffer": 12, "sync_ref_model": true,
      "ref_model_sync_steps": 1, "ref_model_mixup_alpha": 1, "sampling": {"max_tokens": 12},
      "loss": [{"plugin": "grpo", "config": {"beta": 0.1}}])");
  ASSERT_EQ(run.exit_code, 0) << run.err;
  for (const json::Document& line : ReadLines(folder + "/run/metrics.jsonl")) {
    EXPECT_NEAR(line.root()["grpo/kl"].DoubleOr(-1), 0, 1e-9);
  }
}

TEST(Grpo, KeysThatTheLossesHaveNoUseForAreRefused) {
  const std::string folder = ScratchFolder("grpo_refused");
  const Outcome sync = RunStage(folder, R"("max_steps": 1, "sync_ref_model": true)");
  EXPECT_EQ(sync.exit_code, 2);
  EXPECT_THAT(sync.err, HasSubstr("sync_ref_model: nothing looks at the reference"));
  const Outcome two = RunStage(folder, R"("max_steps": 1, "loss": ["grpo", "sft"],
      "cold_start": {"data": "refs", "ratio": 0.5})");
  EXPECT_EQ(two.exit_code, 2);
  EXPECT_THAT(two.err, HasSubstr("loss sft is one over tokens, and those of cold_start"));
}

// The loss of the examples before the first update is what an sft stage has on them, and it falls.
TEST(Grpo, ExamplesOfAColdStartAreLearntBesideTheRewards) {
  const std::string folder = ScratchFolder("grpo_cold");
  const Outcome run = RunStage(folder, R"("num_generations": 4, "prompts_per_step": 4,
      "max_steps": 12, "learning_rate": 3e-3, "overlong_buffer": 12,
      "cold_start": {"data": "refs", "limit": 4, "ratio": 0.2, "max_length": 400},
      "sampling": {"max_tokens": 12}}, {
      "name": "sft", "kind": "sft", "model": "m", "data": "refs", "limit": 4, "max_steps": 1,
      "max_length": 400, "batch": {"per_device": 4, "accumulation": 1}, "packing": "none",
      "logging_steps": 1)");
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const auto lines = ReadLines(folder + "/run/metrics.jsonl");
  ASSERT_EQ(lines.size(), 13U);
  const auto number = [&](size_t line, const char* key) {
    return lines[line].root()[key].DoubleOr(-1e9);
  };
  EXPECT_NEAR(number(0, "cold_start"), number(12, "loss"), 1e-5);
  EXPECT_LT(number(11, "cold_start"), 0.8 * number(0, "cold_start"));
  for (size_t step = 0; step < 12; ++step) {
    EXPECT_NEAR(number(step, "loss"), number(step, "grpo") + 0.25 * number(step, "cold_start"),
                1e-6);
  }
}

// A forced start makes every completion right, and none of them has the form.
TEST(Grpo, AGatedRewardCountsNothingWhereItsGateIsShut) {
  const std::string folder = ScratchFolder("grpo_gate");
  const Outcome run = RunStage(folder, R"("num_generations": 4, "prompts_per_step": 2, "limit": 1,
      "max_steps": 1, "learning_rate": 0.1, "prefix": "72 ",
      "sampling": {"max_tokens": 8, "logit_bias": {"64": 1000}},
      "rewards": [{"plugin": "number_match", "gate": "format"}, "format"])");
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const auto lines = ReadLines(folder + "/run/metrics.jsonl");
  const json::Value line = lines[0].root();
  EXPECT_EQ(line["reward"].DoubleOr(-1), 0);
  EXPECT_EQ(line["rewards/number_match/mean"].DoubleOr(-1), 0);
  EXPECT_EQ(line["rewards/number_match/std"].DoubleOr(-1), 0);
  EXPECT_EQ(line["rewards/number_match/ungated_mean"].DoubleOr(-1), 1);
  EXPECT_FALSE(line["rewards/format/ungated_mean"]);
  EXPECT_EQ(line["grad_norm"].DoubleOr(-1), 0);
  const auto samples = ReadLines(folder + "/run/rl/samples.jsonl");
  EXPECT_EQ(samples[0].root()["rewards"]["number_match"].DoubleOr(-1), 0);
  EXPECT_EQ(samples[0].root()["ungated"]["number_match"].DoubleOr(-1), 1);
}

// A limit that any update breaks leaves one step of each round; one that none breaks, all four.
TEST(Grpo, ADivergenceOverItsTargetEndsARound) {
  const std::string folder = ScratchFolder("grpo_target");
  const auto lines = [&](const char* target) {
    const Outcome run = RunStage(folder, std::string(R"("num_generations": 4,
      "prompts_per_step": 4, "num_iterations": 2, "steps_per_generation": 2, "max_steps": 8,
      "learning_rate": 3e-3, "overlong_buffer": 12, "sampling": {"max_tokens": 12},
      "target_kl": )") + target);
    EXPECT_EQ(run.exit_code, 0) << run.err;
    return ReadLines(folder + "/run/metrics.jsonl");
  };
  const auto small = lines("1e-9"), large = lines("1000");
  ASSERT_EQ(small.size(), 8U);
  ASSERT_EQ(large.size(), 8U);
  const auto all = ReadLines(folder + "/run/rl/samples.jsonl");
  EXPECT_EQ(all.size(), 2U * 16);  // two rounds of four steps
  EXPECT_EQ(small.back().root()["early_stops"].IntOr(-1), 7);
  EXPECT_EQ(large.back().root()["early_stops"].IntOr(-1), 0);
  for (size_t step = 0; step < 8; ++step) {
    EXPECT_FALSE(small[step].root()["approx_kl"]) << step;
    EXPECT_EQ(static_cast<bool>(large[step].root()["approx_kl"]), step % 4 != 0) << step;
  }
  EXPECT_GT(large[3].root()["approx_kl"].DoubleOr(0), 0);
}

}  // namespace
}  // namespace retort::golden
