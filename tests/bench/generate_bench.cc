// Tokens per second of prefill and decoding with random weights in SmolLM2-135M's shapes; on a busy
// machine the processor time of a whole call (with one thread) says more than the clock.
//   generate_bench [threads] [new tokens]
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <vector>

#include "core/base/clock.h"
#include "core/base/threads.h"
#include "core/engine/edge.h"
#include "core/engine/inference.h"
#include "core/generate/generator.h"
#include "core/model/params.h"
#include "retort/sdk/decoder.h"

namespace {

using namespace retort;  // NOLINT: a program of its own

graph::Graph SmolLM2() {
  sdk::Decoder d;
  d.V = 49152;
  d.D = 576;
  d.F = 1536;
  d.L = 30;
  d.N = 9;
  d.G = 3;
  d.H = 64;
  d.max_positions = 8192;
  d.tied_head = true;
  d.windows.assign(30, 0);
  graph::Builder builder("bench");
  sdk::GraphBuilder sdk_builder(builder.table());
  sdk::BuildDecoder(sdk_builder, d);
  return builder.Finish().value();
}

engine::GenerateRequest Request(uint64_t uid, int tokens, int new_tokens, double temperature) {
  engine::GenerateRequest request;
  request.uid = uid;
  for (int i = 0; i < tokens; ++i) request.ids.push_back((i * 37 + static_cast<int>(uid)) % 49152);
  request.sampling.max_tokens = new_tokens;
  request.sampling.temperature = temperature;
  return request;
}

void Measure(engine::Inference& inference, const graph::Graph& graph, int batch, int prompt,
             int new_tokens, double temperature, double top_p, int threads) {
  std::vector<engine::GenerateRequest> requests;
  for (int i = 0; i < batch; ++i) {
    requests.push_back(Request(static_cast<uint64_t>(i), prompt, new_tokens, temperature));
    requests.back().sampling.top_p = top_p;
  }
  engine::GenerateOptions options;
  options.max_batch = batch;
  const std::clock_t begin = std::clock();
  const engine::GenerateStats s =
      generate::Generate(inference, graph, requests, options, threads).value();
  const auto decoded = static_cast<double>(s.completion_tokens - batch);
  std::printf("batch %2d  prompt %4d  T %.1f top_p %.2f   prefill %7.1f tok/s", batch, prompt,
              temperature, top_p, static_cast<double>(s.prompt_tokens) / s.prefill_seconds);
  if (decoded > 0) {
    std::printf("   decode %7.1f tok/s (%.1f ms a step)", decoded / s.decode_seconds,
                1e3 * s.decode_seconds / (new_tokens - 1));
  }
  std::printf("   cpu %.0f ms\n", 1e3 * static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC);
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = ResolveThreads(argc > 1 ? std::atoi(argv[1]) : 0);
  const int new_tokens = argc > 2 ? std::atoi(argv[2]) : 48;
  engine::SetThreads(threads);
  const graph::Graph graph = SmolLM2();
  const model::ParamStore store = model::ParamStore::Allocate(graph).value();
  if (!model::InitParams(graph, 1, store, threads).ok()) return 1;
  engine::Inference inference(graph, store.views(), threads);
  Measure(inference, graph, 1, 16, 4, 0, 1, threads);  // warm
  for (int batch : {1, 2, 4, 8, 16, 32}) {
    Measure(inference, graph, batch, 100, new_tokens, 0, 1, threads);
  }
  Measure(inference, graph, 16, 100, new_tokens, 1, 1, threads);
  Measure(inference, graph, 16, 100, new_tokens, 0.7, 0.95, threads);
  for (int prompt : {32, 120, 512, 1024}) {
    Measure(inference, graph, 1, prompt, 1, 0, 1, threads);
  }
  return 0;
}
