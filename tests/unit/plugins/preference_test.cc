// The losses over pairs (dpo, bradley_terry) against TRL (tests/golden/plugin_preference.txt),
// central differences in f64, and what they make of groups of other sizes than two.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "tests/unit/plugins/sequence_harness.h"

namespace retort::host {
namespace {

const std::vector<Lengths> kBatch = {{2, 5}, {1, 3}, {3, 2}, {1, 7}, {2, 4}, {1, 1}};
constexpr size_t kNoSequence = 99;

struct Case {
  std::string name, plugin, config;
  std::vector<std::string> lines;  // loss, metrics, d_logp, d_value
};

std::vector<Case> ReadCases() {
  std::ifstream golden(RETORT_SOURCE_DIR "/tests/golden/plugin_preference.txt");
  EXPECT_TRUE(golden);
  std::vector<Case> cases;
  for (std::string line; std::getline(golden, line);) {
    if (line.starts_with("#")) continue;
    if (!line.starts_with("case ")) {
      cases.back().lines.push_back(line);
      continue;
    }
    Case& c = cases.emplace_back();
    std::istringstream in(line);
    std::string word;
    in >> word >> c.name >> c.plugin;
    std::getline(in, c.config);
  }
  return cases;
}

template <class T>
PackedBatch<T> Batch(Window* window) {
  Sequence numbers(2026);
  const PackedBatch<T> batch = DrawBatch<T>(kBatch, &numbers, kNoSequence);
  *window = {};
  batch.AddTo(window);
  return batch;
}

template <class T>
void CompareTokens(const PackedBatch<T>& batch, const std::vector<T>& got, const std::string& line,
                   double tolerance) {
  std::istringstream in(line);
  for (size_t i = 0; i < batch.completion.size(); ++i) {
    double want = 0;
    ASSERT_TRUE(in >> want);
    EXPECT_NEAR(double{got[batch.completion[i]]}, want, tolerance) << "token " << i;
  }
}

template <class T>
void CompareWithTrl(double tolerance) {
  const std::vector<Case> cases = ReadCases();
  ASSERT_EQ(cases.size(), 10U);
  Window window;
  const PackedBatch<T> batch = Batch<T>(&window);
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    ASSERT_EQ(c.lines.size(), 4U);
    const auto got = EvalSequences(Make("loss", c.plugin.c_str(), c.config), batch, window);
    ASSERT_TRUE(got.status.ok()) << got.status.ToString();
    EXPECT_NEAR(got.loss, std::stod(c.lines[0]), tolerance);
    std::istringstream metrics(c.lines[1]);
    std::string name;
    for (double want = 0; metrics >> name >> want;) {
      ASSERT_EQ(got.aux.count(name), 1U) << name;
      EXPECT_NEAR(got.aux.at(name), want, std::max(tolerance, 1e-7)) << name;  // TRL's are f32
    }
    CompareTokens(batch, got.d_logp, c.lines[2], tolerance);
    CompareTokens(batch, got.d_value, c.lines[3], tolerance);
  }
}

TEST(PreferenceLosses, EqualTrlInDouble) { CompareWithTrl<double>(1e-12); }
TEST(PreferenceLosses, EqualTrlInFloat) { CompareWithTrl<float>(2e-6); }

TEST(PreferenceLosses, DerivativesAreCentralDifferences) {
  constexpr double kStep = 1e-6;
  Window window;
  PackedBatch<double> batch = Batch<double>(&window);
  for (const Case& c : ReadCases()) {
    SCOPED_TRACE(c.name);
    const PluginInstance loss = Make("loss", c.plugin.c_str(), c.config);
    const auto d = EvalSequences(loss, batch, window);
    for (size_t t = 0; t < batch.n_tokens(); ++t) {
      if (batch.mask[t] == 0) continue;
      for (const char* name : {"logp", "value"}) {
        double& x = batch.values[name][t];
        const double at = x;
        x = at + kStep;
        const double up = EvalSequences(loss, batch, window).loss;
        x = at - kStep;
        const double down = EvalSequences(loss, batch, window).loss;
        x = at;
        const std::vector<double>& found = std::string(name) == "logp" ? d.d_logp : d.d_value;
        EXPECT_NEAR(found[t], (up - down) / (2 * kStep), 1e-8) << name << " " << t;
      }
    }
  }
}

// Of three answers each two are a pair, and the group counts as one.
TEST(PreferenceLosses, AGroupIsTheMeanOfItsPairs) {
  Window window;
  const PackedBatch<double> all = Batch<double>(&window);
  PackedBatch<double> three = all.Pick({0, 1, 4});
  three.group_id = {7, 7, 7};
  three.target = {0.5, 2, 1};
  window.groups = 1;
  for (const char* id : {"dpo", "bradley_terry"}) {
    const PluginInstance loss = Make("loss", id, "");
    double sum = 0;
    const std::pair<size_t, size_t> pairs[] = {{0, 1}, {0, 2}, {2, 1}};
    for (const auto& [a, b] : pairs) sum += EvalSequences(loss, three.Pick({a, b}), window).loss;
    EXPECT_NEAR(EvalSequences(loss, three, window).loss, sum / 3, 1e-12) << id;
  }
}

TEST(PreferenceLosses, WithoutAPreferenceThereIsNothingToLearn) {
  Window window;
  PackedBatch<double> batch = Batch<double>(&window);
  std::fill(batch.target.begin(), batch.target.end(), 1.0);
  for (const char* id : {"dpo", "bradley_terry"}) {
    const auto got = EvalSequences(Make("loss", id, ""), batch, window);
    ASSERT_TRUE(got.status.ok()) << got.status.ToString();
    EXPECT_EQ(got.loss, 0);
    for (const double d : got.d_logp) EXPECT_EQ(d, 0);
    for (const double d : got.d_value) EXPECT_EQ(d, 0);
  }
}

// An answer of which nothing is scored has no reward: its pair is left out, and counts.
TEST(PreferenceLosses, AnAnswerWithoutARewardHasNoPair) {
  Window window;
  Sequence numbers(2026);
  const PackedBatch<double> batch = DrawBatch<double>(kBatch, &numbers, 2);
  batch.AddTo(&window);
  const PluginInstance loss = Make("loss", "bradley_terry", "");
  const auto got = EvalSequences(loss, batch, window);
  const auto want = EvalSequences(loss, batch.Pick({0, 1, 4, 5}), window);
  EXPECT_NEAR(got.loss, want.loss, 1e-12);
}

TEST(PreferenceLosses, WantWholeGroups) {
  for (const char* id : {"dpo", "bradley_terry"}) {
    const PluginInstance loss = Make("loss", id, "");
    EXPECT_EQ(SequenceTable(loss)->spec(loss.get())->grain, RETORT_GRAIN_GROUP);
  }
}

TEST(PreferenceLosses, BadConfigs) {
  EXPECT_THAT(ConfigError("loss", "dpo", R"({"loss_type": "ipo", "beta": 0})"),
              testing::HasSubstr("/beta"));
  EXPECT_THAT(ConfigError("loss", "dpo", R"({"loss_type": "robust", "label_smoothing": 0.5})"),
              testing::HasSubstr("/label_smoothing"));
  EXPECT_THAT(ConfigError("loss", "dpo", R"({"loss_type": "hinge", "label_smoothing": 0.1})"),
              testing::HasSubstr("/label_smoothing"));
  EXPECT_THAT(ConfigError("loss", "bradley_terry", R"({"center_rewards_coefficient": -1})"),
              testing::HasSubstr("/center_rewards_coefficient"));
}

}  // namespace
}  // namespace retort::host
