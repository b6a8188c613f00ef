// Sequence losses: derivatives of the whole model in f64 against central differences, and what
// they must not depend on.
// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/engine/sequence_chain.h"

namespace retort::engine::test {
namespace {

// sum over scored t of advantage[t] * logp[t]^2 / n_tokens - 0.1 * entropy[t] * logp[t] /
// n_sequences
template <class T>
void Policy(const retort_sequence_loss_args& args) {
  const auto at = [](const retort_tensor* tensor, int64_t t) {
    return static_cast<double>(static_cast<const T*>(tensor->data)[t]);
  };
  double loss = 0, scored = 0;
  for (int64_t t = 0; t < args.logp->shape[0]; ++t) {
    const bool counts = static_cast<const uint8_t*>(args.mask->data)[t] != 0;
    if (args.d_logp != nullptr) {
      static_cast<T*>(args.d_logp->data)[t] = 0;
      static_cast<T*>(args.d_entropy->data)[t] = 0;
    }
    if (!counts) continue;
    const double a = at(args.advantage, t) / args.n_tokens_global;
    const double b = -0.1 / args.n_sequences_global;
    const double logp = at(args.logp, t), entropy = at(args.entropy, t);
    loss += a * logp * logp + b * entropy * logp;
    scored += 1;
    if (args.d_logp == nullptr) continue;
    static_cast<T*>(args.d_logp->data)[t] = static_cast<T>(2 * a * logp + b * entropy);
    static_cast<T*>(args.d_entropy->data)[t] = static_cast<T>(b * logp);
  }
  *static_cast<double*>(args.loss->data) = loss;
  auto* aux = static_cast<double*>(args.aux->data);
  aux[0] = scored;
  aux[1] = 1;
}

const retort_sequence_loss_v1* PolicyTable() {
  static const std::array<const char*, 1> kAux = {"scored"};
  static const retort_loss_spec kSpec = {
      .struct_size = sizeof(retort_loss_spec),
      .flags = RETORT_LOSS_F64,
      .needs = RETORT_SEQUENCE_ADVANTAGE | RETORT_SEQUENCE_ENTROPY,
      .optional = 0,
      .grain = RETORT_GRAIN_SEQUENCE,
      .n_aux = 1,
      .aux_names = kAux.data(),
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
          Policy<double>(*args);
        } else {
          Policy<float>(*args);
        }
        return RETORT_OK;
      }};
  return &kTable;
}

SequenceLoss PolicyLoss(double weight = 1) {
  return {.name = "policy", .table = PolicyTable(), .instance = nullptr, .weight = weight};
}

// Advantages of whole documents, by the document's number.
MicroBatch Rollouts(const std::vector<int32_t>& lengths, int64_t vocab, size_t first = 0) {
  MicroBatch batch = Documents(lengths, vocab, first);
  for (size_t d = 0; d < lengths.size(); ++d) {
    const float advantage = 0.5F - static_cast<float>((first + d) % 3);
    batch.sequence.advantage.insert(batch.sequence.advantage.end(), static_cast<size_t>(lengths[d]),
                                    advantage);
  }
  return batch;
}

void CheckGradients(const TinySpec& spec, const TrainerOptions& options) {
  TinyModel<double> model(spec);
  CheckGradientsOf(model, options, {Rollouts({5, 3}, spec.vocab), Rollouts({4}, spec.vocab, 2)});
}

TEST(SequenceLosses, GradientsMatchCentralDifferences) {
  CheckGradients({.layers = 1}, Losses({PolicyLoss()}));
}
TEST(SequenceLosses, GradientsMatchInChunksOfTwoRows) {
  CheckGradients({.layers = 1}, Losses({PolicyLoss(0.7)}, {}, 2));
}
TEST(SequenceLosses, GradientsMatchWithScaleAndSoftCap) {
  CheckGradients({.layers = 1, .tied = false, .logit_scale = 0.7, .soft_cap = 2},
                 Losses({PolicyLoss()}, {}, 3));
}
TEST(SequenceLosses, GradientsMatchBesideATokenLoss) {
  CheckGradients({.layers = 1}, Losses({PolicyLoss()}, {CrossEntropy("ce", 0.3)}, 2));
}

// A step of completions and of supervised examples, each with its own loss: cold_start.
TEST(SequenceLosses, GradientsMatchWhereMicroBatchesAreForOneKindOfLossEach) {
  const TinySpec spec = {.layers = 1};
  TinyModel<double> model(spec);
  std::vector<MicroBatch> window = {Rollouts({5, 3}, spec.vocab), Rollouts({4}, spec.vocab, 2),
                                    Documents({6, 2}, spec.vocab, 7)};
  window[0].losses = window[1].losses = kSequenceLosses;
  window[2].losses = kTokenLosses;
  CheckGradientsOf(model, Losses({PolicyLoss(0.7)}, {CrossEntropy("ce", 0.25)}, 2), window);
}

TEST(SequenceLosses, PackingAccumulationAndChunksChangeNothing) {
  const TinySpec spec;
  TinyModel<double> model(spec);
  Chain<double> packed(model, Losses({PolicyLoss()}));
  const double loss = packed.Run({Rollouts({7, 4, 9}, spec.vocab)}, true);
  const std::vector<MicroBatch> apart = {Rollouts({9}, spec.vocab, 2), Rollouts({7}, spec.vocab),
                                         Rollouts({4}, spec.vocab, 1)};
  for (const int64_t rows : {0, 1, 3, 64}) {
    Chain<double> other(model, Losses({PolicyLoss()}, {}, rows));
    EXPECT_NEAR(other.Run(apart, true), loss, 1e-12);
    ExpectNearAll(other.Derivatives(), packed.Derivatives(), 1e-12);
  }
}

// Three texts with one beginning, whose rows have no labels.
constexpr int32_t kShared = 4;
MicroBatch OneBeginning(int64_t vocab) {
  MicroBatch batch = Rollouts({9, 6, 11}, vocab);
  for (size_t s = 0; s < 3; ++s) {
    for (int32_t t = 0; t < kShared; ++t) {
      const auto row = static_cast<size_t>(batch.cu_seqlens[s] + t);
      batch.ids[row] = batch.ids[static_cast<size_t>(t)];
      batch.labels[row] = -100;
    }
  }
  return batch;
}

// The same with the beginning's rows in the first one alone.
MicroBatch SharedBeginning(const MicroBatch& whole) {
  MicroBatch batch;
  batch.cu_seqlens = {0};
  for (size_t s = 0; s < 3; ++s) {
    for (int32_t r = whole.cu_seqlens[s] + (s > 0 ? kShared : 0); r < whole.cu_seqlens[s + 1];
         ++r) {
      const auto row = static_cast<size_t>(r);
      batch.ids.push_back(whole.ids[row]);
      batch.positions.push_back(whole.positions[row]);
      batch.labels.push_back(whole.labels[row]);
      batch.weight.push_back(whole.weight[row]);
      batch.sequence.advantage.push_back(whole.sequence.advantage[row]);
    }
    batch.cu_seqlens.push_back(static_cast<int32_t>(batch.ids.size()));
    batch.prefixes.push_back(s > 0 ? Prefix{.sequence = 0, .rows = kShared} : Prefix{});
  }
  return batch;
}

TEST(SequenceLosses, RowsThatTextsShareChangeNothing) {
  for (const TinySpec& spec : {TinySpec{}, TinySpec{.layers = 1, .row_ops = true}}) {
    const MicroBatch whole = OneBeginning(spec.vocab);
    TinyModel<double> model(spec);
    Chain<double> apart(model, Losses({PolicyLoss()})), shared(model, Losses({PolicyLoss()}));
    const double loss = apart.Run({whole}, true);
    EXPECT_NEAR(shared.Run({SharedBeginning(whole)}, true), loss, 1e-12);
    ExpectNearAll(shared.Derivatives(), apart.Derivatives(), 1e-12);
  }
}

TEST(SequenceLosses, SinglePrecisionIsNearDouble) {
  const TinySpec spec;
  TinyModel<double> model(spec);
  TinyModel<float> narrow(spec);
  Chain<double> exact(model, Losses({PolicyLoss()}));
  Chain<float> rounded(narrow, Losses({PolicyLoss()}));
  const std::vector<MicroBatch> window = {Rollouts({30, 9}, spec.vocab)};
  const double loss = exact.Run(window, true);
  EXPECT_NEAR(rounded.Run(window, true), loss, 1e-5 * std::abs(loss));
  const std::vector<double> want = exact.Derivatives();
  const std::vector<float> got = rounded.Derivatives();
  double worst = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    worst = std::max(worst, std::abs(want[i] - static_cast<double>(got[i])));
    norm = std::max(norm, std::abs(want[i]));
  }
  EXPECT_LT(worst, 1e-5 * norm);
}

// A micro-batch can be for one kind of loss alone, and each normalises by what it scores.
TEST(SequenceLosses, AMicroBatchCanBeForOneKindOfLoss) {
  const TinySpec spec;
  TinyModel<double> model(spec);
  MicroBatch policy = Rollouts({7, 4}, spec.vocab), text = Documents({9}, spec.vocab, 5);
  policy.losses = kSequenceLosses;
  text.losses = kTokenLosses;
  Chain<double> both(model, Losses({PolicyLoss()}, {CrossEntropy()}));
  Chain<double> one(model, Losses({PolicyLoss()})), other(model, Losses({}, {CrossEntropy()}));
  const double sum = one.Run({policy}, true) + other.Run({text}, true);
  EXPECT_NEAR(both.Run({policy, text}, true), sum, 1e-12);
  std::vector<double> expected = one.Derivatives();
  const std::vector<double> rest = other.Derivatives();
  for (size_t i = 0; i < expected.size(); ++i) expected[i] += rest[i];
  ExpectNearAll(both.Derivatives(), expected, 1e-12);
  EXPECT_EQ(both.Metrics()[0].name, "ce");
  EXPECT_EQ(both.Metrics()[2].name, "policy");
  EXPECT_EQ(both.Metrics()[3].name, "policy/scored");
  EXPECT_EQ(both.Metrics()[3].value, 7);
}

TEST(SequenceLosses, AMissingOrShortInputIsNamed) {
  const TinySpec spec;
  TinyModel<double> model(spec);
  Chain<double> chain(model, Losses({PolicyLoss()}));
  chain.Run({Documents({5}, spec.vocab)}, false);
  EXPECT_EQ(chain.status().code(), Code::kFailedPrecondition);
  EXPECT_NE(chain.status().message().find("loss \"policy\""), std::string::npos);
  EXPECT_NE(chain.status().message().find("needs advantage"), std::string::npos);
  MicroBatch batch = Rollouts({5}, spec.vocab);
  batch.sequence.advantage.pop_back();
  chain.Run({batch}, false);
  EXPECT_EQ(chain.status().code(), Code::kInvalidArgument);
  EXPECT_NE(chain.status().message().find("advantage has 4 entries, must have 5"),
            std::string::npos);
}

TEST(LossChain, RefusesNoLossAndOneNameTwice) {
  const TinySpec spec;
  TinyModel<double> model(spec);
  const auto made = [&](const TrainerOptions& options) {
    return LossChain::Make(model.graph, model.views, options, kThreads).status();
  };
  EXPECT_EQ(made({}).code(), Code::kInvalidArgument);
  EXPECT_EQ(made(Losses({PolicyLoss()}, {CrossEntropy("policy")})).code(), Code::kInvalidArgument);
  TrainerOptions cold = Losses({PolicyLoss()});
  cold.temperature = 0;
  EXPECT_EQ(made(cold).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace retort::engine::test
