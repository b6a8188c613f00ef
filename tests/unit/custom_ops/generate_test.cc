// Decoding the example model: token by token as the whole forward pass, whatever shares the batch.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/generate/generator.h"
#include "core/generate/kv_cache.h"
#include "tests/unit/custom_ops/hybrid_model.h"
#include "tests/unit/engine/tiny_model.h"

namespace retort::host {
namespace {

using engine::Completion;
using engine::GenerateRequest;

// Logits of ids[begin .. begin + n) on top of what the slot holds.
std::vector<float> Feed(HybridModel<float>& model, engine::Inference& inference,
                        generate::KvCache& cache, std::span<const int32_t> ids, int64_t begin,
                        int64_t n) {
  std::vector<int32_t> positions;
  for (int64_t t = begin; t < begin + n; ++t) positions.push_back(static_cast<int32_t>(t));
  const std::vector<int32_t> cu = {0, static_cast<int32_t>(n)};
  const int32_t blocks[] = {0};
  const generate::KvCache::Rows rows[] = {{.blocks = blocks, .slot = 0, .past = begin, .rows = n}};
  cache.SetRows(rows);
  const TensorView hidden =
      inference.Forward({.ids = ids.subspan(static_cast<size_t>(begin), static_cast<size_t>(n)),
                         .positions = positions,
                         .cu_seqlens = cu},
                        &cache);
  std::vector<float> logits(static_cast<size_t>(n * model.graph().vocab()));
  inference.Logits(hidden,
                   TensorView::Contiguous(logits.data(), DType::kF32, {n, model.graph().vocab()}));
  return logits;
}

TEST(HybridDecode, LogitsTokenByTokenEqualTheForwardPass) {
  HybridModel<float> model;
  const engine::MicroBatch all = engine::test::Documents({40}, model.graph().vocab());
  const std::vector<float> want = model.Logits(engine::test::RowsOf(all));
  engine::Inference inference(model.graph(), model.views(), kThreads);
  auto cache =
      generate::KvCache::Create(model.graph(), {.blocks = 1, .slots = 1, .n_threads = kThreads})
          .value();
  for (const int64_t prefill : {1, 2, 17}) {
    cache->BeginPrompt(0);
    std::vector<float> got = Feed(model, inference, *cache, all.ids, 0, prefill);
    for (int64_t t = prefill; t < 40; ++t) {
      const auto row = Feed(model, inference, *cache, all.ids, t, 1);
      got.insert(got.end(), row.begin(), row.end());
    }
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_NEAR(got[i], want[i], 2e-5 * std::max(1.0F, std::abs(want[i]))) << i;
    }
  }
}

GenerateRequest Request(uint64_t uid, int64_t prompt, int32_t max_tokens, double temperature,
                        int32_t n_samples = 1) {
  GenerateRequest request;
  request.uid = uid;
  for (int64_t i = 0; i < prompt; ++i) {
    request.ids.push_back(static_cast<int32_t>((7 * i + 13 * static_cast<int64_t>(uid)) % 48));
  }
  request.n_samples = n_samples;
  request.sampling.max_tokens = max_tokens;
  request.sampling.temperature = temperature;
  return request;
}

class HybridGenerate : public testing::Test {
 protected:
  // In order of (uid, index).
  std::vector<Completion> Run(std::span<const GenerateRequest> requests, int32_t slots) {
    std::vector<Completion> done;
    engine::GenerateOptions options;
    options.max_batch = slots;
    options.on_done = [&](const Completion& c) { done.push_back(c); };
    const auto stats = generate::Generate(inference_, model_.graph(), requests, options, kThreads);
    EXPECT_TRUE(stats.ok()) << stats.status().ToString();
    std::sort(done.begin(), done.end(), [](const Completion& a, const Completion& b) {
      return std::pair(a.uid, a.index) < std::pair(b.uid, b.index);
    });
    return done;
  }

  HybridModel<float> model_;
  engine::Inference inference_{model_.graph(), model_.views(), kThreads};
};

TEST_F(HybridGenerate, GreedyTokensAreTheArgmaxOfTheForwardPass) {
  const GenerateRequest request = Request(3, 9, 30, 0);
  const std::vector<Completion> done = Run({&request, 1}, 1);
  ASSERT_EQ(done.size(), 1U);
  std::vector<int32_t> ids = request.ids, positions;
  ids.insert(ids.end(), done[0].ids.begin(), done[0].ids.end());
  for (size_t i = 0; i < ids.size(); ++i) positions.push_back(static_cast<int32_t>(i));
  const std::vector<int32_t> cu = {0, static_cast<int32_t>(ids.size())};
  const auto logits = model_.Logits({.ids = ids, .positions = positions, .cu_seqlens = cu});
  for (size_t t = 0; t < done[0].ids.size(); ++t) {
    const float* row = logits.data() + (request.ids.size() + t - 1) * 48;
    EXPECT_EQ(std::max_element(row, row + 48) - row, done[0].ids[t]) << t;
  }
}

// Slots are reused, prompts of many lengths come and go, samples of one prompt share its prefill.
TEST_F(HybridGenerate, TheNumberOfSlotsChangesNoToken) {
  std::vector<GenerateRequest> requests;
  for (int32_t i = 0; i < 7; ++i) {
    requests.push_back(Request(static_cast<uint64_t>(i), 1 + 5 * i, 6 + 3 * (i % 4),
                               i % 2 == 0 ? 0 : 1, i % 3 == 1 ? 3 : 1));
  }
  const std::vector<Completion> one = Run(requests, 1), three = Run(requests, 3),
                                many = Run(requests, 16);
  ASSERT_EQ(one.size(), 11U);
  ASSERT_EQ(three.size(), one.size());
  ASSERT_EQ(many.size(), one.size());
  for (size_t i = 0; i < one.size(); ++i) {
    EXPECT_EQ(three[i].ids, one[i].ids) << i;
    EXPECT_EQ(many[i].ids, one[i].ids) << i;
    EXPECT_EQ(three[i].logp, one[i].logp) << i;  // to the bit
  }
}

TEST_F(HybridGenerate, GreedySamplesOfOnePromptAreAlike) {
  const GenerateRequest request = Request(5, 11, 12, 0, 4);
  for (const int32_t slots : {1, 2, 4}) {
    const std::vector<Completion> done = Run({&request, 1}, slots);
    ASSERT_EQ(done.size(), 4U);
    for (const Completion& c : done) EXPECT_EQ(c.ids, done[0].ids) << slots;
  }
}

// Sees each call of an op's decode (or forward, which stands for it), and stops the run in one.
class CancelSpy final : public graph::OpHandle {
 public:
  explicit CancelSpy(std::unique_ptr<graph::OpHandle> inner)
      : inner_(std::move(inner)), table_(inner_->table()) {
    original = table_.decode != nullptr ? table_.decode : table_.forward;
    table_.decode = &Decode;
  }
  const retort_op_v1& table() const override { return table_; }
  retort_instance* instance() const override { return inner_->instance(); }

  static inline retort_status (*original)(retort_instance*, const retort_call*,
                                          const retort_op_args*) = nullptr;
  static inline engine::Cancel cancel{0};
  static inline int calls = 0, stop_at = 0;

 private:
  static retort_status Decode(retort_instance* instance, const retort_call* call,
                              const retort_op_args* args) {
    EXPECT_EQ(call->cancel, reinterpret_cast<const int32_t*>(&cancel));
    if (++calls == stop_at) cancel = 1;
    return *call->cancel != 0 ? RETORT_CANCELLED : original(instance, call, args);
  }

  std::unique_ptr<graph::OpHandle> inner_;
  retort_op_v1 table_;
};

TEST(HybridCancel, OpsSeeTheFlagAndAPassThatTheyGiveUpEndsTheRunAsCancelled) {
  HybridModel<float> model;
  const auto source =
      model::Source::Open(std::string(RETORT_SOURCE_DIR) + "/tests/fixtures/hybrid").value();
  graph::Graph graph = model.session().BuildGraph(*source).value();
  const auto stateful = [](const graph::CustomOp& op) { return !op.rowwise(); };
  const auto op = std::find_if(graph.customs.begin(), graph.customs.end(), stateful);
  ASSERT_NE(op, graph.customs.end());
  op->handle = std::make_unique<CancelSpy>(std::move(op->handle));
  engine::Inference inference(graph, model.views(), kThreads);
  const std::vector<GenerateRequest> requests = {Request(1, 9, 30, 0), Request(2, 9, 30, 0, 2)};
  for (const int stop_at : {1, 2, 9}) {  // in a prefill, and while decoding
    CancelSpy::cancel = 0;
    CancelSpy::calls = 0;
    CancelSpy::stop_at = stop_at;
    std::vector<Completion> done;
    engine::GenerateOptions options;
    options.max_batch = 2;
    options.cancel = &CancelSpy::cancel;
    options.on_done = [&](const Completion& c) { done.push_back(c); };
    const auto stats = generate::Generate(inference, graph, requests, options, kThreads);
    EXPECT_TRUE(stats.ok()) << stats.status().ToString();
    EXPECT_EQ(CancelSpy::calls, stop_at);
    ASSERT_EQ(done.size(), 3U);
    for (const Completion& c : done) EXPECT_EQ(c.finish, engine::Finish::kCancelled);
  }
}

}  // namespace
}  // namespace retort::host
