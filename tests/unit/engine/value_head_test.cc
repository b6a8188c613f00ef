// Values in losses and scores: derivatives of the whole model in f64 against central differences,
// which row a token's value comes from, and models without an LM head.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "core/engine/score.h"
#include "tests/unit/engine/sequence_chain.h"

namespace retort::engine::test {
namespace {

using ::testing::HasSubstr;

// Sum over scored t of ((value[t] - returns[t])^2 + value[t] * logp[t]) / n_tokens; without
// `logp` the first term alone.
template <class T>
void Regression(const retort_sequence_loss_args& args, bool with_logp) {
  const auto at = [](const retort_tensor* tensor, int64_t t) {
    return static_cast<double>(static_cast<const T*>(tensor->data)[t]);
  };
  double loss = 0;
  for (int64_t t = 0; t < args.logp->shape[0]; ++t) {
    const bool counts = static_cast<const uint8_t*>(args.mask->data)[t] != 0;
    const double value = at(args.value, t), logp = with_logp && counts ? at(args.logp, t) : 0;
    const double error = counts ? value - at(args.returns, t) : 0;
    if (counts) loss += (error * error + value * logp) / args.n_tokens_global;
    if (args.d_logp == nullptr) continue;
    const double d_logp = with_logp && counts ? value : 0, d_value = counts ? 2 * error + logp : 0;
    static_cast<T*>(args.d_logp->data)[t] = static_cast<T>(d_logp / args.n_tokens_global);
    static_cast<T*>(args.d_value->data)[t] = static_cast<T>(d_value / args.n_tokens_global);
  }
  *static_cast<double*>(args.loss->data) = loss;
}

template <uint64_t kBit, bool kWithLogp>
const retort_sequence_loss_v1* RegressionTable() {
  static const retort_loss_spec kSpec = {.struct_size = sizeof(retort_loss_spec),
                                         .flags = RETORT_LOSS_F64,
                                         .needs = kBit | RETORT_SEQUENCE_RETURNS,
                                         .optional = 0,
                                         .grain = RETORT_GRAIN_SEQUENCE,
                                         .n_aux = 0,
                                         .aux_names = nullptr,
                                         .scratch_per_row = 0,
                                         .teacher_temperature = 0,
                                         .teacher_top_k = 0,
                                         ._pad = 0};
  static const retort_sequence_loss_v1 kTable = {
      .struct_size = sizeof(retort_sequence_loss_v1),
      .flags = 0,
      .spec = [](retort_instance*) { return &kSpec; },
      .eval = [](retort_instance*, const retort_call*,
                 const retort_sequence_loss_args* args) -> retort_status {
        if (args->logp->dtype.bits == 64) {
          Regression<double>(*args, kWithLogp);
        } else {
          Regression<float>(*args, kWithLogp);
        }
        return RETORT_OK;
      }};
  return &kTable;
}

template <uint64_t kBit, bool kWithLogp = true>
SequenceLoss Values(double weight = 1, const char* name = "values") {
  return {.name = name,
          .table = RegressionTable<kBit, kWithLogp>(),
          .instance = nullptr,
          .weight = weight};
}
constexpr uint64_t kBefore = RETORT_SEQUENCE_VALUE, kAfter = RETORT_SEQUENCE_VALUE_AFTER;

MicroBatch WithReturns(const std::vector<int32_t>& lengths, int64_t vocab, size_t first = 0) {
  MicroBatch batch = Documents(lengths, vocab, first);
  for (size_t t = 0; t < batch.ids.size(); ++t) {
    batch.sequence.returns.push_back(0.5F - 0.25F * static_cast<float>(batch.ids[t] % 7));
  }
  return batch;
}

void CheckGradients(TinySpec spec, const TrainerOptions& options) {
  spec.vocab = 11;
  TinyModel<double> model(spec);
  CheckGradientsOf(model, options,
                   {WithReturns({5, 3}, spec.vocab), WithReturns({4}, spec.vocab, 2)});
}

TEST(ValueHead, GradientsMatchBeforeEachToken) {
  CheckGradients({.layers = 1, .value_head = true}, Losses({Values<kBefore>(0.7)}));
}
TEST(ValueHead, GradientsMatchAfterEachToken) {
  CheckGradients({.layers = 1, .tied = false, .value_head = true}, Losses({Values<kAfter>()}));
}
TEST(ValueHead, GradientsMatchBothInOneChainInChunks) {
  CheckGradients(
      {.layers = 1, .value_head = true},
      Losses({Values<kBefore>(0.7), Values<kAfter>(-0.4, "after")}, {CrossEntropy("ce", 0.3)}, 2));
}
TEST(ValueHead, GradientsMatchWithoutAnLmHead) {
  for (const bool tied : {true, false}) {
    CheckGradients({.layers = 1, .tied = tied, .value_head = true, .reward_model = true},
                   Losses({Values<kAfter, false>()}));
  }
}

// A loss of values alone is the same with and without the LM head, but for the head's own gradient.
TEST(ValueHead, ALossOfValuesAloneNeedsNoLmHead) {
  TinySpec spec{.value_head = true};
  TinyModel<double> whole(spec);
  spec.reward_model = true;
  TinyModel<double> bare(spec);
  Chain<double> a(whole, Losses({Values<kAfter, false>()}));
  Chain<double> b(bare, Losses({Values<kAfter, false>()}));
  const std::vector<MicroBatch> window = {WithReturns({7, 4}, spec.vocab)};
  EXPECT_EQ(a.Run(window, true), b.Run(window, true));
  EXPECT_EQ(a.Derivatives(), b.Derivatives());
}

TEST(ValueHead, WhatTheModelLacksIsRefused) {
  TinyModel<double> plain(TinySpec{}), headed({.value_head = true});
  TinyModel<double> bare({.value_head = true, .reward_model = true});
  const auto refusal = [](const TinyModel<double>& model, const TrainerOptions& options) {
    return LossChain::Make(model.graph, model.views, options, kThreads).status();
  };
  EXPECT_THAT(refusal(plain, Losses({Values<kBefore>()})).message(),
              HasSubstr("loss \"values\" needs values, and this model has no value head"));
  EXPECT_THAT(refusal(bare, Losses({}, {CrossEntropy()})).message(),
              HasSubstr("loss \"ce\" over logits: the model is a reward model"));
  EXPECT_THAT(refusal(headed, Losses({Values<kBefore | kAfter>()})).message(),
              HasSubstr("before and after each token"));
  Chain<double> chain(bare, Losses({Values<kBefore>()}));
  chain.Run({WithReturns({7}, 29)}, true);
  EXPECT_THAT(chain.status().message(), HasSubstr("a loss of log-probabilities: the model is a"));
}

class Scores : public ::testing::Test {
 protected:
  std::vector<ScoreResult> Run(TinyModel<float>& model, std::vector<ScoreRequest> requests) {
    SetThreads(kThreads);
    Inference inference(model.graph, model.views, kThreads);
    auto scored = Score(inference, model.graph, model.views, requests, 0, nullptr, {}, kThreads);
    status_ = scored.status();
    return scored.ok() ? std::move(scored).value() : std::vector<ScoreResult>();
  }
  Status status_;
  const std::vector<int32_t> text_ = {3, 1, 4, 1, 5, 9, 2, 6}, other_ = {2, 7, 1};
};

// value i of a text is the last value of its first i + 1 tokens, whatever shares the pass.
TEST_F(Scores, ValuesAreOfThePrefixes) {
  TinyModel<float> model({.value_head = true});
  const std::vector<ScoreResult> got =
      Run(model, {{.ids = other_, .want_logp = false, .want_values = true},
                  {.ids = text_, .want_logp = false, .want_values = true},
                  {.ids = text_, .first = 6, .want_values = true}});
  ASSERT_TRUE(status_.ok()) << status_.ToString();
  ASSERT_EQ(got[1].values.size(), text_.size() - 1);
  EXPECT_TRUE(got[1].logp.empty());
  ASSERT_EQ(got[2].values.size(), 2U);
  EXPECT_EQ(got[2].logp.size(), 2U);
  EXPECT_NEAR(got[2].values[0], got[1].values[5], 1e-5);
  for (size_t n = 1; n <= text_.size(); ++n) {
    const auto prefix = std::span(text_).first(n);
    const float want =
        Run(model, {{.ids = prefix, .want_logp = false, .want_values = true}})[0].last_value;
    EXPECT_NEAR(n < text_.size() ? got[1].values[n - 1] : got[1].last_value, want, 1e-5) << n;
  }
  EXPECT_NE(got[0].last_value, got[1].last_value);
}

// Six tokens in common, of which the last row is each text's own.
TEST_F(Scores, ValuesOfSharedRowsAreThoseOfWholeTexts) {
  TinyModel<float> model({.value_head = true});
  std::vector<int32_t> longer = text_;
  longer.back() = 7, longer.push_back(5);
  const std::vector<ScoreRequest> alone = {{.ids = text_, .first = 6, .want_values = true},
                                           {.ids = longer, .first = 6, .want_values = true}};
  std::vector<ScoreRequest> sharing = alone;
  for (ScoreRequest& request : sharing) request.shares_prompt = true;
  const std::vector<ScoreResult> want = Run(model, alone), got = Run(model, sharing);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_THAT(got[i].values, testing::Pointwise(testing::FloatNear(1e-5F), want[i].values));
    EXPECT_THAT(got[i].logp, testing::Pointwise(testing::FloatNear(1e-5F), want[i].logp));
    EXPECT_NEAR(got[i].last_value, want[i].last_value, 1e-5);
  }
}

TEST_F(Scores, WhatTheModelLacksIsRefused) {
  TinyModel<float> plain(TinySpec{}), bare({.value_head = true, .reward_model = true});
  Run(plain, {{.ids = text_, .want_values = true}});
  EXPECT_THAT(status_.message(), HasSubstr("score request 0: the model has no value head"));
  Run(bare, {{.ids = text_}});
  EXPECT_THAT(status_.message(), HasSubstr("score request 0: the model is a reward model"));
  EXPECT_EQ(Run(bare, {{.ids = text_, .want_logp = false, .want_values = true}}).size(), 1U);
}

}  // namespace
}  // namespace retort::engine::test
