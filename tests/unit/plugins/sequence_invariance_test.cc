// Sequence losses don't depend on how sequences are packed: in which order, in which calls. Equal
// to 1e-12 in f64, 1e-5 in f32. SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/plugins/sequence_harness.h"

namespace retort::host {
namespace {

constexpr size_t kSequences = 12;

// Groups of two, one of them with an answer of no token; both halves alike, so that means over
// calls can be compared too.
std::vector<Lengths> AllLengths() {
  std::vector<Lengths> lengths = {{1, 6}, {2, 3}, {3, 9}, {2, 0}, {2, 5}, {1, 8}};
  lengths.insert(lengths.end(), lengths.begin(), lengths.end());
  return lengths;
}

struct Chain {
  const char *id, *config;
  bool per_call = false;  // a mean over the call: parts must be alike
};
const Chain kChains[] = {
    {"grpo", ""},
    {"grpo", R"({"loss_type": "grpo", "beta": 0.1, "rollout_is_max": 2})"},
    {"grpo", R"({"loss_type": "bnpo", "beta": 0.1, "entropy_coef": 0.05})", true},
    {"grpo", R"({"loss_type": "dr_grpo", "kl_estimator": "k3+", "beta": 0.1})"},
    {"grpo", R"({"loss_type": "luspo", "importance_sampling_level": "sequence"})"},
    {"grpo", R"({"loss_type": "cispo", "rollout_is": "token_truncate"})"},
    {"grpo", R"({"loss_type": "sapo", "count_masked": false})"},
    {"rloo", ""},
    {"reinforce", R"({"beta": 0.1, "kl_estimator": "k2"})"},
    {"ppo", R"({"vf_coef": 0.5})"},
    {"dpo", ""},
    {"dpo", R"({"loss_type": "ipo"})"},
    {"bradley_terry", R"({"center_rewards_coefficient": 0.1})"},
};
const std::set<std::string> kInputs = {"old_logp", "behaviour"};

template <class T>
struct Setting {
  Window window;
  PackedBatch<T> batch;
  Setting() {
    Sequence numbers(77);
    batch = DrawBatch<T>(AllLengths(), &numbers, kSequences);
    batch.AddTo(&window);
  }
};

// `part` holds the sequences `order` of the batch.
template <class T>
void CompareTokens(const PackedBatch<T>& batch, const std::vector<size_t>& order,
                   const SequenceResult<T>& whole, const SequenceResult<T>& part,
                   double tolerance) {
  size_t at = 0;
  for (const size_t s : order) {
    for (auto t = static_cast<size_t>(batch.cu[s]); t < static_cast<size_t>(batch.cu[s + 1]); ++t) {
      ASSERT_NEAR(double{part.d_logp[at]}, double{whole.d_logp[t]}, tolerance) << "sequence " << s;
      ASSERT_NEAR(double{part.d_entropy[at]}, double{whole.d_entropy[t]}, tolerance) << s;
      ASSERT_NEAR(double{part.d_value[at]}, double{whole.d_value[t]}, tolerance) << s;
      ++at;
    }
  }
}

template <class T>
void CheckOrders(double tolerance) {
  const Setting<T> setting;
  std::vector<size_t> order(kSequences);
  for (size_t i = 0; i < kSequences; ++i) order[i] = i * 7 % kSequences;  // groups torn apart
  for (const Chain& chain : kChains) {
    SCOPED_TRACE(std::string(chain.id) + " " + chain.config);
    const PluginInstance loss = Make("loss", chain.id, chain.config);
    const auto whole = EvalSequences(loss, setting.batch, setting.window, kInputs);
    const auto mixed = EvalSequences(loss, setting.batch.Pick(order), setting.window, kInputs);
    ASSERT_TRUE(whole.status.ok()) << whole.status.ToString();
    ASSERT_TRUE(mixed.status.ok()) << mixed.status.ToString();
    EXPECT_NEAR(mixed.loss, whole.loss, tolerance);
    for (const auto& [name, x] : whole.aux) EXPECT_NEAR(mixed.aux.at(name), x, tolerance) << name;
    CompareTokens(setting.batch, order, whole, mixed, tolerance);
  }
}
TEST(SequenceLosses, OrderOfPackingIsNothingToF64) { CheckOrders<double>(1e-12); }
TEST(SequenceLosses, OrderOfPackingIsNothingToF32) { CheckOrders<float>(1e-5); }

// Calls of one group, or of one half.
template <class T>
void CheckParts(double tolerance) {
  const Setting<T> setting;
  for (const Chain& chain : kChains) {
    SCOPED_TRACE(std::string(chain.id) + " " + chain.config);
    const PluginInstance loss = Make("loss", chain.id, chain.config);
    const auto whole = EvalSequences(loss, setting.batch, setting.window, kInputs);
    for (const size_t step : {size_t{2}, kSequences / 2}) {
      if (chain.per_call && step == 2) continue;
      Window window = setting.window;
      window.steps = static_cast<double>(kSequences / step);
      double sum = 0;
      for (size_t begin = 0; begin < kSequences; begin += step) {
        std::vector<size_t> order;
        for (size_t s = begin; s < begin + step; ++s) order.push_back(s);
        const auto part = EvalSequences(loss, setting.batch.Pick(order), window, kInputs);
        ASSERT_TRUE(part.status.ok()) << part.status.ToString();
        sum += part.loss;
        CompareTokens(setting.batch, order, whole, part, tolerance);
      }
      EXPECT_NEAR(sum, whole.loss, tolerance) << "calls of " << step << " sequences";
    }
  }
}
TEST(SequenceLosses, PartsOfAWindowAddUpF64) { CheckParts<double>(1e-12); }
TEST(SequenceLosses, PartsOfAWindowAddUpF32) { CheckParts<float>(1e-5); }

}  // namespace
}  // namespace retort::host
