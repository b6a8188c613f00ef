// optimizer/adamw against torch.optim.AdamW over 20 steps, and the rules of ELEMENTWISE.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "retort/abi/draft/optimizer.h"
#include "tests/unit/plugins/harness.h"

namespace retort::host {
namespace {

const retort_optimizer_v1* TableOf(const PluginInstance& optimizer) {
  return static_cast<const retort_optimizer_v1*>(optimizer.interface(RETORT_OPTIMIZER_INTERFACE));
}

// A param with its gradient and state.
struct Param {
  explicit Param(std::vector<float> values, uint32_t param_group = 0)
      : value(std::move(values)), grad(value.size()), m(value.size()), v(value.size()) {
    info.struct_size = sizeof(info);
    info.name = "w";
    info.group = param_group;
  }
  std::vector<float> value, grad, m, v;
  retort_param_info info{};
};

struct Rates {
  std::vector<double> learning_rate, weight_decay;
};

// Elements [begin, end) of the param, as a shard.
Status Step(const PluginInstance& optimizer, Param& p, int64_t step, const Rates& rates,
            float grad_scale, size_t begin, size_t end, int n_threads = 2) {
  const auto n = static_cast<int64_t>(end - begin);
  std::vector<float> scale_data = {grad_scale};
  Tensor value(p.value, {n}), grad(p.grad, {n}), m(p.m, {n}), v(p.v, {n}), scale(scale_data, {1});
  for (Tensor* t : {&value, &grad, &m, &v}) {
    t->get()->data = static_cast<float*>(t->get()->data) + begin;
  }
  retort_tensor* const states[] = {m.get(), v.get()};
  const retort_optimizer_tensor tensor = {.info = &p.info,
                                          .param = value.get(),
                                          .low_precision = nullptr,
                                          .grad = grad.get(),
                                          .states = states,
                                          .shard_offset = begin,
                                          .step = step};
  const retort_optimizer_args args = {.struct_size = sizeof(args),
                                      .tensor_stride = sizeof(tensor),
                                      .tensors = &tensor,
                                      .n = 1,
                                      .learning_rate = rates.learning_rate.data(),
                                      .weight_decay = rates.weight_decay.data(),
                                      .n_groups = static_cast<uint32_t>(rates.learning_rate.size()),
                                      ._pad = 0,
                                      .grad_scale = scale.get()};
  PluginCall call("optimizer adamw");
  const retort_call* c = call.Begin({.n_threads = n_threads});
  return call.End(TableOf(optimizer)->step(optimizer.get(), c, &args), "step");
}

TEST(AdamW, EqualsTorchFor20Steps) {
  const PluginInstance adamw = Make("optimizer", "adamw", R"({"betas": [0.9, 0.95], "eps": 1e-6})");
  Sequence numbers(11);
  Param w(numbers.Vector<float>(7), 0), b(numbers.Vector<float>(3), 1);
  std::ifstream golden(RETORT_SOURCE_DIR "/tests/golden/plugin_adamw.txt");
  std::string line;
  int64_t step = 0;
  while (std::getline(golden, line)) {
    if (line.starts_with("#")) continue;
    w.grad = numbers.Vector<float>(7);
    b.grad = numbers.Vector<float>(3);
    const double lr = 0.01 * static_cast<double>(1 + step % 3);
    const Rates rates = {{lr, lr}, {0.1, 0.0}};
    ++step;
    ASSERT_TRUE(Step(adamw, w, step, rates, 0.25F, 0, 7).ok());
    ASSERT_TRUE(Step(adamw, b, step, rates, 0.25F, 0, 3).ok());
    std::istringstream in(line);
    for (size_t i = 0; i < 10; ++i) {
      double want = 0;
      in >> want;
      // f32 state on both sides: a few units in the last place of values up to 4 per step.
      EXPECT_NEAR(double{i < 7 ? w.value[i] : b.value[i - 7]}, want, 2e-6) << step << " " << i;
    }
  }
  EXPECT_EQ(step, 20);
}

TEST(AdamW, ShardsAndThreadsGiveTheSameBits) {
  const PluginInstance adamw = Make("optimizer", "adamw", "");
  Sequence numbers(4);
  const auto start = numbers.Vector<float>(1000);
  Param whole(start), cut(start), threads(start);
  const Rates rates = {{0.01}, {0.1}};
  for (int64_t step = 1; step <= 3; ++step) {
    whole.grad = cut.grad = threads.grad = numbers.Vector<float>(1000);
    ASSERT_TRUE(Step(adamw, whole, step, rates, 1, 0, 1000, 1).ok());
    ASSERT_TRUE(Step(adamw, threads, step, rates, 1, 0, 1000, 4).ok());
    ASSERT_TRUE(Step(adamw, cut, step, rates, 1, 0, 320).ok());
    ASSERT_TRUE(Step(adamw, cut, step, rates, 1, 320, 1000).ok());
  }
  EXPECT_EQ(whole.value, cut.value);
  EXPECT_EQ(whole.value, threads.value);
  EXPECT_EQ(whole.v, cut.v);
}

TEST(AdamW, SpecNamesTorchsStates) {
  const PluginInstance adamw = Make("optimizer", "adamw", "");
  Param p(std::vector<float>(4));
  PluginCall call("optimizer adamw");
  const retort_optimizer_spec *a = nullptr, *b = nullptr;
  const auto* table = TableOf(adamw);
  ASSERT_EQ(table->spec(adamw.get(), call.Begin(), &p.info, &a), RETORT_OK);
  ASSERT_EQ(table->spec(adamw.get(), call.Begin(), &p.info, &b), RETORT_OK);
  EXPECT_EQ(a, b) << "a pure function";
  EXPECT_EQ(a->grain, RETORT_GRAIN_ELEMENTWISE);
  ASSERT_EQ(a->n_states, 2u);
  EXPECT_STREQ(a->states[0].name, "exp_avg");
  EXPECT_STREQ(a->states[1].name, "exp_avg_sq");
  EXPECT_EQ(a->states[0].dtype, RETORT_STATE_F32);
}

TEST(AdamW, GroupWithoutRateIsRefused) {
  const PluginInstance adamw = Make("optimizer", "adamw", "");
  Param p(std::vector<float>(4), 3);
  const Status status = Step(adamw, p, 1, {{0.1}, {0}}, 1, 0, 4);
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
}

TEST(AdamW, BadConfigs) {
  EXPECT_THAT(ConfigError("optimizer", "adamw", R"({"betas": [0.9]})"),
              testing::HasSubstr("/betas: has 1 numbers"));
  EXPECT_THAT(ConfigError("optimizer", "adamw", R"({"betas": [0.9, 1]})"),
              testing::HasSubstr("/betas/1: must be below 1"));
  EXPECT_THAT(ConfigError("optimizer", "adamw", R"({"eps": -1})"), testing::HasSubstr("/eps"));
}

}  // namespace
}  // namespace retort::host
