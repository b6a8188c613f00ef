// Instances of the probe plugin in workers, and calls of them with the outcome kept.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "core/base/plugin_call.h"
#include "host/worker/worker.h"
#include "retort/abi/filter.h"
#include "retort/abi/reward.h"

namespace retort::host {

struct Sample {
  std::string text;
  uint32_t group = 0;
};

// What one score call gave.
struct Scored {
  Status status;
  std::vector<double> score;
  std::vector<uint8_t> verdict;
  std::vector<std::string> info;
};

class WorkerTest : public testing::Test {
 protected:
  WorkerTest() { Check(plugins_.LoadFile(RETORT_PROBE)); }

  static void Check(const Status& status) { ASSERT_TRUE(status.ok()) << status.ToString(); }
  // Short enough for tests that run into it, long enough for a busy machine.
  static WorkerOptions Options(int64_t timeout_ms = 60'000) {
    WorkerOptions options;
    options.program = RETORT_WORKER_PROGRAM;
    options.timeout_ms = timeout_ms;
    return options;
  }
  Result<PluginInstance> Try(const std::string& kind, const std::string& id,
                             const std::string& config, const WorkerOptions& options) {
    return CreateIsolated(plugins_, kind, id, config, {1, 2}, options);
  }
  PluginInstance Make(const std::string& kind, const std::string& id,
                      const WorkerOptions& options = Options(), const std::string& config = "") {
    Result<PluginInstance> made = Try(kind, id, config, options);
    EXPECT_TRUE(made.ok()) << made.status().ToString();
    return std::move(made).value();
  }

  PluginCallSinks Sinks() {
    PluginCallSinks sinks;
    sinks.log = [this](int32_t, std::string_view line) { log_.emplace_back(line); };
    sinks.metric = [this](std::string_view, double sum, double) { metric_ += sum; };
    sinks.progress = [this](double fraction, std::string_view) { progress_ = fraction; };
    return sinks;
  }

  Scored Score(const PluginInstance& reward, const std::vector<Sample>& samples,
               const PluginCallSettings& settings = {}) {
    std::vector<retort_sample> views(samples.size());
    for (size_t i = 0; i < samples.size(); ++i) {
      views[i].prompt = ToStr("p");
      views[i].completion = ToStr(samples[i].text);
      views[i].record = ToStr(R"({"n": 42})");
      views[i].group = samples[i].group;
      views[i].uid = i;
    }
    return ScoreViews(reward, views, settings);
  }
  Scored Score(const PluginInstance& reward, const std::vector<std::string>& texts,
               const PluginCallSettings& settings = {}) {
    std::vector<Sample> samples;
    for (size_t i = 0; i < texts.size(); ++i) {
      samples.push_back({texts[i], static_cast<uint32_t>(i)});
    }
    return Score(reward, samples, settings);
  }
  Scored ScoreViews(const PluginInstance& reward, const std::vector<retort_sample>& views,
                    const PluginCallSettings& settings = {}) {
    Scored out;
    out.score.assign(views.size(), -1);
    out.verdict.assign(views.size(), RETORT_SCORE_ERROR);
    out.info.resize(views.size());
    retort_reward_args args{};
    args.struct_size = sizeof args;
    args.sample_stride = sizeof(retort_sample);
    args.samples = views.data();
    args.n = views.size();
    args.score = out.score.data();
    args.status = out.verdict.data();
    args.info_ctx = &out.info;
    args.info = [](void* ctx, uint64_t i, retort_str json) {
      (*static_cast<std::vector<std::string>*>(ctx))[i] = ToView(json);
    };
    const auto* table =
        static_cast<const retort_reward_v1*>(reward.interface(RETORT_REWARD_INTERFACE));
    PluginCall call(reward.name(), Sinks());
    out.status = call.End(table->score(reward.get(), call.Begin(settings), &args), "score");
    return out;
  }

  // The process id of the worker, which the probe tells.
  int PidOf(const PluginInstance& reward) {
    return static_cast<int>(Score(reward, std::vector<std::string>{"pid"}).score[0]);
  }
  // A file name that no other test uses; the file isn't there.
  static std::string Fresh(const std::string& name) {
    const std::string path =
        testing::TempDir() + "retort_worker_" + std::to_string(getpid()) + "_" + name;
    std::filesystem::remove(path);
    return path;
  }

  PluginRegistry plugins_;
  std::vector<std::string> log_;
  double metric_ = 0, progress_ = -1;
};

}  // namespace retort::host
