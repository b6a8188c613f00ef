// The example plugins, built outside the tree, through the registry: run by check_outside.py.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "retort/abi/draft/loss.h"
#include "retort/abi/draft/optimizer.h"
#include "tests/unit/plugins/harness.h"

namespace retort::host {
namespace {

std::string Outside(const std::string& name) {
  const char* folder = std::getenv("RETORT_OUTSIDE_DIR");
  return std::string(folder == nullptr ? "" : folder) + "/lib" + name + ".so";
}

TEST(Outside, RewardInC) {
  PluginRegistry registry;
  const Status loaded = registry.LoadFile(Outside("mentions"));
  ASSERT_TRUE(loaded.ok()) << loaded.ToString();
  EXPECT_EQ(registry.List().front()->version, "1.0.0");
  EXPECT_EQ(registry.List().front()->license, "Apache-2.0");
  const auto reward =
      registry.Create("reward", "mentions", R"({"phrases": ["so", "####"]})", {}).value();
  const Scores s = ScoreAll(reward, {{"so it is #### 4", "", ""},
                                     {"####", "", ""},
                                     {"", "", ""},
                                     {std::string("a\0so", 4), "", ""}});
  EXPECT_THAT(s.score, testing::ElementsAre(1, 0.5, 0, 0.5));
}

TEST(Outside, RewardInCRefusesItsConfigs) {
  PluginRegistry registry;
  ASSERT_TRUE(registry.LoadFile(Outside("mentions")).ok());
  const auto error = [&](const char* config) {
    return registry.Create("reward", "mentions", config, {}).status().message();
  };
  EXPECT_THAT(error(R"({"phrases": []})"), testing::StartsWith("/phrases: is empty"));
  EXPECT_THAT(error(R"({"phrases": ["a", ""]})"), testing::StartsWith("/phrases: a phrase"));
  EXPECT_THAT(error("{}"), testing::HasSubstr("phrases"));
}

TEST(Outside, FilterInCpp) {
  PluginRegistry registry;
  const Status loaded = registry.LoadFile(Outside("repeated_lines"));
  ASSERT_TRUE(loaded.ok()) << loaded.ToString();
  const auto filter = registry.Create("filter", "repeated_lines", "", {}).value();
  const auto* table =
      static_cast<const retort_filter_v1*>(filter.interface(RETORT_FILTER_INTERFACE));
  const std::vector<TestSample> samples = {{"a\nb\nc", "", ""}, {"a\na\na", "", ""}, {"", "", ""}};
  const std::vector<retort_sample> raw = ToRaw(samples);
  const retort_group group = {0, raw.size(), 0};
  std::vector<uint32_t> actions(raw.size(), RETORT_KEEP);
  retort_filter_args args{};
  args.struct_size = sizeof(args);
  args.sample_stride = sizeof(retort_sample);
  args.group_stride = sizeof(retort_group);
  args.samples = raw.data();
  args.n_samples = raw.size();
  args.groups = &group;
  args.n_groups = 1;
  args.out_ctx = &actions;
  args.decide = [](void* ctx, uint64_t i, const retort_decision* d) {
    (*static_cast<std::vector<uint32_t>*>(ctx))[i] = d->action;
  };
  PluginCall call(filter.name());
  ASSERT_EQ(table->judge(filter.get(), call.Begin(), &args), RETORT_OK);
  EXPECT_THAT(actions, testing::ElementsAre(RETORT_KEEP, RETORT_DROP, RETORT_KEEP));
}

TEST(Outside, OneLibraryOfSeveralKinds) {
  PluginRegistry registry;
  const Status loaded = registry.LoadFile(Outside("kinds"));
  ASSERT_TRUE(loaded.ok()) << loaded.ToString();
  std::string names;
  for (const PluginInfo* info : registry.List()) names += info->kind + "/" + info->id + " ";
  EXPECT_EQ(names,
            "generator/calculator loss/focal loss/preference op/soft_cap optimizer/momentum "
            "reward/ends_with source/additions ");
  const auto reward = registry.Create("reward", "ends_with", R"({"text": "."})", {}).value();
  EXPECT_THAT(ScoreAll(reward, {{"So.", "", ""}, {"So", "", ""}}).score,
              testing::ElementsAre(1, 0));
}

// The example loss against central differences in f64.
TEST(Outside, FocalGradient) {
  PluginRegistry registry;
  ASSERT_TRUE(registry.LoadFile(Outside("kinds")).ok());
  const auto focal = registry.Create("loss", "focal", "", {}).value();
  const auto* table =
      static_cast<const retort_token_loss_v1*>(focal.interface(RETORT_TOKEN_LOSS_INTERFACE));
  std::vector<int64_t> labels = {2, 0};
  std::vector<double> weight = {1.5, -1}, loss(2), aux(2);
  const auto run = [&](std::vector<double>& z, uint32_t flags) {
    Tensor logits(z, {2, 4}), y(labels, {2}), w(weight, {2}), l(loss, {2}), a(aux, {2, 1});
    retort_token_loss_args args{};
    args.struct_size = sizeof(args);
    args.flags = flags;
    args.logits = logits.get();
    args.labels = y.get();
    args.weight = w.get();
    args.loss = l.get();
    args.aux = a.get();
    PluginCall call(focal.name());
    EXPECT_EQ(table->rows(focal.get(), call.Begin(), &args), RETORT_OK) << call.error_text();
    return weight[0] * loss[0] + weight[1] * loss[1];
  };
  const std::vector<double> z = {0.5, -1, 2, 0.25, 1, 1.5, -0.5, 0};
  std::vector<double> gradient = z;
  run(gradient, RETORT_TOKEN_WANT_GRAD);
  for (size_t i = 0; i < z.size(); ++i) {
    std::vector<double> up = z, down = z;
    up[i] += 1e-5;
    down[i] -= 1e-5;
    EXPECT_NEAR(gradient[i], (run(up, 0) - run(down, 0)) / 2e-5, 1e-8) << i;
  }
}

// Two steps by hand: v = .5 v + g; p -= .1 v.
TEST(Outside, SgdSteps) {
  PluginRegistry registry;
  ASSERT_TRUE(registry.LoadFile(Outside("kinds")).ok());
  const auto momentum =
      registry.Create("optimizer", "momentum", R"({"momentum": 0.5})", {}).value();
  const auto* table =
      static_cast<const retort_optimizer_v1*>(momentum.interface(RETORT_OPTIMIZER_INTERFACE));
  std::vector<float> p = {1}, g = {2}, v = {0};
  Tensor param(p, {1}), grad(g, {1}), state(v, {1});
  retort_tensor* const states[] = {state.get()};
  retort_param_info info{};
  info.struct_size = sizeof(info);
  info.name = "w";
  const retort_optimizer_tensor tensor = {.info = &info,
                                          .param = param.get(),
                                          .low_precision = nullptr,
                                          .grad = grad.get(),
                                          .states = states,
                                          .shard_offset = 0,
                                          .step = 1};
  const double rate = 0.1, decay = 0;
  const retort_optimizer_args args = {.struct_size = sizeof(args),
                                      .tensor_stride = sizeof(tensor),
                                      .tensors = &tensor,
                                      .n = 1,
                                      .learning_rate = &rate,
                                      .weight_decay = &decay,
                                      .n_groups = 1,
                                      ._pad = 0,
                                      .grad_scale = nullptr};
  PluginCall call(momentum.name());
  for (const float want : {0.8F, 0.5F}) {
    ASSERT_EQ(table->step(momentum.get(), call.Begin(), &args), RETORT_OK) << call.error_text();
    EXPECT_FLOAT_EQ(p[0], want);
  }
}

}  // namespace
}  // namespace retort::host
