// GB/s and GFLOP/s of the kernels beside the bandwidth of a plain read and copy of the same run.
//   kernels_bench --benchmark_filter=Gemm       RETORT_THREADS=1 RETORT_KERNELS=avx2 lower both
// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>
#include <omp.h>
#include <stdlib.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <numeric>
#include <random>
#include <vector>

#include "retort/kernels/activation.h"
#include "retort/kernels/attention_train.h"
#include "retort/kernels/distill.h"
#include "retort/kernels/elementwise.h"
#include "retort/kernels/gemm.h"
#include "retort/kernels/kv_attention.h"
#include "retort/kernels/level.h"
#include "retort/kernels/norm.h"
#include "retort/kernels/optimizer.h"
#include "retort/kernels/parallel.h"
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

// The other ceiling: independent multiply-adds in registers, at the level in use; no GEMM is
// faster.
#if defined(__x86_64__)
constexpr int64_t kFmaSteps = 100000, kChains = 12;
__attribute__((target("avx2,fma"))) float FmaChains256() {
  __m256 acc[kChains];
  for (int i = 0; i < kChains; ++i) acc[i] = _mm256_set1_ps(static_cast<float>(i));
  const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
  for (int64_t step = 0; step < kFmaSteps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) acc[i] = _mm256_fmadd_ps(acc[i], a, b);
  }
  for (int i = 1; i < kChains; ++i) acc[0] = _mm256_add_ps(acc[0], acc[i]);
  return _mm256_cvtss_f32(acc[0]);
}
__attribute__((target("avx512f"))) float FmaChains512() {
  __m512 acc[kChains];
  for (int i = 0; i < kChains; ++i) acc[i] = _mm512_set1_ps(static_cast<float>(i));
  const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
  for (int64_t step = 0; step < kFmaSteps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) acc[i] = _mm512_fmadd_ps(acc[i], a, b);
  }
  for (int i = 1; i < kChains; ++i) acc[0] = _mm512_add_ps(acc[0], acc[i]);
  return _mm512_cvtss_f32(acc[0]);
}
void BM_MultiplyAdds(benchmark::State& state) {
  if (retort_kernels_level() < RETORT_KERNELS_AVX2) return state.SkipWithError("no FMA here");
  const bool wide = retort_kernels_level() == RETORT_KERNELS_AVX512;
  for (auto _ : state) {
    retort_parallel_for(
        Threads(), Threads(),
        [](void*, int64_t) {
          const bool widest = retort_kernels_level() == RETORT_KERNELS_AVX512;
          benchmark::DoNotOptimize(widest ? FmaChains512() : FmaChains256());
        },
        nullptr);
  }
  Flops(state, 2 * (wide ? 16 : 8) * kChains * kFmaSteps * Threads());
}
BENCHMARK(BM_MultiplyAdds)->UseRealTime();
#endif

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

// Attention over a blocked cache: `sequences` of `past` positions with n_q new ones each.
void BM_KvAttention(benchmark::State& state) {
  const int64_t sequences = state.range(0), n_q = state.range(1), past = state.range(2);
  const int type = static_cast<int>(state.range(3));
  const int64_t heads = 9, kv = 3, dim = 64, blocks = (past + n_q + 63) / 64;
  const int64_t side = kv * retort_kv_head_bytes(type, dim);
  std::vector<float> memory(static_cast<size_t>(sequences * blocks * side / 2 + 16));
  auto* const begin = reinterpret_cast<unsigned char*>(memory.data());
  auto* const aligned = begin + (64 - reinterpret_cast<uintptr_t>(begin) % 64) % 64;
  const retort_kv_cache cache = {.keys = aligned,
                                 .values = aligned + side,
                                 .block_stride = 2 * side,
                                 .n_kv_heads = kv,
                                 .head_dim = dim,
                                 .kv_type = type,
                                 .reserved = 0};
  std::vector<int32_t> table(static_cast<size_t>(sequences * blocks));
  std::iota(table.begin(), table.end(), 0);
  std::vector<retort_kv_sequence> rows;
  for (int64_t s = 0; s < sequences; ++s) {
    rows.push_back({.table = &table[static_cast<size_t>(s * blocks)], .n_past = 0, .n_rows = past});
  }
  const auto filled = Random(sequences * std::max(past, n_q) * kv * dim);
  retort_kv_append_f32(&cache, rows.data(), sequences, filled.data(), 0, filled.data(), 0, 1);
  for (auto& row : rows) row.n_past = past, row.n_rows = n_q;
  const auto q = Random(sequences * n_q * heads * dim);
  std::vector<float> out(q.size());
  const retort_kv_attention_shape shape = {
      .n_heads = heads, .window = 0, .scale = 0.125, .soft_cap = 0};
  for (auto _ : state) {
    retort_kv_append_f32(&cache, rows.data(), sequences, filled.data(), 0, filled.data(), 0,
                         Threads());
    retort_kv_attention_f32(&shape, &cache, rows.data(), sequences, q.data(), 0, out.data(), 0,
                            Threads());
  }
  Bytes(state, 2 * sequences * blocks * side);
  Flops(state, 4 * sequences * heads * dim * (n_q * past + n_q * (n_q + 1) / 2));
}

// Packed sequences, forward and backward; FLOPs of the visible half (2 and 5 products).
void BM_TrainAttention(benchmark::State& state) {
  const int64_t sequences = state.range(0), length = state.range(1), heads = state.range(2),
                kv = state.range(3), dim = state.range(4);
  const bool backward = state.range(5) != 0;
  const int64_t rows = sequences * length;
  std::vector<int32_t> cu_seqlens;
  for (int64_t s = 0; s <= sequences; ++s) cu_seqlens.push_back(static_cast<int32_t>(s * length));
  const retort_train_attention_shape shape = {.n_heads = heads,
                                              .n_kv_heads = kv,
                                              .head_dim = dim,
                                              .window = 0,
                                              .scale = 0.125,
                                              .soft_cap = 0,
                                              .n_sequences = sequences,
                                              .cu_seqlens = cu_seqlens.data(),
                                              .q_stride = 0,
                                              .k_stride = 0,
                                              .v_stride = 0,
                                              .out_stride = 0,
                                              .dq_stride = 0,
                                              .dk_stride = 0,
                                              .dv_stride = 0,
                                              .d_out_stride = 0};
  const auto q = Random(rows * heads * dim), k = Random(rows * kv * dim), v = k;
  auto out = q, dq = q, dk = k, dv = v;
  std::vector<float> lse(static_cast<size_t>(rows * heads));
  std::vector<float> scratch(
      static_cast<size_t>(retort_train_attention_scratch_f32(&shape, length, 1, Threads()) / 4));
  const auto forward = [&] {
    retort_train_attention_f32(&shape, q.data(), k.data(), v.data(), out.data(), lse.data(),
                               scratch.data(), Threads());
  };
  forward();
  for (auto _ : state) {
    if (!backward) {
      forward();
      continue;
    }
    retort_train_attention_backward_f32(&shape, q.data(), q.data(), k.data(), v.data(), out.data(),
                                        lse.data(), dq.data(), dk.data(), dv.data(), scratch.data(),
                                        Threads());
  }
  Flops(state, (backward ? 5 : 2) * sequences * heads * dim * length * (length + 1));
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

void BM_RmsNormBackwardFused(benchmark::State& state) {
  const int64_t rows = 2048, cols = state.range(0);
  const auto x = Random(rows * cols), dy = Random(rows * cols), w = Random(cols);
  std::vector<float> dx(x.size()), rstd(static_cast<size_t>(rows), 1.0f), dw(w.size());
  const retort_norm_shape shape = {
      .rows = rows, .groups = 1, .cols = cols, .eps = 1e-5, .offset = 0};
  std::vector<float> scratch(static_cast<size_t>(retort_rms_norm_scratch_f32(&shape) / 4));
  for (auto _ : state) {
    retort_rms_norm_backward_fused_f32(&shape, dy.data(), 0, x.data(), 0, w.data(), rstd.data(),
                                       dx.data(), 0, 1, dw.data(), scratch.data(), Threads());
  }
  Bytes(state, 16 * rows * cols);
}

void BM_GatedBackwardAgain(benchmark::State& state) {
  const int64_t rows = 1024, cols = 1536;
  auto in = Random(rows * 2 * cols);
  auto dy = Random(rows * cols);
  const retort_gated_shape shape = {.rows = rows,
                                    .cols = cols,
                                    .in_stride = 2 * cols,
                                    .out_stride = 0,
                                    .kind = RETORT_KERNELS_SILU,
                                    .reserved = 0};
  std::vector<float> d_in(in.size()), product(dy.size());
  for (auto _ : state) {
    retort_gated_backward_again_f32(&shape, in.data(), in.data() + cols, dy.data(), d_in.data(),
                                    d_in.data() + cols, product.data(), Threads());
  }
  Bytes(state, 24 * rows * cols);
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

void BM_KdRows(benchmark::State& state) {
  const int64_t rows = 128, cols = 49152;
  auto student = Random(rows * cols);
  const auto teacher = Random(rows * cols);
  std::vector<float> divergence(static_cast<size_t>(rows));
  const retort_kd_shape shape = {.rows = rows,
                                 .cols = cols,
                                 .student_stride = 0,
                                 .teacher_stride = 0,
                                 .divergence = static_cast<int32_t>(state.range(0)),
                                 .reserved = 0,
                                 .temperature = 2,
                                 .jsd_beta = 0.5,
                                 .kd_scale = 1,
                                 .ce_scale = 0};
  for (auto _ : state) {
    retort_kd_rows_f32(&shape, student.data(), teacher.data(), nullptr, nullptr, divergence.data(),
                       nullptr, nullptr, Threads());
  }
  Bytes(state, 12 * rows * cols);
}

// SmolLM2's 272 tensors as one list, or one after the other.
void BM_AdamWTensors(benchmark::State& state) {
  std::vector<int64_t> sizes = {49152 * 576, 576};
  for (int layer = 0; layer < 30; ++layer) {
    for (int64_t n : {576, 576, 576 * 576, 576 * 192, 576 * 192, 576 * 576, 576 * 1536, 576 * 1536,
                      576 * 1536}) {
      sizes.push_back(n);
    }
  }
  auto p = Random(std::accumulate(sizes.begin(), sizes.end(), int64_t{0})), m = p;
  auto v = std::vector<float>(p.size(), 1.0f);
  const auto g = p;
  const retort_adamw_params h = {.learning_rate = 1e-6,
                                 .beta1 = 0.9,
                                 .beta2 = 0.999,
                                 .eps = 1e-8,
                                 .weight_decay = 0.1,
                                 .bias_correction1 = 0.1,
                                 .bias_correction2 = 0.001,
                                 .grad_scale = 1};
  std::vector<retort_adamw_tensor_f32> list;
  int64_t at = 0;
  for (int64_t n : sizes) {
    list.push_back({.p = p.data() + at,
                    .grad = g.data() + at,
                    .m = m.data() + at,
                    .v = v.data() + at,
                    .n = n,
                    .params = &h});
    at += n;
  }
  for (auto _ : state) {
    if (state.range(0) != 0) {
      retort_adamw_list_f32(list.data(), static_cast<int64_t>(list.size()), Threads());
      continue;
    }
    for (const auto& t : list) retort_adamw_f32(&h, t.p, t.grad, t.m, t.v, t.n, Threads());
  }
  Bytes(state, 28 * at);
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

// Decoding at batch 1 and 16, and prefill; f32, bf16, int8.
void KvArgs(benchmark::internal::Benchmark* b) {
  for (int64_t type : {0, 1, 2}) {
    b->Args({1, 1, 300, type});
    b->Args({16, 1, 300, type});
    b->Args({1, 512, 0, type});
  }
}
// C1, C2, SmolLM2, C3.
void TrainArgs(benchmark::internal::Benchmark* b) {
  for (int64_t backward : {0, 1}) {
    b->Args({4, 64, 4, 2, 16, backward});
    b->Args({4, 256, 8, 2, 32, backward});
    b->Args({2, 512, 9, 3, 64, backward});
    b->Args({1, 512, 14, 2, 64, backward});
  }
}

BENCHMARK(BM_Read)->UseRealTime();
BENCHMARK(BM_SkinnyGemm)->Apply(GemmArgs)->UseRealTime();
BENCHMARK(BM_KvAttention)->Apply(KvArgs)->UseRealTime();
BENCHMARK(BM_TrainAttention)->Apply(TrainArgs)->UseRealTime();
BENCHMARK(BM_RmsNorm)->Arg(576)->UseRealTime();
BENCHMARK(BM_RmsNormBackward)->Arg(576)->UseRealTime();
BENCHMARK(BM_RmsNormBackwardFused)->Arg(576)->UseRealTime();
BENCHMARK(BM_GatedBackwardAgain)->UseRealTime();
BENCHMARK(BM_KdRows)->DenseRange(0, 3)->UseRealTime();
BENCHMARK(BM_AdamWTensors)->Arg(0)->Arg(1)->UseRealTime();
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
