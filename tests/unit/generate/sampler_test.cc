// The sampler against transformers' logits processors (tests/peers/make_sampler_goldens.py): which
// ids it can draw, and how often over an even grid of the one uniform number it takes.
// SPDX-License-Identifier: Apache-2.0
#include "core/generate/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace retort::generate {
namespace {

using engine::SamplingParams;

SamplingParams Params(double temperature, int32_t top_k = 0, double top_p = 1) {
  SamplingParams params;
  params.temperature = temperature;
  params.top_k = top_k;
  params.top_p = top_p;
  return params;
}

struct Golden {
  std::string name;
  SamplingParams params;
  TokenCounts counts;
  std::vector<int32_t> banned;
  std::vector<float> logits;
  std::map<int32_t, double> kept;  // id: probability
};

std::vector<int32_t> ReadIds(std::istream& in) {
  std::string word;
  size_t n = 0;
  in >> word >> n;
  std::vector<int32_t> ids(n);
  for (int32_t& id : ids) in >> id;
  return ids;
}

std::vector<std::pair<int32_t, double>> ReadPairs(std::istream& in) {
  std::string word;
  size_t n = 0;
  in >> word >> n;
  std::vector<std::pair<int32_t, double>> pairs(n);
  char colon = 0;
  for (auto& [id, value] : pairs) in >> id >> colon >> value;
  return pairs;
}

std::vector<Golden> ReadGoldens() {
  std::ifstream in(RETORT_SOURCE_DIR "/tests/unit/generate/sampler_goldens.txt");
  std::vector<Golden> goldens;
  std::string word;
  while (in >> word) {
    Golden g;
    SamplingParams& s = g.params;
    size_t vocab = 0;
    in >> g.name >> vocab >> s.temperature >> s.top_k >> s.top_p >> s.min_p >>
        s.repetition_penalty >> s.presence_penalty >> s.frequency_penalty;
    g.counts = TokenCounts(vocab);
    for (int32_t id : ReadIds(in)) g.counts.AddPrompt(id);
    for (int32_t id : ReadIds(in)) g.counts.AddCompletion(id);
    for (const auto& [id, bias] : ReadPairs(in)) {
      s.logit_bias.emplace_back(id, static_cast<float>(bias));
    }
    g.banned = ReadIds(in);
    in >> word;
    g.logits.resize(vocab);
    for (float& x : g.logits) in >> x;
    for (const auto& [id, p] : ReadPairs(in)) g.kept[id] = p;
    goldens.push_back(g);
  }
  return goldens;
}

Draw SampleRow(Sampler& sampler, const Golden& g, const SamplingParams& params, double u) {
  std::vector<float> row = g.logits;
  return sampler.Sample(row, params, g.banned, u, g.counts.entries());
}

// Probability of each id by an even grid of uniforms.
std::map<int32_t, double> Frequencies(const Golden& g, int steps) {
  Sampler sampler(static_cast<int64_t>(g.logits.size()));
  std::map<int32_t, double> frequency;
  for (int i = 0; i < steps; ++i) {
    frequency[SampleRow(sampler, g, g.params, (i + 0.5) / steps).id] += 1.0 / steps;
  }
  return frequency;
}

TEST(Sampler, DrawsWhatTransformersKeepsAsOftenAsItWould) {
  const auto goldens = ReadGoldens();
  ASSERT_GE(goldens.size(), 35u);
  constexpr int kSteps = 20000;
  for (const Golden& g : goldens) {
    SCOPED_TRACE(g.name);
    const auto frequency = Frequencies(g, kSteps);
    for (const auto& [id, f] : frequency) EXPECT_TRUE(g.kept.contains(id)) << id;
    for (const auto& [id, p] : g.kept) {
      const double f = frequency.contains(id) ? frequency.at(id) : 0;
      EXPECT_NEAR(f, p, 1.01 / kSteps + 1e-6 * p) << id;  // a stretch of the grid, off by one cell
    }
  }
}

TEST(Sampler, TheLogProbabilityIgnoresEditsAndFilters) {
  for (const Golden& g : ReadGoldens()) {
    Sampler sampler(static_cast<int64_t>(g.logits.size()));
    for (double u : {0.01, 0.3, 0.77, 0.999}) {
      const Draw draw = SampleRow(sampler, g, g.params, u);
      double sum = 0;
      for (float z : g.logits) sum += std::exp(double(z) / g.params.temperature);
      const double want = double(g.logits[size_t(draw.id)]) / g.params.temperature - std::log(sum);
      EXPECT_NEAR(double(draw.logp), want, 1e-5) << g.name;
    }
  }
}

TEST(Sampler, GreedyTakesTheLikeliestOfTheEditedRow) {
  int moved = 0;  // the cases where an edit changes the choice
  for (const Golden& g : ReadGoldens()) {
    const auto less = [](const auto& a, const auto& b) { return a.second < b.second; };
    const int32_t want = std::max_element(g.kept.begin(), g.kept.end(), less)->first;
    Sampler sampler(static_cast<int64_t>(g.logits.size()));
    SamplingParams greedy = g.params;
    greedy.temperature = 0;
    EXPECT_EQ(SampleRow(sampler, g, greedy, 0.9).id, want) << g.name;
    moved += std::max_element(g.logits.begin(), g.logits.end()) - g.logits.begin() != want;
  }
  EXPECT_GE(moved, 3);
}

TEST(Sampler, GreedyTakesTheLowestIdOnTiesAtTemperatureOne) {
  std::vector<float> row = {1, 5, 2, 5, 5, -1};
  Sampler sampler(6);
  const Draw draw = sampler.Sample(row, Params(0), {}, 0.9);
  EXPECT_EQ(draw.id, 1);
  double sum = 0;
  for (float z : row) sum += std::exp(double(z));
  EXPECT_NEAR(double(draw.logp), 5 - std::log(sum), 1e-6);
}

TEST(Sampler, BannedIdsAreNotDrawnButCountInTheLogProbability) {
  const std::vector<float> logits = {3, 9, 1, 2, 0};
  const std::vector<int32_t> banned = {1};
  Sampler sampler(5);
  double sum = 0;
  for (float z : logits) sum += std::exp(double(z));
  for (const SamplingParams& params :
       {Params(0), SamplingParams{}, Params(1, 2), Params(1, 0, 0.99)}) {
    for (double u : {0.0, 0.5, 0.9999999}) {
      std::vector<float> row = logits;
      const Draw draw = sampler.Sample(row, params, banned, u);
      EXPECT_NE(draw.id, 1);
      EXPECT_NEAR(double(draw.logp), double(logits[size_t(draw.id)]) - std::log(sum), 1e-5);
    }
  }
}

TEST(Sampler, MinusInfinityIsNeverDrawn) {
  const float minus = -std::numeric_limits<float>::infinity();
  Sampler sampler(600);
  for (const SamplingParams& params : {SamplingParams{}, Params(1, 500), Params(1, 0, 0.9999999)}) {
    for (double u : {0.0, 0.25, 0.5, 1 - 1e-16}) {
      std::vector<float> row(600, minus);
      row[255] = 1;
      row[256] = 1;
      row[590] = 0;
      const Draw draw = sampler.Sample(row, params, {}, u);
      EXPECT_TRUE(draw.id == 255 || draw.id == 256 || draw.id == 590) << draw.id;
    }
  }
}

TEST(Sampler, RowsThatAreNotFiniteGiveNoToken) {
  Sampler sampler(40);
  for (float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<float> row(40, 1.0f);
    row[17] = bad;
    EXPECT_EQ(sampler.Sample(row, {}, {}, 0.5).id, -1);
    EXPECT_EQ(sampler.Sample(row, Params(0), {}, 0.5).id, -1);
  }
}

// A vocabulary of real size, against a plain sort.
TEST(Sampler, LargeVocabularyEqualsASort) {
  const int64_t vocab = 50000;
  std::mt19937 rng(3);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> logits(static_cast<size_t>(vocab), 0.0f);
  for (float& z : logits) z = normal(rng);
  std::vector<int32_t> order(logits.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = int32_t(i);
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    const float za = logits[size_t(a)], zb = logits[size_t(b)];
    return za != zb ? za > zb : a < b;
  });
  const SamplingParams params = Params(0.9, 300, 0.8);
  std::vector<double> p;
  double total = 0;
  for (size_t i = 0; i < 300; ++i) {
    p.push_back(
        std::exp((double(logits[size_t(order[i])]) - double(logits[size_t(order[0])])) / 0.9));
    total += p.back();
  }
  double kept = 0;
  size_t n = 0;
  while (kept < 0.8 * total) kept += p[n++];
  Sampler sampler(vocab);
  for (double u : {0.0, 0.1, 0.37, 0.5, 0.83, 0.99, 0.999999}) {
    double sum = 0;
    size_t want = 0;
    while (want + 1 < n && sum + p[want] <= u * kept) sum += p[want++];
    std::vector<float> row = logits;
    EXPECT_EQ(sampler.Sample(row, params, {}, u).id, order[want]) << u;
  }
}

}  // namespace
}  // namespace retort::generate
