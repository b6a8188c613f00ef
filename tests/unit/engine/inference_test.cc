// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/engine/head.h"
#include "core/engine/pass.h"
#include "core/engine/score.h"
#include "core/graph/shared_rows.h"
#include "tests/unit/engine/count_allocations.h"
#include "tests/unit/engine/tiny_model.h"

namespace retort::engine::test {
namespace {

constexpr int kThreads = 2;

std::vector<float> Values(const TensorView& view) {
  return {view.as<float>(), view.as<float>() + view.numel()};
}

TEST(Inference, EqualsTheTrainingForward) {
  const TinySpec spec;
  TinyModel<float> model(spec);
  Inference inference(model.graph, model.views, kThreads);
  Pass training(model.graph, model.views, Mode::kTraining, kThreads);
  for (const auto& lengths : std::vector<std::vector<int32_t>>{{3, 4}, {30, 5, 17}, {1}}) {
    const MicroBatch batch = Documents(lengths, spec.vocab);
    const std::vector<float> want = Values(training.Forward(RowsOf(batch), nullptr));
    EXPECT_EQ(Values(inference.Forward(RowsOf(batch), nullptr)), want);
  }
}

// Keeps nothing: each row attends to itself alone, so its output is its own v,
// head by head.
class SelfOnly final : public AttentionStore {
 public:
  void Attend(const graph::Node& node, const TensorView&, const TensorView&, const TensorView& v,
              const TensorView& out) override {
    const graph::AttentionSpec& s = node.attention;
    for (int64_t t = 0; t < out.rows(); ++t) {
      for (int64_t c = 0; c < out.cols(); ++c) {
        const int64_t group = c / s.head_dim / (s.n_heads / s.n_kv_heads);
        out.as<float>()[t * out.cols() + c] =
            v.as<float>()[t * v.cols() + group * s.head_dim + c % s.head_dim];
      }
    }
    layers.push_back(node.layer);
  }
  std::vector<int32_t> layers;
};

TEST(Inference, CallsTheStoreOncePerLayerInOrder) {
  const TinySpec spec;
  TinyModel<float> model(spec);
  Inference inference(model.graph, model.views, kThreads);
  const MicroBatch batch = Documents({1, 1, 1}, spec.vocab);
  const std::vector<float> want = Values(inference.Forward(RowsOf(batch), nullptr));
  SelfOnly store;
  const std::vector<float> got = Values(inference.Forward(RowsOf(batch), &store));
  EXPECT_EQ(store.layers, (std::vector<int32_t>{0, 1}));
  for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-5);
}

TEST(Inference, HiddenRowsThatNobodyReadsChangeNoOther) {
  for (const bool row_ops : {false, true}) {
    const TinySpec spec{.row_ops = row_ops};
    TinyModel<float> model(spec);
    Inference inference(model.graph, model.views, kThreads);
    const MicroBatch batch = Documents({12}, spec.vocab);
    RowBatch rows = RowsOf(batch);
    const std::vector<float> all = Values(inference.Forward(rows, nullptr));
    for (const int64_t wanted : {0, 1, 5, 12}) {
      rows.hidden_rows = wanted;
      const TensorView hidden = inference.Forward(rows, nullptr);
      EXPECT_EQ(hidden.rows(), wanted);
      const std::vector<float> last(all.end() - wanted * hidden.cols(), all.end());
      EXPECT_EQ(Values(hidden), last) << wanted;
    }
    rows.hidden_rows = 13;
    EXPECT_THROW(inference.Forward(rows, nullptr), Error);
  }
}

TEST(Inference, ADecodePassAllocatesNothing) {
  const TinySpec spec;
  TinyModel<float> model(spec);
  Inference inference(model.graph, model.views, 1);
  const MicroBatch batch = Documents({1, 1, 1, 1}, spec.vocab);
  SelfOnly store;
  store.layers.reserve(64);
  std::vector<float> logits(4 * static_cast<size_t>(spec.vocab));
  const TensorView out = TensorView::Contiguous(logits.data(), DType::kF32, {4, spec.vocab});
  const auto decode = [&] { inference.Logits(inference.Forward(RowsOf(batch), &store), out); };
  decode();
  StartCounting();
  for (int i = 0; i < 5; ++i) decode();
  EXPECT_EQ(StopCounting(), 0);
}

TEST(Pass, SteadyStateTrainingDoesNotGrowTheArena) {
  const TinySpec spec;
  TinyModel<float> model(spec);
  Pass pass(model.graph, model.views, Mode::kTraining, kThreads);
  Gradients grads(model.graph, DType::kF32);
  const MicroBatch longest = Documents({40, 30}, spec.vocab), shorter = Documents({9}, spec.vocab);
  const auto step = [&](const MicroBatch& batch) {
    pass.Forward(RowsOf(batch), nullptr);
    const TensorView d = pass.HiddenGradient();
    std::fill_n(d.as<float>(), d.numel(), 1e-3F);
    pass.Backward(grads);
  };
  step(longest);
  const int64_t growths = pass.arena_growths();
  for (int i = 0; i < 3; ++i) step(shorter), step(longest);
  EXPECT_EQ(pass.arena_growths(), growths);
}

void ExpectRefused(const MicroBatch& batch, const std::string& rule) {
  const TinySpec spec;
  TinyModel<float> model(spec);
  Inference inference(model.graph, model.views, kThreads);
  try {
    inference.Forward(RowsOf(batch), nullptr);
    FAIL() << "accepted; expected: " << rule;
  } catch (const Error& e) {
    EXPECT_EQ(e.status().code(), Code::kInvalidArgument);
    EXPECT_NE(e.status().message().find(rule), std::string::npos) << e.what();
  }
}

TEST(Inference, ATokenOutsideTheVocabularyIsRefused) {
  MicroBatch batch = Documents({3}, 29);
  batch.ids[1] = 29;
  ExpectRefused(batch, "token id 29 is outside the model's vocabulary of 29");
}
TEST(Inference, BatchesThatContradictThemselvesAreRefused) {
  MicroBatch batch = Documents({3}, 29);
  batch.cu_seqlens = {0, 2};
  ExpectRefused(batch, "cu_seqlens must rise from 0 to the number of tokens, 3");
  batch = Documents({3, 3}, 29);
  batch.cu_seqlens = {0, 7, 6};
  ExpectRefused(batch, "cu_seqlens");
  batch = Documents({3}, 29);
  batch.positions[0] = -1;
  ExpectRefused(batch, "position -1 is negative");
  ExpectRefused(MicroBatch{}, "it has no tokens");
}
TEST(Inference, PrefixesThatCannotBeAreRefused) {
  MicroBatch batch = Documents({3, 3, 3}, 29);
  batch.prefixes = {{}, {0, 2}};
  ExpectRefused(batch, "3 sequences, but 2 prefixes");
  for (const Prefix wrong : {Prefix{0, 4}, Prefix{2, 1}, Prefix{1, 1}, Prefix{-1, 1}}) {
    batch.prefixes = {{}, {0, 2}, wrong};
    ExpectRefused(batch, "an earlier one with so many rows of its own, and nothing before them");
  }
}
TEST(Inference, RowsCannotBeSharedWhereMoreThanAttentionLooksAlongATextOrCountsRows) {
  for (const TinySpec& spec : {TinySpec{.custom_ops = true}, TinySpec{.experts = true}}) {
    TinyModel<float> model(spec);
    EXPECT_FALSE(graph::TextsMayShareRows(model.graph));
    Inference inference(model.graph, model.views, kThreads);
    MicroBatch batch = Documents({3, 3}, spec.vocab);
    batch.prefixes = {{}, {0, 2}};
    EXPECT_THROW(inference.Forward(RowsOf(batch), nullptr), Error);
  }
  EXPECT_TRUE(graph::TextsMayShareRows(TinyModel<float>().graph));
}

// log softmax of the logits of every row, in f64.
std::vector<double> PlainLogp(TinyModel<float>& model, const std::vector<int32_t>& ids) {
  Inference inference(model.graph, model.views, kThreads);
  std::vector<int32_t> positions(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) positions[i] = static_cast<int32_t>(i);
  const std::vector<int32_t> cu = {0, static_cast<int32_t>(ids.size())};
  const TensorView hidden =
      inference.Forward({.ids = ids, .positions = positions, .cu_seqlens = cu}, nullptr);
  const auto vocab = static_cast<size_t>(model.graph.vocab());
  std::vector<float> logits(ids.size() * vocab);
  inference.Logits(hidden, TensorView::Contiguous(logits.data(), DType::kF32,
                                                  {hidden.rows(), model.graph.vocab()}));
  std::vector<double> logp;
  for (size_t t = 1; t < ids.size(); ++t) {
    double total = 0;
    for (size_t v = 0; v < vocab; ++v) {
      total += std::exp(static_cast<double>(logits[(t - 1) * vocab + v]));
    }
    const auto label = static_cast<size_t>(ids[t]);
    logp.push_back(static_cast<double>(logits[(t - 1) * vocab + label]) - std::log(total));
  }
  return logp;
}

TEST(Score, EqualsLogSoftmaxHoweverTextsArePacked) {
  const TinySpec spec;
  TinyModel<float> model(spec);
  std::vector<std::vector<int32_t>> texts;
  for (size_t d = 0; d < 5; ++d) {
    texts.push_back(Documents({static_cast<int32_t>(3 + 11 * d)}, spec.vocab, d).ids);
  }
  std::vector<ScoreRequest> requests;
  for (size_t d = 0; d < texts.size(); ++d) {
    requests.push_back({.ids = texts[d], .first = d == 2 ? 4 : 1});
  }
  requests.push_back({.ids = texts[0], .first = 3});  // nothing to score
  Inference inference(model.graph, model.views, kThreads);
  for (const int64_t max_tokens : {0, 1, 40}) {
    const auto got =
        Score(inference, model.graph, model.views, requests, max_tokens, nullptr, {}, kThreads);
    ASSERT_TRUE(got.ok()) << got.status().ToString();
    EXPECT_TRUE((*got)[5].logp.empty());
    for (size_t d = 0; d < texts.size(); ++d) {
      const std::vector<double> want = PlainLogp(model, texts[d]);
      const auto skip = static_cast<size_t>(requests[d].first - 1);
      ASSERT_EQ((*got)[d].logp.size(), want.size() - skip);
      for (size_t i = 0; i < (*got)[d].logp.size(); ++i) {
        ASSERT_NEAR((*got)[d].logp[i], want[i + skip], 2e-5) << d << " " << i;
      }
    }
  }
}

// Two groups of texts with one prompt each, and one that only seems to belong to them.
TEST(Score, TextsOfAPromptMayHaveItsRowsOnce) {
  const TinySpec spec;
  TinyModel<float> model(spec);
  const std::vector<int32_t> prompts[] = {Documents({17}, spec.vocab, 1).ids,
                                          Documents({9}, spec.vocab, 2).ids};
  std::vector<std::vector<int32_t>> texts;
  std::vector<int64_t> first;
  for (size_t d = 0; d < 8; ++d) {
    texts.push_back(prompts[d / 4]);
    first.push_back(static_cast<int64_t>(texts.back().size()));
    if (d == 5) texts.back()[3] ^= 1;
    const std::vector<int32_t> more =
        Documents({static_cast<int32_t>(1 + 7 * (d % 4))}, spec.vocab, 10 + d).ids;
    texts.back().insert(texts.back().end(), more.begin(), more.end());
  }
  texts.push_back(prompts[1]);  // nothing to score
  first.push_back(static_cast<int64_t>(prompts[1].size()) + 3);
  std::vector<ScoreRequest> requests;
  for (size_t d = 0; d < texts.size(); ++d) {
    requests.push_back({.ids = texts[d], .first = first[d], .shares_prompt = true});
  }
  Inference inference(model.graph, model.views, kThreads);
  for (const int64_t max_tokens : {0, 1, 40, 90}) {
    const auto got =
        Score(inference, model.graph, model.views, requests, max_tokens, nullptr, {}, kThreads);
    ASSERT_TRUE(got.ok()) << got.status().ToString();
    EXPECT_TRUE(got->back().logp.empty());
    for (size_t d = 0; d < 8; ++d) {
      const std::vector<double> want = PlainLogp(model, texts[d]);
      const auto skip = static_cast<size_t>(first[d] - 1);
      ASSERT_EQ((*got)[d].logp.size(), want.size() - skip);
      for (size_t i = 0; i < (*got)[d].logp.size(); ++i) {
        ASSERT_NEAR((*got)[d].logp[i], want[i + skip], 2e-5) << d << " " << i;
      }
    }
  }
}

// Eight texts of 40 tokens with a prompt of 33: 40 + 7 x 8 rows, the last of the prompt each one's.
TEST(Score, RowsOfAPromptCountOnceInAPass) {
  const TinySpec spec;
  TinyModel<float> model(spec);
  std::vector<int32_t> text = Documents({40}, spec.vocab, 1).ids;
  std::vector<ScoreRequest> requests(8, {.ids = text, .first = 33});
  Inference inference(model.graph, model.views, kThreads);
  const auto passes = [&](int64_t max_tokens) {
    int n = 0;
    const auto count = [&](int64_t) { ++n; };
    EXPECT_TRUE(
        Score(inference, model.graph, model.views, requests, max_tokens, nullptr, count, kThreads)
            .ok());
    return n;
  };
  EXPECT_EQ(passes(96), 4);
  for (ScoreRequest& request : requests) request.shares_prompt = true;
  EXPECT_EQ(passes(96), 1);
  EXPECT_EQ(passes(95), 2);
}

TEST(Score, BadRequestsAndCancellationAreStatuses) {
  const TinySpec spec;
  TinyModel<float> model(spec);
  Inference inference(model.graph, model.views, kThreads);
  const std::vector<int32_t> ids = {1, 2, 3};
  const auto code = [&](const ScoreRequest& request, const Cancel* cancel) {
    return Score(inference, model.graph, model.views, {&request, 1}, 0, cancel, {}, kThreads)
        .status()
        .code();
  };
  EXPECT_EQ(code({.ids = ids, .first = 0}, nullptr), Code::kInvalidArgument);
  EXPECT_EQ(code({.ids = {}, .first = 1}, nullptr), Code::kInvalidArgument);
  const Cancel set{1};
  EXPECT_EQ(code({.ids = ids}, &set), Code::kCancelled);
}

TEST(HeadChunkRows, CutsEqualChunksFromShapesAlone) {
  EXPECT_EQ(HeadChunkRows(0, 49152, DType::kF32, 0), 0);
  EXPECT_EQ(HeadChunkRows(300, 49152, DType::kF32, 0), 300);
  EXPECT_EQ(HeadChunkRows(1030, 49152, DType::kF32, 0),
            384);  // 3 chunks of 344, rounded up
  EXPECT_EQ(HeadChunkRows(1000, 512, DType::kF32, 0),
            1000);  // small logits: one chunk
  EXPECT_EQ(HeadChunkRows(1000, 49152, DType::kF32, 7), 7);
}

}  // namespace
}  // namespace retort::engine::test
