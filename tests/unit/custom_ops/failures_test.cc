// An op that fails, gives NaN, can't train or can't decode: what training and generation say, and
// that no weight changes. Also which key it gets.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <utility>

#include "core/engine/edge.h"
#include "core/generate/generator.h"
#include "core/train/trainer.h"
#include "tests/unit/custom_ops/hybrid_model.h"
#include "tests/unit/engine/tiny_model.h"

namespace retort::host {
namespace {

using engine::MicroBatch;
using engine::test::Documents;
using testing::HasSubstr;

// y = 2x, and what a test wants besides.
struct Probe {
  int64_t fail_forward_at = -1, fail_backward_at = -1, nan_at = -1;
  std::vector<retort_key> forward_keys, backward_keys;
};

class ProbeOp final : public graph::OpHandle {
 public:
  explicit ProbeOp(Probe* probe) : probe_(probe) {
    table_ = {.struct_size = sizeof(table_),
              .flags = RETORT_OP_ROWWISE,
              .infer = engine::test::TanhTable().infer,
              .forward = Forward,
              .backward = Backward,
              .decode = nullptr};
  }
  const retort_op_v1& table() const override { return table_; }
  retort_instance* instance() const override { return reinterpret_cast<retort_instance*>(probe_); }

 private:
  static Probe& Of(retort_instance* p) { return *reinterpret_cast<Probe*>(p); }
  static retort_status Twice(const retort_tensor& x, retort_tensor& y, float factor) {
    for (int64_t i = 0; i < x.shape[0] * x.shape[1]; ++i) {
      static_cast<float*>(y.data)[i] = factor * static_cast<const float*>(x.data)[i];
    }
    return RETORT_OK;
  }
  static retort_status Forward(retort_instance* p, const retort_call* call,
                               const retort_op_args* args) {
    Of(p).forward_keys.push_back(call->key);
    if (call->step >= 0 && call->step == Of(p).fail_forward_at) {
      return engine::test::Fail(call, RETORT_INTERNAL, "forward broke");
    }
    const bool nan = call->step >= 0 && call->step == Of(p).nan_at;
    return Twice(*args->in[0], *args->out[0], nan ? std::numeric_limits<float>::quiet_NaN() : 2.0F);
  }
  static retort_status Backward(retort_instance* p, const retort_call* call,
                                const retort_op_args* args) {
    Of(p).backward_keys.push_back(call->key);
    if (call->step >= 0 && call->step == Of(p).fail_backward_at) {
      return engine::test::Fail(call, RETORT_INTERNAL, "backward broke");
    }
    return Twice(*args->d_out[0], *args->d_in[0], 2);
  }

  retort_op_v1 table_{};
  Probe* probe_;
};

constexpr int64_t kVocab = 11, kDim = 4;

graph::Graph OneOp(const graph::OpFactory& factory, const char* op) {
  graph::Builder builder("one", factory);
  const retort_builder_v1* t = builder.table();
  const auto param = [&](const char* name) {
    const std::array<int64_t, 2> shape = {kVocab, kDim};
    retort_param_spec spec{};
    spec.struct_size = sizeof(spec);
    spec.name = name;
    spec.shape = shape.data();
    spec.ndim = 2;
    return t->param(t->ctx, &spec);
  };
  const retort_value x = t->embed(t->ctx, param("embed"), 1);
  t->block(t->ctx, 0);
  const retort_value y = t->custom(t->ctx, op, &x, 1, 1, {});
  t->result(t->ctx, y, param("head"), 1, 0);
  return builder.Finish().value();
}

class Failures : public testing::Test {
 protected:
  void Use(graph::Graph graph) {
    engine::SetThreads(kThreads);
    graph_ = std::move(graph);
    Rng rng(RngKey{0, 2});
    for (std::vector<float>& weights : weights_) {
      for (int64_t i = 0; i < kVocab * kDim; ++i) {
        weights.push_back(static_cast<float>(0.3 * rng.Normal()));
      }
      views_.push_back(TensorView::Contiguous(weights.data(), DType::kF32, {kVocab, kDim}));
    }
  }
  void UseProbe() {
    Use(OneOp(
        [this](const std::string&, const std::string&) -> Result<std::unique_ptr<graph::OpHandle>> {
          return std::unique_ptr<graph::OpHandle>(std::make_unique<ProbeOp>(&probe_));
        },
        "probe"));
  }
  Result<std::unique_ptr<engine::Trainer>> NewTrainer() {
    engine::TrainerOptions options;
    options.losses = {engine::test::CrossEntropy()};
    options.optimizer = {.name = "adamw",
                         .table = static_cast<const retort_optimizer_v1*>(
                             adamw_.interface(RETORT_OPTIMIZER_INTERFACE)),
                         .instance = adamw_.get()};
    return train::MakeTrainer(graph_, views_, options, kThreads);
  }
  // Step 0 passes; step 1 fails like this, and changes nothing.
  void ExpectSecondStepFails(const std::string& text, Code code) {
    auto trainer = NewTrainer().value();
    const auto first = trainer->Step(window_, 0.1, 0, nullptr);
    ASSERT_TRUE(first.ok()) << first.status().ToString();
    const auto before = weights_;
    const auto failed = trainer->Step(window_, 0.1, 1, nullptr);
    ASSERT_FALSE(failed.ok());
    EXPECT_EQ(failed.status().code(), code);
    EXPECT_THAT(failed.status().message(), HasSubstr(text));
    EXPECT_EQ(weights_, before);
    EXPECT_TRUE(trainer->Step(window_, 0.1, 2, nullptr).ok());  // and goes on
  }

  std::unique_ptr<Session> session_ = HybridSession();
  PluginInstance adamw_ = session_->plugins().Create("optimizer", "adamw", "", {}).value();
  Probe probe_;
  graph::Graph graph_;
  std::array<std::vector<float>, 2> weights_;
  std::vector<TensorView> views_;
  const std::vector<MicroBatch> window_ = {Documents({5, 3}, kVocab), Documents({4}, kVocab, 2)};
};

TEST_F(Failures, AFailingForwardEndsTheStepWithNodeAndText) {
  UseProbe();
  probe_.fail_forward_at = 1;
  ExpectSecondStepFails("node 1 (custom probe, block 0): forward: forward broke", Code::kInternal);
}
TEST_F(Failures, AFailingBackwardEndsTheStepWithNodeAndText) {
  UseProbe();
  probe_.fail_backward_at = 1;
  ExpectSecondStepFails("node 1 (custom probe, block 0): backward: backward broke",
                        Code::kInternal);
}
TEST_F(Failures, NaNIsCaughtBeforeAnyWeightChanges) {
  UseProbe();
  probe_.nan_at = 1;
  ExpectSecondStepFails("nan", Code::kDataLoss);
}
TEST_F(Failures, TheKeyIsThatOfTheMicroBatchInBothDirections) {
  UseProbe();
  auto trainer = NewTrainer().value();
  for (const int64_t step : {0, 1}) ASSERT_TRUE(trainer->Step(window_, 0.1, step, nullptr).ok());
  ASSERT_EQ(probe_.forward_keys.size(), 4U);
  ASSERT_EQ(probe_.backward_keys.size(), 4U);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(probe_.forward_keys[i].hi, probe_.backward_keys[i].hi);
    EXPECT_EQ(probe_.forward_keys[i].lo, probe_.backward_keys[i].lo);
    for (size_t k = 0; k < i; ++k) EXPECT_NE(probe_.forward_keys[i].lo, probe_.forward_keys[k].lo);
  }
}
TEST_F(Failures, WithoutBackwardNoTrainerIsMade) {
  Use(OneOp(engine::test::MakeTestOp, "one_way"));
  const Status status = NewTrainer().status();
  EXPECT_EQ(status.code(), Code::kUnimplemented);
  EXPECT_THAT(status.message(),
              HasSubstr("node 1 (custom one_way, block 0): the op has no backward"));
}
TEST_F(Failures, WithoutDecodeGenerationIsRefusedBeforeItStarts) {
  Use(OneOp(engine::test::MakeTestOp, "stuck"));
  EXPECT_TRUE(NewTrainer().ok());
  engine::Inference inference(graph_, views_, kThreads);
  engine::GenerateRequest request;
  request.ids = {1, 2, 3};
  request.sampling.max_tokens = 2;
  const auto stats = generate::Generate(inference, graph_, {&request, 1}, {}, kThreads);
  EXPECT_EQ(stats.status().code(), Code::kUnimplemented);
  EXPECT_THAT(stats.status().message(),
              HasSubstr("node 1 (custom stuck, block 0): the op is not ROWWISE"));
}

}  // namespace
}  // namespace retort::host
