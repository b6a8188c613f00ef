// Rope scalings whole: fixtures whose config has another scaling, against transformers in f64.
// Texts end below, at and above the length where a scaling changes; a greedy continuation grows
// across it. Oracle: tests/peers/make_rope_goldens.py.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "tests/golden/program.h"

namespace retort::golden {
namespace {

constexpr double kTolerance = 1e-4;  // per token, the bar

// config.json of a fixture with keys of `replaced` in the place of its own; null: without it.
std::string ConfigWith(json::Value config, json::Value replaced) {
  json::Writer w(2);
  w.BeginObject();
  for (size_t i = 0; i < config.size(); ++i) {
    if (replaced[config.key_at(i)]) continue;
    w.Key(config.key_at(i)).Copy(config.value_at(i));
  }
  for (size_t i = 0; i < replaced.size(); ++i) {
    if (replaced.value_at(i).is_null()) continue;
    w.Key(replaced.key_at(i)).Copy(replaced.value_at(i));
  }
  return w.EndObject().Take();
}

// The folder of a variant: the fixture's files, its config changed.
std::string VariantFolder(json::Value golden) {
  const std::string fixture(golden["model"].StringOr(""));
  std::string name(golden["name"].StringOr(""));
  for (char& c : name) c = c == ' ' ? '_' : c;
  const std::string folder = ScratchFolder("rope-" + name);
  std::filesystem::copy(ModelPath(fixture), folder);
  const auto config = json::Document::Parse(ReadText(folder + "/config.json"), "config.json");
  WriteText(folder + "/config.json", ConfigWith(config->root(), golden["config"]));
  return folder;
}

std::vector<json::Document> Logprobs(const std::string& folder, json::Value texts) {
  std::string input;
  for (size_t i = 0; i < texts.size(); ++i) input += "{\"ids\":" + texts[i].Dump() + "}\n";
  const Outcome run = RunRetort({"logprob", folder, "--storage", "f32"}, input);
  EXPECT_EQ(run.exit_code, 0) << run.err;
  return ParseLines(run.out, "logprob");
}

class GoldenRope : public testing::TestWithParam<size_t> {
 protected:
  const std::vector<json::Document> lines_ = ReadLines(GoldenPath("rope.jsonl"));
  json::Value golden() const { return lines_.at(GetParam()).root(); }
};

TEST_P(GoldenRope, LogprobsAreThoseOfTransformers) {
  const auto lines = Logprobs(VariantFolder(golden()), golden()["ids"]);
  ASSERT_EQ(lines.size(), golden()["ids"].size());
  double worst = 0;
  for (size_t i = 0; i < lines.size(); ++i) {
    const auto ours = Doubles(lines[i].root()["logprob"]);
    const auto theirs = Doubles(golden()["logprob"][i]);
    ASSERT_EQ(ours.size(), theirs.size());
    for (size_t t = 0; t < ours.size(); ++t) {
      ASSERT_NEAR(ours[t], theirs[t], kTolerance) << "text " << i << " token " << t;
      worst = std::max(worst, std::abs(ours[t] - theirs[t]));
    }
  }
  std::printf("%s: worst difference %.3g\n", std::string(golden()["name"].StringOr("")).c_str(),
              worst);
}

TEST_P(GoldenRope, GreedyTokensAreThoseOfTransformersAcrossTheChange) {
  ASSERT_EQ(golden()["near_ties"].size(), 0U);
  const auto theirs = Ints(golden()["greedy"]);
  const std::string line = "{\"messages\":" + golden()["messages"].Dump() + "}\n";
  const std::string folder = VariantFolder(golden());
  // Alone, as two samples of one prompt, and beside another request.
  for (const char* samples : {"1", "2"}) {
    const Outcome run =
        RunRetort({"generate", folder, "--storage", "f32", "--input", "-", "--temperature", "0",
                   "--max-tokens", std::to_string(theirs.size()), "--min-tokens",
                   std::to_string(theirs.size()), "--samples", samples},
                  line + (samples[0] == '2' ? line : ""));
    ASSERT_EQ(run.exit_code, 0) << run.err;
    const auto lines = ParseLines(run.out, "generate");
    ASSERT_GE(lines.size(), 1U);
    for (const auto& sample : lines) {
      EXPECT_EQ(Ints(sample.root()["prompt_ids"]), Ints(golden()["prompt_ids"]));
      EXPECT_EQ(Ints(sample.root()["completion_ids"]), theirs);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, GoldenRope, testing::Range<size_t>(0, 6));

}  // namespace
}  // namespace retort::golden
