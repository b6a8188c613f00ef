// The policy losses (grpo, rloo, reinforce, ppo) against TRL, verl and torchtune
// (tests/golden/plugin_policy.txt), and against central differences in f64.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "tests/unit/plugins/sequence_harness.h"

namespace retort::host {
namespace {

const std::vector<std::vector<Lengths>> kBatches = {{{2, 5}, {1, 3}, {3, 2}, {1, 7}},
                                                    {{1, 4}, {2, 6}, {1, 1}, {2, 3}}};

struct Case {
  std::string name, plugin, config;
  double tolerance = 0;  // of the oracle
  std::set<std::string> inputs;
  std::vector<std::string> lines;  // five per micro-batch: loss, metrics, three derivatives
};

std::vector<Case> ReadCases() {
  std::ifstream golden(RETORT_SOURCE_DIR "/tests/golden/plugin_policy.txt");
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
    std::string word, inputs;
    in >> word >> c.name >> c.plugin >> c.tolerance >> inputs;
    std::getline(in, c.config);
    std::istringstream list(inputs);
    while (std::getline(list, word, ',')) c.inputs.insert(word);
  }
  return cases;
}

std::vector<double> Numbers(const std::string& line) {
  std::istringstream in(line);
  std::vector<double> out;
  for (double x = 0; in >> x;) out.push_back(x);
  return out;
}

template <class T>
std::vector<PackedBatch<T>> Batches(Window* window) {
  Sequence numbers(2026);
  std::vector<PackedBatch<T>> batches;
  *window = {.steps = static_cast<double>(kBatches.size())};
  for (const auto& lengths : kBatches) {
    batches.push_back(DrawBatch<T>(lengths, &numbers));
    batches.back().AddTo(window);
  }
  return batches;
}

template <class T>
void CompareTokens(const PackedBatch<T>& batch, const std::vector<T>& got, const std::string& line,
                   double tolerance, const char* what) {
  const std::vector<double> want = Numbers(line);
  ASSERT_EQ(want.size(), batch.completion.size());
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_NEAR(double{got[batch.completion[i]]}, want[i], tolerance) << what << " of token " << i;
  }
}

template <class T>
void CompareWithPeers(double precision) {
  const std::vector<Case> cases = ReadCases();
  ASSERT_EQ(cases.size(), 37U);
  Window window;
  const std::vector<PackedBatch<T>> batches = Batches<T>(&window);
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const double tolerance = std::max(precision, c.tolerance);
    const PluginInstance loss = Make("loss", c.plugin.c_str(), c.config);
    ASSERT_EQ(c.lines.size(), 5 * batches.size());
    for (size_t b = 0; b < batches.size(); ++b) {
      const SequenceResult<T> got = EvalSequences(loss, batches[b], window, c.inputs);
      ASSERT_TRUE(got.status.ok()) << got.status.ToString();
      EXPECT_NEAR(got.loss, Numbers(c.lines[5 * b])[0], tolerance);
      std::istringstream metrics(c.lines[5 * b + 1]);
      std::string name;
      for (double want = 0; metrics >> name >> want;) {
        ASSERT_EQ(got.aux.count(name), 1U) << name;
        EXPECT_NEAR(got.aux.at(name), want, std::max(tolerance, 1e-7)) << name;  // TRL's are f32
      }
      CompareTokens(batches[b], got.d_logp, c.lines[5 * b + 2], tolerance, "d_logp");
      CompareTokens(batches[b], got.d_entropy, c.lines[5 * b + 3], tolerance, "d_entropy");
      CompareTokens(batches[b], got.d_value, c.lines[5 * b + 4], tolerance, "d_value");
    }
  }
}

TEST(PolicyLosses, EqualTheirPeersInDouble) { CompareWithPeers<double>(1e-12); }
TEST(PolicyLosses, EqualTheirPeersInFloat) { CompareWithPeers<float>(1e-6); }

// Where nothing is held constant: on the policy's own samples the ratio is, and with SURROGATE a
// part of the loss.
TEST(PolicyLosses, DerivativesAreCentralDifferences) {
  constexpr double kStep = 1e-6;
  Window window;
  std::vector<PackedBatch<double>> batches = Batches<double>(&window);
  int n_compared = 0;
  for (const Case& c : ReadCases()) {
    SCOPED_TRACE(c.name);
    const PluginInstance loss = Make("loss", c.plugin.c_str(), c.config);
    const uint32_t flags = SequenceTable(loss)->spec(loss.get())->flags;
    const bool own = c.inputs.count("old_logp") == 0 && c.plugin != "reinforce";
    if ((flags & RETORT_LOSS_SURROGATE) != 0 || own) continue;
    ++n_compared;
    for (PackedBatch<double>& batch : batches) {
      const auto d = EvalSequences(loss, batch, window, c.inputs);
      const std::map<std::string, const std::vector<double>*> derivatives = {
          {"logp", &d.d_logp}, {"entropy", &d.d_entropy}, {"value", &d.d_value}};
      for (size_t t = 0; t < batch.n_tokens(); ++t) {
        for (const auto& [name, found] : derivatives) {
          if (batch.mask[t] == 0) {
            EXPECT_EQ((*found)[t], 0) << name << " of a masked token";
            continue;
          }
          double& x = batch.values[name][t];
          const double at = x;
          x = at + kStep;
          const double up = EvalSequences(loss, batch, window, c.inputs).loss;
          x = at - kStep;
          const double down = EvalSequences(loss, batch, window, c.inputs).loss;
          x = at;
          EXPECT_NEAR((*found)[t], (up - down) / (2 * kStep), 1e-8) << name << " " << t;
        }
      }
    }
  }
  EXPECT_EQ(n_compared, 33);
}

// Far from the old policy and the reference: bounded, finite, and constant beyond the bounds.
TEST(PolicyLosses, BoundsOfLogRatios) {
  Window window;
  PackedBatch<double> batch = Batches<double>(&window)[0];
  for (size_t t = 0; t < batch.n_tokens(); ++t) {
    if (batch.mask[t] == 0) continue;
    batch.values["logp"][t] = -1;
    batch.values["old_logp"][t] = -101;
    batch.values["ref_logp"][t] = -201;
    batch.values["advantage"][t] = -1;
  }
  const PluginInstance loss = Make("loss", "grpo", R"({"log_ratio_clamp": 3, "beta": 0.5,
      "kl_clamp": 2, "kl_max": 0.125, "kl_estimator": "k1"})");
  const auto got = EvalSequences(loss, batch, window, {"old_logp"});
  ASSERT_TRUE(got.status.ok()) << got.status.ToString();
  double n = 0;
  for (const uint8_t m : batch.mask) n += m;
  EXPECT_NEAR(got.loss, n / window.tokens * (std::exp(3.0) + 0.5 * 0.125), 1e-12);
  for (const double d : got.d_logp) EXPECT_EQ(d, 0);
}

// What the sampler didn't report is no reason to change a token's weight.
TEST(PolicyLosses, UnknownBehaviourCountsAsEqual) {
  Window window;
  PackedBatch<double> batch = Batches<double>(&window)[0], known = batch;
  for (size_t t = 0; t < batch.n_tokens(); ++t) {
    batch.values["behaviour"][t] = std::numeric_limits<double>::quiet_NaN();
    known.values["behaviour"][t] = known.values["old_logp"][t];
  }
  const PluginInstance loss = Make("loss", "grpo", R"({"rollout_is": "token_truncate"})");
  const std::set<std::string> inputs = {"old_logp", "behaviour"};
  const auto got = EvalSequences(loss, batch, window, inputs);
  const auto want = EvalSequences(loss, known, window, inputs);
  ASSERT_TRUE(got.status.ok()) << got.status.ToString();
  EXPECT_EQ(got.loss, want.loss);
  EXPECT_EQ(got.d_logp, want.d_logp);
}

TEST(PolicyLosses, NeedWhatTheirConfigAsksFor) {
  const auto spec_of = [](const char* id, const char* config) {
    const PluginInstance loss = Make("loss", id, config);
    return *SequenceTable(loss)->spec(loss.get());
  };
  EXPECT_EQ(spec_of("grpo", "").needs, RETORT_SEQUENCE_ADVANTAGE);
  EXPECT_EQ(spec_of("grpo", R"({"beta": 0.1})").needs,
            RETORT_SEQUENCE_ADVANTAGE | RETORT_SEQUENCE_REF_LOGP);
  EXPECT_EQ(spec_of("rloo", R"({"entropy_coef": 0.1})").needs,
            RETORT_SEQUENCE_ADVANTAGE | RETORT_SEQUENCE_ENTROPY);
  EXPECT_EQ(spec_of("ppo", "").needs,
            RETORT_SEQUENCE_ADVANTAGE | RETORT_SEQUENCE_VALUE | RETORT_SEQUENCE_RETURNS);
  EXPECT_EQ(spec_of("ppo", R"({"vf_coef": 0})").needs, RETORT_SEQUENCE_ADVANTAGE);
  EXPECT_EQ(spec_of("reinforce", R"({"rollout_is": "none"})").optional,
            RETORT_SEQUENCE_POLICY_WEIGHT | RETORT_SEQUENCE_ENTROPY);
}

TEST(PolicyLosses, BadConfigs) {
  EXPECT_THAT(ConfigError("loss", "grpo", R"({"loss_type": "ppo"})"),
              testing::HasSubstr("/loss_type"));
  EXPECT_THAT(ConfigError("loss", "grpo", R"({"delta": -1})"), testing::HasSubstr("/delta"));
  EXPECT_THAT(ConfigError("loss", "grpo", R"({"epsilon": -1})"), testing::HasSubstr("/epsilon"));
  EXPECT_THAT(ConfigError("loss", "grpo", R"({"loss_type": "cispo", "cispo_min": 6})"),
              testing::HasSubstr("/cispo_min"));
  EXPECT_THAT(ConfigError("loss", "rloo", R"({"rollout_is_min": 4})"),
              testing::HasSubstr("/rollout_is_max"));
  EXPECT_THAT(ConfigError("loss", "ppo", R"({"cliprange": 2})"), testing::HasSubstr("/cliprange"));
}

// A sequence of the batch has wrong bounds: refused before anything is read by them.
TEST(PolicyLosses, BadSequenceBounds) {
  Window window;
  PackedBatch<float> batch = Batches<float>(&window)[0];
  batch.cu[1] = 1000;
  const auto got = EvalSequences(Make("loss", "grpo", ""), batch, window);
  EXPECT_EQ(got.status.code(), Code::kInvalidArgument);
  EXPECT_THAT(got.status.message(), testing::HasSubstr("cu_seqlens"));
}

}  // namespace
}  // namespace retort::host
