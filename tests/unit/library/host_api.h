// retort/host.h as an embedder uses it, with owners and collectors for tests.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json/json.h"
#include "retort/host.h"

namespace retort::host {

inline std::string Fixture(const std::string& name) {
  return std::string(RETORT_SOURCE_DIR) + "/tests/fixtures/" + name;
}
inline std::string Text(retort_str text) {
  return text.ptr == nullptr ? std::string() : std::string(text.ptr, text.len);
}
inline retort_str Str(std::string_view text) { return {text.data(), text.size()}; }
inline std::string Quoted(const std::string& text) { return json::Writer().String(text).Take(); }

template <class T>
T Sized() {
  T value{};
  value.struct_size = sizeof value;
  return value;
}

template <class T, void (*kDestroy)(T*)>
struct Destroyer {
  void operator()(T* handle) const { kDestroy(handle); }
};
template <class T, void (*kDestroy)(T*)>
using Owner = std::unique_ptr<T, Destroyer<T, kDestroy>>;
using Context = Owner<retort_context, retort_context_destroy>;
using Model = Owner<retort_model, retort_model_destroy>;
using RewardHandle = Owner<retort_reward_chain, retort_reward_chain_destroy>;
using FilterHandle = Owner<retort_filter_chain, retort_filter_chain_destroy>;
using Pipeline = Owner<retort_pipeline, retort_pipeline_destroy>;
using RunHandle = Owner<retort_run, retort_run_destroy>;

// Takes text a few bytes at a time: short counts are legal.
struct Collected {
  std::string text;
  size_t at_most = 7;
  retort_sink sink() {
    return {this, [](void* ctx, const void* data, uint64_t n) -> int64_t {
              auto& self = *static_cast<Collected*>(ctx);
              const size_t some = std::min<size_t>(n, self.at_most);
              self.text.append(static_cast<const char*>(data), some);
              return static_cast<int64_t>(some);
            }};
  }
  std::vector<std::string> Lines() const {
    std::vector<std::string> lines;
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      lines.push_back(text.substr(begin, end - begin));
      begin = end + 1;
    }
    return lines;
  }
};

// Gives text a few bytes at a time.
struct Given {
  std::string text;
  size_t at = 0;
  retort_reader reader() {
    return {this, [](void* ctx, void* data, uint64_t n) -> int64_t {
              auto& self = *static_cast<Given*>(ctx);
              const size_t some = std::min<size_t>({n, self.text.size() - self.at, 5});
              std::memcpy(data, self.text.data() + self.at, some);
              self.at += some;
              return static_cast<int64_t>(some);
            }};
  }
};

inline Context NewContext(retort_context_options options = Sized<retort_context_options>()) {
  retort_context* out = nullptr;
  EXPECT_EQ(retort_context_create(&options, &out), RETORT_OK);
  return Context(out);
}
inline std::string ErrorOf(const Context& context) {
  return Text(retort_context_error(context.get()));
}
#define EXPECT_RETORT_OK(context, expression) \
  EXPECT_EQ(expression, RETORT_OK) << ::retort::host::ErrorOf(context)

inline Model OpenModel(const Context& context, const std::string& path) {
  auto options = Sized<retort_model_options>();
  options.path = Str(path);
  retort_model* out = nullptr;
  EXPECT_RETORT_OK(context, retort_model_open(context.get(), &options, &out));
  return Model(out);
}
inline RewardHandle NewRewards(const Context& context, const std::string& entries,
                               retort_model* tokenizer = nullptr) {
  auto options = Sized<retort_chain_options>();
  options.entries = Str(entries);
  options.tokenizer = tokenizer;
  retort_reward_chain* out = nullptr;
  EXPECT_RETORT_OK(context, retort_reward_chain_create(context.get(), &options, &out));
  return RewardHandle(out);
}
inline FilterHandle NewFilters(const Context& context, const std::string& entries,
                               retort_model* tokenizer = nullptr) {
  auto options = Sized<retort_chain_options>();
  options.entries = Str(entries);
  options.tokenizer = tokenizer;
  retort_filter_chain* out = nullptr;
  EXPECT_RETORT_OK(context, retort_filter_chain_create(context.get(), &options, &out));
  return FilterHandle(out);
}
inline Pipeline LoadText(const Context& context, const std::string& text) {
  auto options = Sized<retort_pipeline_options>();
  options.text = Str(text);
  retort_pipeline* out = nullptr;
  EXPECT_RETORT_OK(context, retort_pipeline_load(context.get(), &options, &out));
  return Pipeline(out);
}

// A filter chain that keeps everything of a test's size.
inline constexpr const char* kKeepAll = R"(length:{"max_chars": 1000})";

// A fresh folder of the running test.
inline std::string Scratch(const std::string& name = "") {
  const auto* test = testing::UnitTest::GetInstance()->current_test_info();
  const std::string folder =
      testing::TempDir() + "retort_library_" + test->test_suite_name() + "_" + test->name() + name;
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  return folder;
}

// Generates from a fixture, filters, trains a few steps; `output` is the run's folder.
std::string TinyPipeline(const std::string& output);

// Completions of a few prompts as sample lines, in order.
struct Generated {
  std::vector<std::string> lines, streamed;
  retort_status status = 0;
};
Generated Generate(retort_model* model, const std::vector<std::string>& prompts,
                   const std::string& options);

inline retort_sample Sample(const char* prompt, const char* completion, const char* record,
                            uint32_t group) {
  retort_sample sample{};
  sample.prompt = retort_text(prompt);
  sample.completion = retort_text(completion);
  sample.record = retort_text(record);
  sample.group = group;
  return sample;
}

}  // namespace retort::host
