// Rules of growth on the built-in plugins: arrays of structs are walked by their stride, larger
// structs of a later version are fine, a cancelled call says so.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>

#include "retort/abi/draft/optimizer.h"
#include "tests/unit/plugins/harness.h"

namespace retort::host {
namespace {

// Elements of a later version: each with 64 more bytes of rubbish behind it.
template <class T>
std::vector<char> Grown(const std::vector<T>& items) {
  constexpr size_t kStride = sizeof(T) + 64;
  std::vector<char> bytes(items.size() * kStride, static_cast<char>(0xA5));
  for (size_t i = 0; i < items.size(); ++i) {
    std::memcpy(bytes.data() + i * kStride, &items[i], sizeof(T));
  }
  return bytes;
}

TEST(Growth, RewardWalksSamplesByTheirStride) {
  const PluginInstance reward = Make("reward", "number_match", "");
  const std::vector<TestSample> samples = {{"1", "1", ""}, {"2", "3", ""}, {"4", "4", ""}};
  const std::vector<char> bytes = Grown(ToRaw(samples));
  std::vector<double> score(3, -1);
  std::vector<uint8_t> status(3, RETORT_SCORE_ERROR);
  const retort_reward_args args = {.struct_size = sizeof(args) + 64,
                                   .sample_stride = sizeof(retort_sample) + 64,
                                   .samples = reinterpret_cast<const retort_sample*>(bytes.data()),
                                   .n = 3,
                                   .score = score.data(),
                                   .status = status.data(),
                                   .info_ctx = nullptr,
                                   .info = nullptr};
  const auto* table =
      static_cast<const retort_reward_v1*>(reward.interface(RETORT_REWARD_INTERFACE));
  PluginCall call(reward.name());
  ASSERT_EQ(table->score(reward.get(), call.Begin(), &args), RETORT_OK) << call.error_text();
  EXPECT_THAT(score, testing::ElementsAre(1, 0, 1));
}

TEST(Growth, FilterWalksSamplesAndGroupsByTheirStrides) {
  const PluginInstance filter = Make("filter", "length", R"({"max_chars": 2})");
  const std::vector<TestSample> samples = {{"a", "", ""}, {"bbb", "", ""}, {"ccc", "", ""}};
  const std::vector<char> sample_bytes = Grown(ToRaw(samples));
  const std::vector<char> group_bytes = Grown(std::vector<retort_group>{{0, 2, 1}, {2, 1, 2}});
  std::vector<uint32_t> actions(3, 99);
  retort_filter_args args{};
  args.struct_size = sizeof(args);
  args.sample_stride = sizeof(retort_sample) + 64;
  args.group_stride = sizeof(retort_group) + 64;
  args.samples = reinterpret_cast<const retort_sample*>(sample_bytes.data());
  args.n_samples = 3;
  args.groups = reinterpret_cast<const retort_group*>(group_bytes.data());
  args.n_groups = 2;
  args.out_ctx = &actions;
  args.decide = [](void* ctx, uint64_t i, const retort_decision* d) {
    (*static_cast<std::vector<uint32_t>*>(ctx))[i] = d->action;
  };
  const auto* table =
      static_cast<const retort_filter_v1*>(filter.interface(RETORT_FILTER_INTERFACE));
  PluginCall call(filter.name());
  ASSERT_EQ(table->judge(filter.get(), call.Begin(), &args), RETORT_OK) << call.error_text();
  EXPECT_THAT(actions, testing::ElementsAre(RETORT_KEEP, RETORT_DROP, RETORT_DROP));
}

TEST(Growth, OptimizerWalksTensorsByTheirStride) {
  const PluginInstance adamw = Make("optimizer", "adamw", "");
  std::vector<float> p(2, 1.0F), q(3, 1.0F), g(3, 1.0F), m(2), v(2), m2(3), v2(3);
  Tensor p_(p, {2}), q_(q, {3}), gp(g, {2}), gq(g, {3}), m_(m, {2}), v_(v, {2}), m2_(m2, {3}),
      v2_(v2, {3});
  retort_tensor* const states[] = {m_.get(), v_.get()};
  retort_tensor* const states2[] = {m2_.get(), v2_.get()};
  retort_param_info info{};
  info.struct_size = sizeof(info);
  info.name = "w";
  const std::vector<char> bytes = Grown(
      std::vector<retort_optimizer_tensor>{{&info, p_.get(), nullptr, gp.get(), states, 0, 1},
                                           {&info, q_.get(), nullptr, gq.get(), states2, 0, 1}});
  const double rate = 0.5, decay = 0;
  const retort_optimizer_args args = {
      .struct_size = sizeof(args),
      .tensor_stride = sizeof(retort_optimizer_tensor) + 64,
      .tensors = reinterpret_cast<const retort_optimizer_tensor*>(bytes.data()),
      .n = 2,
      .learning_rate = &rate,
      .weight_decay = &decay,
      .n_groups = 1,
      ._pad = 0,
      .grad_scale = nullptr};
  const auto* table =
      static_cast<const retort_optimizer_v1*>(adamw.interface(RETORT_OPTIMIZER_INTERFACE));
  PluginCall call(adamw.name());
  ASSERT_EQ(table->step(adamw.get(), call.Begin(), &args), RETORT_OK) << call.error_text();
  // The first step of Adam moves by the learning rate against the gradient's sign.
  EXPECT_THAT(p, testing::Each(testing::FloatNear(0.5F, 1e-6F)));
  EXPECT_THAT(q, testing::Each(testing::FloatNear(0.5F, 1e-6F)));
}

TEST(Growth, LowPrecisionGetsTheParamRoundedToNearestEven) {
  const PluginInstance adamw = Make("optimizer", "adamw", "");
  // Exactly between two bf16 numbers (even below, even above), and one that is representable.
  std::vector<float> p = {1.00390625F, 1.01171875F, -2.5F}, g(3), m(3), v(3);
  std::vector<int16_t> low(3);
  Tensor p_(p, {3}), g_(g, {3}), m_(m, {3}), v_(v, {3}), low_(low, {3});
  low_.get()->dtype.code = RETORT_DTYPE_BFLOAT;
  retort_tensor* const states[] = {m_.get(), v_.get()};
  retort_param_info info{};
  info.struct_size = sizeof(info);
  info.name = "w";
  const retort_optimizer_tensor tensor = {&info, p_.get(), low_.get(), g_.get(), states, 0, 1};
  const double rate = 0.5, decay = 0;
  const retort_optimizer_args args = {sizeof(args), sizeof(tensor), &tensor, 1, &rate, &decay, 1, 0,
                                      nullptr};
  const auto* table =
      static_cast<const retort_optimizer_v1*>(adamw.interface(RETORT_OPTIMIZER_INTERFACE));
  PluginCall call(adamw.name());
  ASSERT_EQ(table->step(adamw.get(), call.Begin(), &args), RETORT_OK) << call.error_text();
  EXPECT_THAT(low, testing::ElementsAre(0x3F80, 0x3F82, static_cast<int16_t>(0xC020)));
}

TEST(Growth, CancelledCallsSaySo) {
  const PluginInstance reward = Make("reward", "format", "");
  const std::vector<retort_sample> raw(2);
  std::vector<double> score(2);
  std::vector<uint8_t> status(2);
  retort_reward_args args{};
  args.struct_size = sizeof(args);
  args.sample_stride = sizeof(retort_sample);
  args.samples = raw.data();
  args.n = 2;
  args.score = score.data();
  args.status = status.data();
  const auto* table =
      static_cast<const retort_reward_v1*>(reward.interface(RETORT_REWARD_INTERFACE));
  const std::atomic<int32_t> cancel{1};
  PluginCall call(reward.name());
  EXPECT_EQ(table->score(reward.get(), call.Begin({.cancel = &cancel}), &args), RETORT_CANCELLED);
  args.n = 0;
  EXPECT_EQ(table->score(reward.get(), call.Begin(), &args), RETORT_OK) << "no samples";
}

}  // namespace
}  // namespace retort::host
