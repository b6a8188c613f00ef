// loss/grpo against TRL (tests/golden/plugin_grpo.txt) and against central differences in f64.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>

#include "retort/abi/draft/loss.h"
#include "tests/unit/plugins/harness.h"

namespace retort::host {
namespace {

constexpr double kMaxCompletionLength = 9;
constexpr size_t kAux = 5;  // low, high, region, entropy, kl
struct Lengths {
  int prompt, completion;
};
const std::vector<std::vector<Lengths>> kBatches = {{{2, 5}, {1, 3}, {3, 2}, {1, 7}},
                                                    {{1, 4}, {2, 6}, {1, 1}, {2, 3}}};

// One micro-batch as the host packs it; prompt tokens and masked ones hold NaN.
template <class T>
struct Batch {
  std::vector<int32_t> cu = {0};
  std::vector<uint8_t> mask;
  std::vector<T> logp, old_logp, ref, entropy, weight, advantage;
  std::vector<size_t> completion;  // packed indices of the completion tokens

  // The numbers of make_grpo_goldens.py, in its order.
  Batch(const std::vector<Lengths>& lengths, Sequence* numbers) {
    std::vector<double> advantages;
    for (size_t s = 0; s < lengths.size(); ++s) advantages.push_back(numbers->Next() / 2);
    for (size_t s = 0; s < lengths.size(); ++s) {
      for (int t = -lengths[s].prompt; t < lengths[s].completion; ++t) {
        const double x = numbers->Next() / 4 - 2, old = x + numbers->Next() / 8,
                     reference = x + numbers->Next() / 8, h = std::abs(numbers->Next()) / 2;
        const bool counts = numbers->Next() > 0, scored = t >= 0 && s != 2 && t % 4 != 3;
        if (t >= 0) completion.push_back(mask.size());
        const T nan = std::numeric_limits<T>::quiet_NaN();
        const auto put = [&](std::vector<T>& to, double value) {
          to.push_back(scored ? static_cast<T>(value) : nan);
        };
        mask.push_back(scored ? 1 : 0);
        put(logp, x);
        put(old_logp, old);
        put(ref, reference);
        put(entropy, h);
        put(weight, counts ? 1 : 0);
        put(advantage, advantages[s]);
      }
      cu.push_back(static_cast<int32_t>(mask.size()));
    }
  }
  double n_scored() const {
    double n = 0;
    for (const uint8_t m : mask) n += m;
    return n;
  }
};

template <class T>
struct Result {
  double loss = 0;
  std::vector<T> d_logp, d_entropy;
  std::vector<double> aux = std::vector<double>(2 * kAux, -1);
  Status status;
  double mean(size_t k) const { return aux[2 * k + 1] > 0 ? aux[2 * k] / aux[2 * k + 1] : 0; }
};

struct Inputs {
  bool old_logp = true, weight = false;
  double n_tokens = 1;  // of all batches
};

template <class T>
Result<T> Eval(const PluginInstance& grpo, Batch<T>& b, const Inputs& inputs) {
  const auto n = static_cast<int64_t>(b.mask.size());
  const auto* table =
      static_cast<const retort_sequence_loss_v1*>(grpo.interface(RETORT_SEQUENCE_LOSS_INTERFACE));
  const retort_loss_spec& spec = *table->spec(grpo.get());
  Result<T> out;
  out.d_logp.assign(b.mask.size(), T{7});
  out.d_entropy.assign(b.mask.size(), T{7});
  std::vector<double> loss = {-1};
  Tensor cu(b.cu, {static_cast<int64_t>(b.cu.size())}), mask(b.mask, {n}), logp(b.logp, {n}),
      old_logp(b.old_logp, {n}), ref(b.ref, {n}), entropy(b.entropy, {n}), weight(b.weight, {n}),
      advantage(b.advantage, {n}), loss_1(loss, {1}), d_logp(out.d_logp, {n}),
      d_entropy(out.d_entropy, {n}), aux(out.aux, {static_cast<int64_t>(spec.n_aux), 2});
  retort_sequence_loss_args args{};
  args.struct_size = sizeof(args);
  mask.get()->dtype = {RETORT_DTYPE_UINT, 8, 1};
  args.cu_seqlens = cu.get();
  args.mask = mask.get();
  args.logp = logp.get();
  if (inputs.old_logp) args.old_logp = old_logp.get();
  args.ref_logp = ref.get();
  args.entropy = entropy.get();
  if (inputs.weight) args.policy_weight = weight.get();
  args.advantage = advantage.get();
  args.n_sequences_global = args.n_scored_sequences_global = 8;
  args.n_groups_global = 1;
  args.n_tokens_global = inputs.n_tokens;
  args.max_completion_length = kMaxCompletionLength;
  args.accumulation_steps = 2;
  args.loss = loss_1.get();
  args.d_logp = d_logp.get();
  args.d_entropy = d_entropy.get();
  args.aux = aux.get();
  PluginCall call("loss grpo");
  out.status = call.End(table->eval(grpo.get(), call.Begin(), &args), "eval");
  out.loss = loss[0];
  return out;
}

// The golden: three lines per micro-batch.
struct Case {
  std::string name, config;
  std::vector<std::vector<double>> lines;
};

std::vector<Case> ReadCases() {
  std::ifstream golden(RETORT_SOURCE_DIR "/tests/golden/plugin_grpo.txt");
  EXPECT_TRUE(golden);
  std::vector<Case> cases;
  for (std::string line; std::getline(golden, line);) {
    std::istringstream in(line);
    if (line.starts_with("#")) continue;
    if (line.starts_with("case ")) {
      Case& c = cases.emplace_back();
      std::string word;
      in >> word >> c.name;
      std::getline(in, c.config);
      continue;
    }
    std::vector<double>& values = cases.back().lines.emplace_back();
    for (double x = 0; in >> x;) values.push_back(x);
  }
  return cases;
}

Inputs InputsOf(const Case& c, double n_tokens) {
  return {.old_logp = c.name != "on_policy", .weight = c.name == "quantile", .n_tokens = n_tokens};
}

template <class T>
std::vector<Batch<T>> Batches(double* n_tokens) {
  Sequence numbers(2026);
  std::vector<Batch<T>> batches;
  *n_tokens = 0;
  for (const auto& lengths : kBatches) {
    batches.emplace_back(lengths, &numbers);
    *n_tokens += batches.back().n_scored();
  }
  return batches;
}

template <class T>
void CompareWithTrl(double tolerance) {
  const std::vector<Case> cases = ReadCases();
  ASSERT_EQ(cases.size(), 11U);
  double n_tokens = 0;
  std::vector<Batch<T>> batches = Batches<T>(&n_tokens);
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const PluginInstance grpo = Make("loss", "grpo", c.config);
    ASSERT_EQ(c.lines.size(), 3 * batches.size());
    const bool has_kl = c.config.find("beta") != std::string::npos;
    for (size_t b = 0; b < batches.size(); ++b) {
      const Result<T> got = Eval(grpo, batches[b], InputsOf(c, n_tokens));
      ASSERT_TRUE(got.status.ok()) << got.status.ToString();
      const std::vector<double>& scalars = c.lines[3 * b];
      ASSERT_EQ(scalars.size(), 1 + kAux);
      EXPECT_NEAR(got.loss, scalars[0], tolerance);
      for (size_t k = 0; k < kAux - (has_kl ? 0 : 1); ++k) {
        EXPECT_NEAR(got.mean(k), scalars[1 + k], tolerance) << "aux " << k;
      }
      const std::vector<size_t>& at = batches[b].completion;
      ASSERT_EQ(c.lines[3 * b + 1].size(), at.size());
      for (size_t i = 0; i < at.size(); ++i) {
        EXPECT_NEAR(double{got.d_logp[at[i]]}, c.lines[3 * b + 1][i], tolerance) << "token " << i;
        EXPECT_NEAR(double{got.d_entropy[at[i]]}, c.lines[3 * b + 2][i], tolerance) << i;
      }
    }
  }
}

TEST(Grpo, EqualsTrlInDouble) { CompareWithTrl<double>(1e-12); }
TEST(Grpo, EqualsTrlInFloat) { CompareWithTrl<float>(2e-7); }

// d loss / d logp and d entropy. On the policy's own samples the ratio is held at 1, so that the
// loss doesn't move with logp: not a case for differences.
TEST(Grpo, DerivativesAreCentralDifferences) {
  double n_tokens = 0;
  std::vector<Batch<double>> batches = Batches<double>(&n_tokens);
  constexpr double kStep = 1e-6;
  for (const Case& c : ReadCases()) {
    if (c.name == "on_policy") continue;
    SCOPED_TRACE(c.name);
    const PluginInstance grpo = Make("loss", "grpo", c.config);
    for (Batch<double>& batch : batches) {
      const auto d = Eval(grpo, batch, InputsOf(c, n_tokens));
      for (size_t t = 0; t < batch.mask.size(); ++t) {
        if (batch.mask[t] == 0) continue;
        for (auto* input : {&batch.logp, &batch.entropy}) {
          const double x = (*input)[t];
          (*input)[t] = x + kStep;
          const double up = Eval(grpo, batch, InputsOf(c, n_tokens)).loss;
          (*input)[t] = x - kStep;
          const double down = Eval(grpo, batch, InputsOf(c, n_tokens)).loss;
          (*input)[t] = x;
          const double expected = (up - down) / (2 * kStep);
          EXPECT_NEAR((input == &batch.logp ? d.d_logp : d.d_entropy)[t], expected, 1e-8)
              << "token " << t;
        }
      }
    }
  }
}

TEST(Grpo, MissingInputsAreNamed) {
  double n_tokens = 0;
  std::vector<Batch<float>> batches = Batches<float>(&n_tokens);
  const PluginInstance grpo = Make("loss", "grpo", R"({"beta": 0.1})");
  const auto* table =
      static_cast<const retort_sequence_loss_v1*>(grpo.interface(RETORT_SEQUENCE_LOSS_INTERFACE));
  const retort_loss_spec& spec = *table->spec(grpo.get());
  EXPECT_EQ(spec.needs, RETORT_SEQUENCE_ADVANTAGE | RETORT_SEQUENCE_REF_LOGP);
  EXPECT_EQ(spec.optional,
            RETORT_SEQUENCE_OLD_LOGP | RETORT_SEQUENCE_POLICY_WEIGHT | RETORT_SEQUENCE_ENTROPY);
  EXPECT_EQ(spec.n_aux, 5U);
  retort_sequence_loss_args args{};
  args.struct_size = sizeof(args);
  PluginCall call("loss grpo");
  const Status status = call.End(table->eval(grpo.get(), call.Begin(), &args), "eval");
  EXPECT_EQ(status.code(), Code::kFailedPrecondition);
  EXPECT_THAT(status.message(), testing::HasSubstr("needs ref_logp"));
}

TEST(Grpo, BadConfigs) {
  EXPECT_THAT(ConfigError("loss", "grpo", R"({"loss_type": "ppo"})"),
              testing::HasSubstr("/loss_type"));
  EXPECT_THAT(ConfigError("loss", "grpo", R"({"delta": -1})"), testing::HasSubstr("/delta"));
  EXPECT_THAT(ConfigError("loss", "grpo", R"({"epsilon": -1})"), testing::HasSubstr("/epsilon"));
}

// A sequence of the batch has wrong bounds: refused before anything is read by them.
TEST(Grpo, BadSequenceBounds) {
  double n_tokens = 0;
  std::vector<Batch<float>> batches = Batches<float>(&n_tokens);
  batches[0].cu[1] = 1000;
  const Result<float> got = Eval(Make("loss", "grpo", ""), batches[0], {});
  EXPECT_EQ(got.status.code(), Code::kInvalidArgument);
  EXPECT_THAT(got.status.message(), testing::HasSubstr("cu_seqlens"));
}

}  // namespace
}  // namespace retort::host
