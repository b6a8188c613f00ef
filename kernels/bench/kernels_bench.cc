// GB/s and GFLOP/s of the kernels beside the bandwidth of a plain read and copy of the same run.
//   kernels_bench --benchmark_filter=Gemm       RETORT_THREADS=1 RETORT_KERNELS=avx2 lower both
// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>
#include <omp.h>
#include <stdlib.h>

#include <random>
#include <vector>

#include "retort/kernels/activation.h"
#include "retort/kernels/attention.h"
#include "retort/kernels/elementwise.h"
#include "retort/kernels/gemm.h"
#include "retort/kernels/level.h"
#include "retort/kernels/norm.h"
#include "retort/kernels/optimizer.h"
#include "retort/kernels/softmax.h"

namespace {

int Threads() {
  const char* text = getenv("RETORT_THREADS");
  return text != nullptr ? atoi(text) : omp_get_num_procs();
}

std::vector<float> Random(int64_t n) {
  std::minstd_rand rng(7);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> v(static_cast<size_t>(n));
  for (float& x : v) x = uniform(rng);
  return v;
}

void Bytes(benchmark::State& state, int64_t bytes) {
  state.counters["GB/s"] = benchmark::Counter(
      static_cast<double>(bytes) * static_cast<double>(state.iterations()) * 1e-9,
      benchmark::Counter::kIsRate);
}
void Flops(benchmark::State& state, int64_t flops) {
  state.counters["GFLOP/s"] = benchmark::Counter(
      static_cast<double>(flops) * static_cast<double>(state.iterations()) * 1e-9,
      benchmark::Counter::kIsRate);
}

// The ceiling: sum of squares reads 256 MB and does next to nothing else.
void BM_Read(benchmark::State& state) {
  const auto x = Random(64 << 20);
  const auto n = static_cast<int64_t>(x.size());
  for (auto _ : state) benchmark::DoNotOptimize(retort_sum_squares_f32(x.data(), n, Threads()));
  Bytes(state, 4 * n);
}

// Enough matrices of the shape that none is in a cache when its turn comes again.
void BM_SkinnyGemm(benchmark::State& state) {
  const int64_t m = state.range(0), o = state.range(1), i = state.range(2);
  const int64_t copies = std::max<int64_t>(1, (64 << 20) / (o * i));
  const auto x = Random(m * i), w = Random(copies * o * i);
  std::vector<float> y(static_cast<size_t>(m * o));
  const retort_skinny_gemm_shape shape = {
      .m = m, .o = o, .i = i, .x_stride = 0, .w_stride = 0, .y_stride = 0};
  int64_t turn = 0;
  for (auto _ : state) {
    retort_skinny_gemm_f32(&shape, x.data(), w.data() + turn * o * i, nullptr, y.data(), Threads());
    turn = (turn + 1) % copies;
  }
  Bytes(state, 4 * o * i);
  Flops(state, 2 * m * o * i);
}

void BM_Attention(benchmark::State& state) {
  const int64_t sequences = state.range(0), n_q = state.range(1), past = state.range(2);
  const int64_t heads = 9, kv = 3, dim = 64, keys = past + n_q;
  const auto q = Random(sequences * n_q * heads * dim);
  const auto k = Random(sequences * kv * keys * dim), v = Random(sequences * kv * keys * dim);
  std::vector<float> out(q.size());
  const retort_attention_shape shape = {.n_heads = heads,
                                        .n_kv_heads = kv,
                                        .head_dim = dim,
                                        .window = 0,
                                        .scale = 0.125,
                                        .soft_cap = 0,
                                        .kv_head_stride = keys * dim,
                                        .kv_row_stride = dim};
  std::vector<retort_attention_sequence_f32> rows;
  for (int64_t s = 0; s < sequences; ++s) {
    const int64_t at = s * n_q * heads * dim, at_kv = s * kv * keys * dim;
    rows.push_back({.q = q.data() + at,
                    .k = k.data() + at_kv,
                    .v = v.data() + at_kv,
                    .out = out.data() + at,
                    .q_stride = heads * dim,
                    .out_stride = heads * dim,
                    .n_q = n_q,
                    .n_past = past});
  }
  for (auto _ : state) {
    retort_cached_attention_f32(&shape, rows.data(), sequences, Threads());
  }
  Bytes(state, 8 * sequences * kv * keys * dim);
  Flops(state, 4 * sequences * heads * dim * (n_q * past + n_q * (n_q + 1) / 2));
}

void BM_RmsNorm(benchmark::State& state) {
  const int64_t rows = 2048, cols = state.range(0);
  const auto x = Random(rows * cols), w = Random(cols);
  std::vector<float> y(x.size()), rstd(static_cast<size_t>(rows));
  const retort_norm_shape shape = {
      .rows = rows, .groups = 1, .cols = cols, .eps = 1e-5, .offset = 0};
  for (auto _ : state) {
    retort_rms_norm_f32(&shape, x.data(), 0, w.data(), y.data(), 0, rstd.data(), Threads());
  }
  Bytes(state, 8 * rows * cols);
}

void BM_RmsNormBackward(benchmark::State& state) {
  const int64_t rows = 2048, cols = state.range(0);
  const auto x = Random(rows * cols), dy = Random(rows * cols), w = Random(cols);
  std::vector<float> dx(x.size()), rstd(static_cast<size_t>(rows), 1.0f), dw(w.size());
  const retort_norm_shape shape = {
      .rows = rows, .groups = 1, .cols = cols, .eps = 1e-5, .offset = 0};
  for (auto _ : state) {
    retort_rms_norm_backward_f32(&shape, dy.data(), 0, x.data(), 0, w.data(), rstd.data(),
                                 dx.data(), 0, 1, dw.data(), Threads());
  }
  Bytes(state, 16 * rows * cols);
}

void BM_Gated(benchmark::State& state) {
  const int64_t rows = 1024, cols = 1536;
  const auto in = Random(rows * 2 * cols);
  std::vector<float> y(static_cast<size_t>(rows * cols));
  const retort_gated_shape shape = {.rows = rows,
                                    .cols = cols,
                                    .in_stride = 2 * cols,
                                    .out_stride = 0,
                                    .kind = RETORT_KERNELS_SILU,
                                    .reserved = 0};
  for (auto _ : state) retort_gated_f32(&shape, in.data(), in.data() + cols, y.data(), Threads());
  Bytes(state, 12 * rows * cols);
}

void BM_CrossEntropy(benchmark::State& state) {
  const int64_t rows = 256, cols = state.range(0);
  auto logits = Random(rows * cols);
  const std::vector<int64_t> labels(static_cast<size_t>(rows), 5);
  std::vector<float> loss(labels.size());
  const retort_cross_entropy_shape shape = {
      .rows = rows, .cols = cols, .stride = 0, .label_smoothing = 0, .z_loss = 0};
  for (auto _ : state) {
    retort_cross_entropy_f32(&shape, logits.data(), labels.data(), nullptr, loss.data(), nullptr,
                             nullptr, Threads());
  }
  Bytes(state, 8 * rows * cols);
}

void BM_AdamW(benchmark::State& state) {
  auto p = Random(16 << 20), m = p, v = std::vector<float>(p.size(), 1.0f);
  const auto g = p;
  const retort_adamw_params h = {.learning_rate = 1e-6,
                                 .beta1 = 0.9,
                                 .beta2 = 0.999,
                                 .eps = 1e-8,
                                 .weight_decay = 0.1,
                                 .bias_correction1 = 0.1,
                                 .bias_correction2 = 0.001,
                                 .grad_scale = 1};
  const auto n = static_cast<int64_t>(p.size());
  for (auto _ : state) retort_adamw_f32(&h, p.data(), g.data(), m.data(), v.data(), n, Threads());
  Bytes(state, 28 * n);
}

// SmolLM2-135M's shapes: q, gate, down, head.
void GemmArgs(benchmark::internal::Benchmark* b) {
  for (int64_t m : {1, 2, 4, 8, 16, 32, 128}) {
    for (const auto& [o, i] : {std::pair{576, 576}, {1536, 576}, {576, 1536}, {49152, 576}}) {
      b->Args({m, o, i});
    }
  }
}

BENCHMARK(BM_Read)->UseRealTime();
BENCHMARK(BM_SkinnyGemm)->Apply(GemmArgs)->UseRealTime();
BENCHMARK(BM_Attention)->Args({1, 1, 300})->Args({16, 1, 300})->Args({1, 512, 0})->UseRealTime();
BENCHMARK(BM_RmsNorm)->Arg(576)->UseRealTime();
BENCHMARK(BM_RmsNormBackward)->Arg(576)->UseRealTime();
BENCHMARK(BM_Gated)->UseRealTime();
BENCHMARK(BM_CrossEntropy)->Arg(49152)->UseRealTime();
BENCHMARK(BM_AdamW)->UseRealTime();

}  // namespace

int main(int argc, char** argv) {
  benchmark::AddCustomContext("kernels", retort_kernels_level_name(retort_kernels_level()));
  benchmark::AddCustomContext("threads", std::to_string(Threads()));
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
