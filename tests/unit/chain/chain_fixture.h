// A session with the probe plugins, and samples whose completions tell the probes what to do.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "host/chain/filter_chain.h"
#include "host/chain/reward_chain.h"

namespace retort::host {

inline data::Sample MakeSample(uint64_t uid, uint64_t record_uid, std::string completion,
                               std::string record = "{}") {
  data::Sample sample;
  sample.uid = uid;
  sample.record_uid = record_uid;
  sample.prompt = "p";
  sample.completion = std::move(completion);
  sample.record = std::move(record);
  return sample;
}

// Each completion a sample and a group of its own.
inline std::vector<data::Sample> Alone(const std::vector<std::string>& completions) {
  std::vector<data::Sample> samples;
  for (size_t i = 0; i < completions.size(); ++i) {
    samples.push_back(MakeSample(i + 1, i + 1, completions[i]));
  }
  return samples;
}

class ChainTest : public testing::Test {
 protected:
  ChainTest() : session_(Options()) {}
  static SessionOptions Options() {
    SessionOptions options;
    options.plugin_dir = RETORT_PROBE_DIR;
    return options;
  }

  Result<RewardChain> Rewards(const std::string& entries) {
    document_.emplace(json::Document::Parse(entries, "test").value());
    return RewardChain::Create(session_, document_->root(), {1, 2});
  }
  Result<FilterChain> Filters(const std::string& entries) {
    document_.emplace(json::Document::Parse(entries, "test").value());
    return FilterChain::Create(session_, document_->root(), {1, 2});
  }

  Session session_;
  std::optional<json::Document> document_;
  ChainCall call_;
};

// The message of a failure that must be.
template <class T>
std::string MessageOf(const Result<T>& result) {
  EXPECT_FALSE(result.ok());
  return result.ok() ? "" : result.status().message();
}

}  // namespace retort::host
