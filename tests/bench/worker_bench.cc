// What isolation costs: a worker's start, round trips of batches, and a trivial reward (the length
// of the completion) in a worker against the same library in this process, turn by turn.
// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/plugin_call.h"
#include "host/worker/worker.h"
#include "retort/abi/reward.h"

namespace retort::host {
namespace {

WorkerOptions Options() {
  WorkerOptions options;
  options.program = RETORT_WORKER_PROGRAM;
  return options;
}

PluginRegistry& Registry() {
  static PluginRegistry registry;
  static const Status loaded = registry.LoadFile(RETORT_BENCH_PLUGIN);
  if (!loaded.ok()) throw Error(loaded);
  return registry;
}

PluginInstance Make(bool isolated) {
  return isolated ? CreateIsolated(Registry(), "reward", "bench_length", "", {}, Options()).value()
                  : Registry().Create("reward", "bench_length", "", {}).value();
}

// A batch of samples whose prompt and completion share `bytes`.
class Batch {
 public:
  Batch(size_t n, size_t bytes) : texts_(n, std::string(bytes / 2, 'x')), samples_(n) {
    score_.resize(n);
    status_.resize(n);
    for (size_t i = 0; i < n; ++i) {
      samples_[i].prompt = samples_[i].completion = ToStr(texts_[i]);
      samples_[i].uid = i;
      samples_[i].group = static_cast<uint32_t>(i);
    }
  }
  // Seconds of one call.
  double Score(const PluginInstance& reward, PluginCall& call) {
    retort_reward_args args{};
    args.struct_size = sizeof args;
    args.sample_stride = sizeof(retort_sample);
    args.samples = samples_.data();
    args.n = samples_.size();
    args.score = score_.data();
    args.status = status_.data();
    const auto* table =
        static_cast<const retort_reward_v1*>(reward.interface(RETORT_REWARD_INTERFACE));
    const Stopwatch watch;
    const Status done = call.End(table->score(reward.get(), call.Begin(), &args), "score");
    const double seconds = watch.Seconds();
    if (!done.ok()) throw Error(done);
    return seconds;
  }

 private:
  std::vector<std::string> texts_;
  std::vector<retort_sample> samples_;
  std::vector<double> score_;
  std::vector<uint8_t> status_;
};

double Quantile(std::vector<double>& values, double q) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0
                        : values[static_cast<size_t>(q * static_cast<double>(values.size() - 1))];
}

// From nothing to an instance that can be called, and its end.
void BM_StartToReady(benchmark::State& state) {
  Registry();
  std::vector<double> seconds;
  for (auto _ : state) {
    const Stopwatch watch;
    const PluginInstance made = Make(true);
    seconds.push_back(watch.Seconds());
    state.SetIterationTime(seconds.back());
  }
  state.counters["median_ms"] = Quantile(seconds, 0.5) * 1e3;
  state.counters["p99_ms"] = Quantile(seconds, 0.99) * 1e3;
}
BENCHMARK(BM_StartToReady)->UseManualTime()->Iterations(100)->Unit(benchmark::kMillisecond);

// Arguments: samples, bytes of each. The in-process call runs turn by turn with the isolated one,
// so that both see the same machine; `ratio` is the median of the pairs' ratios.
void BM_RoundTrip(benchmark::State& state) {
  const PluginInstance isolated = Make(true), here = Make(false);
  PluginCall isolated_call("isolated"), here_call("here");
  Batch batch(static_cast<size_t>(state.range(0)), static_cast<size_t>(state.range(1)));
  for (int i = 0; i < 20; ++i) batch.Score(isolated, isolated_call);
  std::vector<double> seconds, in_process, ratios;
  for (auto _ : state) {
    in_process.push_back(batch.Score(here, here_call));
    seconds.push_back(batch.Score(isolated, isolated_call));
    ratios.push_back(seconds.back() / in_process.back());
    state.SetIterationTime(seconds.back());
  }
  const double median = Quantile(seconds, 0.5), median_here = Quantile(in_process, 0.5);
  state.counters["median_us"] = median * 1e6;
  state.counters["p99_us"] = Quantile(seconds, 0.99) * 1e6;
  state.counters["samples_per_s"] = static_cast<double>(state.range(0)) / median;
  state.counters["in_process_us"] = median_here * 1e6;
  state.counters["ratio"] = Quantile(ratios, 0.5);
}
BENCHMARK(BM_RoundTrip)
    ->Args({1, 256})
    ->Args({64, 2048})
    ->Args({512, 8192})
    ->UseManualTime()
    ->Iterations(1000)
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace retort::host

BENCHMARK_MAIN();
