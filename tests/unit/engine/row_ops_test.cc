// A whole graph with layer_norm, slice, concat, add and mul in every way: the same numbers in any
// packing and mode, memory by the plan. Its gradients are checked in gradient_test.cc.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "tests/unit/engine/count_allocations.h"
#include "tests/unit/engine/whole_graph.h"

namespace retort::engine::test {
namespace {

constexpr int kThreads = 1;
const TinySpec kSpec{.row_ops = true};

template <class T>
void ExpectNear(const std::vector<T>& got, const std::vector<T>& want, double tolerance) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], tolerance) << i;
}

TEST(RowOps, PackedDocumentsAreAsIfAlone) { ExpectPackedAsIfAlone(kSpec); }

TEST(RowOps, InferenceEqualsTheTrainingForward) { ExpectInferenceEqualsTraining(kSpec); }

// Keys and values of one sequence per layer, in f64; attention written out.
class PlainCache final : public AttentionStore {
 public:
  explicit PlainCache(const graph::Graph& graph)
      : keys_(static_cast<size_t>(graph.n_layers)), values_(keys_.size()) {}
  void Attend(const graph::Node& node, const TensorView& q, const TensorView& k,
              const TensorView& v, const TensorView& out) override {
    std::vector<double>& keys = keys_[static_cast<size_t>(node.layer)];
    std::vector<double>& values = values_[static_cast<size_t>(node.layer)];
    for (int64_t t = 0; t < q.rows(); ++t) {
      keys.insert(keys.end(), k.as<double>() + t * k.cols(), k.as<double>() + (t + 1) * k.cols());
      values.insert(values.end(), v.as<double>() + t * v.cols(),
                    v.as<double>() + (t + 1) * v.cols());
      for (int64_t h = 0; h < node.attention.n_heads; ++h) {
        AttendHead(node.attention, h, keys, values, q.as<double>() + t * q.cols(),
                   out.as<double>() + t * out.cols());
      }
    }
  }

 private:
  static void AttendHead(const graph::AttentionSpec& s, int64_t h, const std::vector<double>& keys,
                         const std::vector<double>& values, const double* q, double* out) {
    const int64_t dim = s.head_dim, width = s.n_kv_heads * dim;
    const int64_t first = h / (s.n_heads / s.n_kv_heads) * dim;
    const int64_t n = static_cast<int64_t>(keys.size()) / width;
    std::fill_n(out + h * dim, dim, 0.0);
    double total = 0;
    for (int64_t p = 0; p < n; ++p) {
      double score = 0;
      for (int64_t i = 0; i < dim; ++i) {
        score += q[h * dim + i] * keys[static_cast<size_t>(p * width + first + i)];
      }
      const double weight = std::exp(score * s.scale);
      total += weight;
      for (int64_t i = 0; i < dim; ++i) {
        out[h * dim + i] += weight * values[static_cast<size_t>(p * width + first + i)];
      }
    }
    for (int64_t i = 0; i < dim; ++i) out[h * dim + i] /= total;
  }

  std::vector<std::vector<double>> keys_, values_;
};

TEST(RowOps, DecodingTokenByTokenEqualsOnePass) {
  TinyModel<double> model(kSpec);
  Inference inference(model.graph, model.views, kThreads);
  const MicroBatch all = Documents({11}, kSpec.vocab);
  const auto want = Values<double>(inference.Forward(RowsOf(all), nullptr));
  PlainCache cache(model.graph);
  std::vector<double> got;
  const std::vector<int32_t> cu = {0, 1};
  for (size_t t = 0; t < all.ids.size(); ++t) {
    const RowBatch batch = {.ids = std::span(all.ids).subspan(t, 1),
                            .positions = std::span(all.positions).subspan(t, 1),
                            .cu_seqlens = cu};
    const auto row = Values<double>(inference.Forward(batch, &cache));
    got.insert(got.end(), row.begin(), row.end());
  }
  ExpectNear(got, want, 1e-11);
}

TEST(RowOps, PlannedBuffersThatLiveTogetherDoNotOverlap) {
  for (const bool branch_first : {false, true}) {
    const TinySpec spec{.branch_first = branch_first, .row_ops = true};
    const graph::Graph graph = TinyFamily(spec).Build();
    for (const Mode mode : {Mode::kInference, Mode::kTraining}) {
      const Plan plan = MakePlan(graph, mode);
      for (size_t a = 0; a < plan.buffers.size(); ++a) {
        const Buffer& x = plan.buffers[a];
        for (size_t b = a + 1; b < plan.buffers.size(); ++b) {
          const Buffer& y = plan.buffers[b];
          if (x.first > y.last || y.first > x.last) continue;
          EXPECT_TRUE(x.offset + x.width <= y.offset || y.offset + y.width <= x.offset)
              << a << " and " << b;
        }
      }
    }
  }
}

// Nothing but these ops: LibTorch's GEMM and attention allocate on their own.
graph::Graph OnlyRowOps() {
  graph::Builder builder("rows");
  const retort_builder_v1* t = builder.table();
  const auto param = [&](const char* name, const std::vector<int64_t>& shape) {
    return AddParam(t, name, shape);
  };
  const retort_value x = t->embed(t->ctx, param("embed", {7, 12}), 1);
  const retort_value y = t->layer_norm(t->ctx, x, param("w", {12}), param("b", {12}), 1e-5);
  const retort_value shared = t->slice(t->ctx, y, 1, 3, 8);
  const std::vector<retort_value> in = {t->slice(t->ctx, y, 3, 1, 3), shared, y};
  retort_value z = t->concat(t->ctx, in.data(), 3, 3);
  const retort_value one = t->slice(t->ctx, y, 1, 0, 1);
  z = t->add(t->ctx, z, t->value_of(t->ctx, param("shift", {33})));
  z = t->mul(t->ctx, z, t->value_of(t->ctx, param("gain", {33})));
  z = t->mul(t->ctx, t->mul(t->ctx, z, one), t->value_of(t->ctx, param("all", {1})));
  t->result(t->ctx, z, param("head", {7, 33}), 1, 0);
  auto graph = builder.Finish();
  EXPECT_TRUE(graph.ok()) << graph.status().ToString();
  return std::move(graph).value();
}

// slice, concat and sums move numbers: what only they read is dead before backward runs.
TEST(RowOps, BackwardKeepsOnlyWhatItReads) {
  const graph::Graph graph = OnlyRowOps();
  const Plan plan = MakePlan(graph, Mode::kTraining);
  const auto head = static_cast<int32_t>(graph.nodes.size());
  std::vector<std::string> kept;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const auto value = static_cast<size_t>(plan.nodes[i].out);
    if (plan.buffers[value].last > head) kept.push_back(graph::OpName(graph.nodes[i].op));
  }
  // Operands of layer_norm and of three products: the slice is one of the factors.
  EXPECT_EQ(kept, (std::vector<std::string>{"embed", "slice", "add", "mul", "mul"}));
}

TEST(RowOps, FrozenParamsGetNoGradient) {
  TinyModel<double> model({.frozen_rows = RETORT_PARAM_FROZEN, .row_ops = true});
  Pass pass(model.graph, model.views, Mode::kTraining, kThreads);
  Gradients grads(model.graph, DType::kF64);
  const MicroBatch batch = Documents({5, 3}, kSpec.vocab);  // alive until Backward
  pass.Forward(RowsOf(batch), nullptr);
  const TensorView d = pass.HiddenGradient();
  std::fill_n(d.as<double>(), d.numel(), 1e-3);
  grads.Begin();
  pass.Backward(grads);
  grads.Finish();
  int frozen = 0;
  for (size_t p = 0; p < model.graph.params.size(); ++p) {
    frozen += grads.Wanted(static_cast<int32_t>(p)) ? 0 : 1;
  }
  EXPECT_GE(frozen, 6);
}

TEST(RowOps, ASteadyStepAllocatesNothing) {
  const graph::Graph graph = OnlyRowOps();
  std::vector<float> weights(7 * 33, 0.5F);
  std::vector<TensorView> params;
  for (const graph::Param& p : graph.params) {
    params.push_back(TensorView::Contiguous(weights.data(), DType::kF32, p.shape));
  }
  Pass pass(graph, params, Mode::kTraining, 2);
  Gradients grads(graph, DType::kF32);
  const MicroBatch batch = Documents({400, 300}, 7);  // large enough for two threads
  const auto step = [&] {
    grads.Begin();
    pass.Forward(RowsOf(batch), nullptr);
    const TensorView d = pass.HiddenGradient();
    std::fill_n(d.as<float>(), d.numel(), 1e-3F);
    pass.Backward(grads);
    grads.Finish();
  };
  step();
  StartCounting();
  for (int i = 0; i < 3; ++i) step();
  EXPECT_EQ(StopCounting(), 0);
}

}  // namespace
}  // namespace retort::engine::test
