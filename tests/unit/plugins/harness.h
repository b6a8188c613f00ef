// What the tests of the built-in plugins share: instances through the registry, tensors over
// vectors, samples through a reward or filter, and the number sequence of the golden script.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "core/base/plugin_call.h"
#include "host/plugin/registry.h"
#include "retort/abi/filter.h"
#include "retort/abi/reward.h"
#include "retort/abi/tensor.h"

namespace retort::host {

// The built-in plugins, loaded once per test program.
inline PluginRegistry& Builtins() {
  static const std::unique_ptr<PluginRegistry> registry = [] {
    auto r = std::make_unique<PluginRegistry>();
    const Status status = r->LoadBuiltins(RETORT_PLUGIN_DIR);
    EXPECT_TRUE(status.ok()) << status.ToString();
    return r;
  }();
  return *registry;
}

inline PluginInstance Make(const char* kind, const char* id, const std::string& config) {
  return Builtins().Create(kind, id, config, {}).value();
}

// The text of the refusal of a config.
inline std::string ConfigError(const char* kind, const char* id, const std::string& config) {
  const auto instance = Builtins().Create(kind, id, config, {});
  EXPECT_FALSE(instance.ok()) << config;
  if (instance.ok()) return "";
  EXPECT_EQ(instance.status().code(), Code::kInvalidArgument);
  return instance.status().message();
}

// A tensor over a vector; the vector outlives it.
class Tensor {
 public:
  template <class T>
  Tensor(std::vector<T>& data, std::vector<int64_t> shape, int64_t row_stride = 0)
      : shape_(std::move(shape)), strides_(shape_.size(), 1) {
    for (size_t i = shape_.size(); i-- > 1;) strides_[i - 1] = strides_[i] * shape_[i];
    if (row_stride > 0) strides_[0] = row_stride;
    constexpr bool kFloat = std::is_floating_point_v<T>;
    raw_ = {.data = data.data(),
            .device = {RETORT_DEVICE_CPU, 0},
            .ndim = static_cast<int32_t>(shape_.size()),
            .dtype = {kFloat ? RETORT_DTYPE_FLOAT : RETORT_DTYPE_INT, 8 * sizeof(T), 1},
            .shape = shape_.data(),
            .strides = strides_.data(),
            .byte_offset = 0};
  }
  Tensor(const Tensor&) = delete;
  retort_tensor* get() { return &raw_; }

 private:
  std::vector<int64_t> shape_, strides_;
  retort_tensor raw_{};
};

// The generator of tests/peers/make_plugin_goldens.py: multiples of 1/1024 in [-4, 4).
class Sequence {
 public:
  explicit Sequence(uint32_t seed) : state_(seed) {}
  double Next() {
    state_ = state_ * 1664525U + 1013904223U;
    return (static_cast<double>((state_ >> 8) % 8192) - 4096.0) / 1024.0;
  }
  template <class T>
  std::vector<T> Vector(size_t n) {
    std::vector<T> out(n);
    for (T& x : out) x = static_cast<T>(Next());
    return out;
  }

 private:
  uint32_t state_;
};

// A sample over texts that outlive it.
struct TestSample {
  std::string completion, gold, record;
  std::vector<int32_t> ids = {};
  std::vector<float> logp = {};
};

inline std::vector<retort_sample> ToRaw(const std::vector<TestSample>& samples) {
  std::vector<retort_sample> raw(samples.size());
  for (size_t i = 0; i < raw.size(); ++i) {
    const TestSample& s = samples[i];
    raw[i].completion = ToStr(s.completion);
    if (!s.gold.empty()) raw[i].gold = ToStr(s.gold);
    if (!s.record.empty()) raw[i].record = ToStr(s.record);
    if (!s.ids.empty()) raw[i].completion_ids = s.ids.data();
    if (!s.logp.empty()) raw[i].logp = s.logp.data();
    raw[i].n_completion_ids = static_cast<uint32_t>(s.ids.size());
    raw[i].uid = i;
    raw[i].index = static_cast<uint32_t>(i);
  }
  return raw;
}

struct Scores {
  std::vector<double> score;
  std::vector<uint8_t> status;
  std::vector<std::string> info;
};

inline Scores ScoreAll(const PluginInstance& reward, const std::vector<TestSample>& samples) {
  const std::vector<retort_sample> raw = ToRaw(samples);
  Scores out{std::vector<double>(raw.size(), std::numeric_limits<double>::quiet_NaN()),
             std::vector<uint8_t>(raw.size(), RETORT_SCORE_ERROR),
             std::vector<std::string>(raw.size())};
  const retort_reward_args args = {.struct_size = sizeof(args),
                                   .sample_stride = sizeof(retort_sample),
                                   .samples = raw.data(),
                                   .n = raw.size(),
                                   .score = out.score.data(),
                                   .status = out.status.data(),
                                   .info_ctx = &out,
                                   .info = [](void* ctx, uint64_t i, retort_str json) {
                                     static_cast<Scores*>(ctx)->info[i] = ToView(json);
                                   }};
  PluginCall call(reward.name());
  const auto* table =
      static_cast<const retort_reward_v1*>(reward.interface(RETORT_REWARD_INTERFACE));
  const Status status = call.End(table->score(reward.get(), call.Begin(), &args), "score");
  EXPECT_TRUE(status.ok()) << status.ToString();
  return out;
}

}  // namespace retort::host
