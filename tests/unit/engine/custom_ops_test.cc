// Custom nodes in a pass: the same numbers in any packing and mode, decoding with state, memory by
// the plan, and failures that name node and op. Gradients are checked in gradient_test.cc.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <cstring>

#include "tests/unit/engine/count_allocations.h"
#include "tests/unit/engine/whole_graph.h"

namespace retort::engine::test {
namespace {

using testing::HasSubstr;

constexpr int kThreads = 1;
const TinySpec kSpec{.custom_ops = true};

TEST(CustomOps, PackedDocumentsAreAsIfAlone) { ExpectPackedAsIfAlone(kSpec); }

TEST(CustomOps, InferenceEqualsTheTrainingForward) { ExpectInferenceEqualsTraining(kSpec); }

TEST(CustomOps, PlannedBuffersThatLiveTogetherDoNotOverlap) {
  const graph::Graph graph = TinyFamily(kSpec).Build();
  for (const Mode mode : {Mode::kInference, Mode::kTraining}) {
    const Plan plan = MakePlan(graph, mode);
    EXPECT_EQ(plan.fixed_elements > 0, mode == Mode::kTraining);  // mix saves its weight
    for (size_t a = 0; a < plan.buffers.size(); ++a) {
      const Buffer& x = plan.buffers[a];
      EXPECT_LE(x.offset + x.width, x.fixed ? plan.fixed_elements : plan.row_elements);
      for (size_t b = a + 1; b < plan.buffers.size(); ++b) {
        const Buffer& y = plan.buffers[b];
        if (x.fixed != y.fixed || x.first > y.last || y.first > x.last) continue;
        EXPECT_TRUE(x.offset + x.width <= y.offset || y.offset + y.width <= x.offset)
            << a << " and " << b;
      }
    }
  }
}

// What backward doesn't declare as read is dead before it runs.
TEST(CustomOps, BuffersThatBackwardDoesNotReadDieEarly) {
  const auto last_use = [](const graph::Graph& graph, const char* id) {
    const Plan plan = MakePlan(graph, Mode::kTraining);
    for (size_t i = 0; i < graph.nodes.size(); ++i) {
      const graph::Node& node = graph.nodes[i];
      if (node.custom < 0 || graph.customs[static_cast<size_t>(node.custom)].id != id) continue;
      return plan.buffers[static_cast<size_t>(plan.nodes[i].in[0].value)].last;
    }
    return -1;
  };
  const graph::Graph graph = TinyFamily({.layers = 1, .custom_ops = true}).Build();
  const auto n = static_cast<int32_t>(graph.nodes.size());
  EXPECT_LT(last_use(graph, "tanh"), n);  // its backward reads the output instead
  EXPECT_GT(last_use(graph, "mix"), n);   // backward_in has it
}

TEST(CustomOps, AFrozenWeightGetsNoGradient) {
  TinyModel<double> model({.custom_ops = true, .frozen_mix = RETORT_PARAM_FROZEN});
  Pass pass(model.graph, model.views, Mode::kTraining, kThreads);
  Gradients grads(model.graph, DType::kF64);
  const MicroBatch batch = Documents({5, 3}, kSpec.vocab);  // alive until Backward
  pass.Forward(RowsOf(batch), nullptr);
  const TensorView d = pass.HiddenGradient();
  std::fill_n(d.as<double>(), d.numel(), 1e-3);
  grads.Begin();
  pass.Backward(grads);  // with d_in NULL for it
  grads.Finish();
  for (size_t p = 0; p < model.graph.params.size(); ++p) {
    EXPECT_EQ(grads.Wanted(static_cast<int32_t>(p)), model.graph.params[p].name != "mix");
  }
}

// Keeps the decay ops' state, one sequence, and the values of attention as they are (each row its
// own v): enough to decode with.
class StateStore final : public AttentionStore {
 public:
  explicit StateStore(const graph::Graph& graph) : memory_(graph.customs.size()) {}
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
  }
  OpStates StatesOf(const graph::Node& node) override {
    std::vector<float>& memory = memory_[static_cast<size_t>(node.custom)];
    memory.resize(3 * 64);
    data_ = reinterpret_cast<unsigned char*>(memory.data());
    return {.data = {&data_, 1}, .slots = 3, .slot = slot_};
  }

 private:
  std::vector<std::vector<float>> memory_;
  unsigned char* data_ = nullptr;
  std::vector<int32_t> slot_ = {2};
};

TEST(CustomOps, DecodingByChunksEqualsOnePassOverTheWhole) {
  TinyModel<float> model(kSpec);
  Inference inference(model.graph, model.views, kThreads);
  const MicroBatch all = Documents({11}, kSpec.vocab);
  StateStore whole(model.graph), chunked(model.graph);
  const auto want = Values<float>(inference.Forward(RowsOf(all), &whole));
  std::vector<float> got;
  size_t begin = 0;
  for (const size_t n : {1U, 4U, 1U, 5U}) {
    const std::vector<int32_t> cu = {0, static_cast<int32_t>(n)};
    const RowBatch batch = {.ids = std::span(all.ids).subspan(begin, n),
                            .positions = std::span(all.positions).subspan(begin, n),
                            .cu_seqlens = cu};
    const auto part = Values<float>(inference.Forward(batch, &chunked));
    got.insert(got.end(), part.begin(), part.end());
    begin += n;
  }
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-5) << i;
}

TEST(CustomOps, ASteadyPassAllocatesNothing) {
  TinyModel<float> model(kSpec);
  Inference inference(model.graph, model.views, kThreads);
  const MicroBatch batch = Documents({7}, kSpec.vocab);
  StateStore store(model.graph);
  inference.Forward(RowsOf(batch), &store);
  StartCounting();
  for (int i = 0; i < 3; ++i) inference.Forward(RowsOf(batch), &store);
  EXPECT_EQ(StopCounting(), 0);
}

// A graph of one custom node of `op` between embedding and head.
graph::Graph OneOp(const char* op, std::string_view attributes = {}) {
  graph::Builder builder("one", MakeTestOp);
  const retort_builder_v1* t = builder.table();
  const auto param = [&](const char* name) { return AddParam(t, name, {7, 4}); };
  const retort_value x = t->embed(t->ctx, param("embed"), 1);
  t->block(t->ctx, 0);
  const retort_value y = t->custom(t->ctx, op, &x, 1, 1, ToStr(attributes));
  t->result(t->ctx, y, param("head"), 1, 0);
  auto graph = builder.Finish();
  EXPECT_TRUE(graph.ok()) << graph.status().ToString();
  return std::move(graph).value();
}

template <class Fn>
Status Thrown(Fn&& fn) {
  try {
    fn();
  } catch (const Error& e) {
    return e.status();
  }
  return OkStatus();
}

class OneOpRun {
 public:
  explicit OneOpRun(graph::Graph graph) : graph_(std::move(graph)) {
    for (const graph::Param& p : graph_.params) {
      views_.push_back(TensorView::Contiguous(weights_.data(), DType::kF32, p.shape));
    }
  }
  Status Run(Mode mode, int64_t step, AttentionStore* store) {
    return Thrown([&] {
      Pass pass(graph_, views_, mode, kThreads);
      RowBatch rows = RowsOf(batch_);
      rows.call.step = step;
      pass.Forward(rows, store);
    });
  }
  const graph::Graph& graph() const { return graph_; }

 private:
  graph::Graph graph_;
  std::vector<float> weights_ = std::vector<float>(28, 0.1F);
  std::vector<TensorView> views_;
  MicroBatch batch_ = Documents({3}, 7);
};

TEST(CustomOps, AFailureOfThePluginNamesNodeOpAndText) {
  OneOpRun run(OneOp("tanh", R"({"fail_at":4})"));
  EXPECT_TRUE(run.Run(Mode::kInference, 3, nullptr).ok());
  const Status failed = run.Run(Mode::kInference, 4, nullptr);
  EXPECT_EQ(failed.code(), Code::kDataLoss);
  EXPECT_THAT(failed.message(), HasSubstr("node 1 (custom tanh, block 0): forward: it broke"));
}

TEST(CustomOps, WithoutBackwardAModelRunsButDoesNotTrain) {
  OneOpRun run(OneOp("one_way"));
  EXPECT_TRUE(run.Run(Mode::kInference, 0, nullptr).ok());
  const Status failed = run.Run(Mode::kTraining, 0, nullptr);
  EXPECT_EQ(failed.code(), Code::kUnimplemented);
  EXPECT_THAT(failed.message(), HasSubstr("node 1 (custom one_way, block 0): the op has no back"));
}

TEST(CustomOps, WithoutDecodeAModelTrainsButDoesNotGenerate) {
  OneOpRun run(OneOp("stuck"));
  EXPECT_TRUE(run.Run(Mode::kTraining, 0, nullptr).ok());
  StateStore store(run.graph());
  const Status failed = run.Run(Mode::kInference, 0, &store);
  EXPECT_EQ(failed.code(), Code::kUnimplemented);
  EXPECT_THAT(failed.message(),
              HasSubstr("node 1 (custom stuck, block 0): the op is not ROWWISE and has neither"));
}

}  // namespace
}  // namespace retort::engine::test
