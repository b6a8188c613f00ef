// Products with packed weights: bytes of weights per second beside a plain read, and FLOP/s, at
// SmolLM2-135M's shapes and 4096 x 4096.
//   packed_bench --benchmark_filter='q8_0/1/'      RETORT_THREADS=1 RETORT_KERNELS=avx2 lower both
// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "retort/kernels/elementwise.h"
#include "retort/kernels/level.h"
#include "retort/kernels/optimizer.h"
#include "retort/kernels/packed.h"

namespace {

constexpr const char* kTypes[] = {"f32",  "f16",  "bf16", "q8_0", "q4_0",
                                  "q4_1", "q4_k", "q6_k", "nf4"};

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

void Rate(benchmark::State& state, const char* name, int64_t per_iteration) {
  state.counters[name] = benchmark::Counter(
      static_cast<double>(per_iteration) * static_cast<double>(state.iterations()) * 1e-9,
      benchmark::Counter::kIsRate);
}

// The ceiling: sum of squares reads 256 MB and does next to nothing else.
void BM_Read(benchmark::State& state) {
  const auto x = Random(64 << 20);
  const auto n = static_cast<int64_t>(x.size());
  for (auto _ : state) benchmark::DoNotOptimize(retort_sum_squares_f32(x.data(), n, Threads()));
  Rate(state, "GB/s", 4 * n);
}

// As many copies of one matrix as make 128 MB, so that none is in a cache when its turn comes.
class Matrices {
 public:
  Matrices(int type, int64_t rows, int64_t cols) : bytes_(retort_packed_bytes(type, rows, cols)) {
    copies_ = std::max<int64_t>(1, (int64_t{128} << 20) / bytes_);
    memory_ = static_cast<uint8_t*>(
        ::operator new (static_cast<size_t>(bytes_ * copies_), std::align_val_t{64}));
    const auto w = Random(rows * cols);
    std::vector<uint8_t> file(static_cast<size_t>(rows * cols / retort_packed_block_weights(type) *
                                                  retort_packed_block_bytes(type)));
    retort_quantize(type, w.data(), rows * cols, file.data());
    retort_pack_rows(type, rows, cols, 0, rows, file.data(), memory_);
    for (int64_t c = 1; c < copies_; ++c) {
      memcpy(memory_ + c * bytes_, memory_, static_cast<size_t>(bytes_));
    }
    matrix_ = {.type = type, .exact = 0, .rows = rows, .cols = cols, .data = memory_};
  }
  ~Matrices() { ::operator delete (memory_, std::align_val_t{64}); }
  Matrices(const Matrices&) = delete;
  Matrices& operator=(const Matrices&) = delete;

  const retort_packed_matrix* Next() {
    matrix_.data = memory_ + turn_ * bytes_;
    turn_ = (turn_ + 1) % copies_;
    return &matrix_;
  }
  int64_t bytes() const { return bytes_; }

 private:
  int64_t bytes_, copies_ = 1, turn_ = 0;
  uint8_t* memory_ = nullptr;
  retort_packed_matrix matrix_{};
};

void Gemm(benchmark::State& state, int type, int64_t m, int64_t rows, int64_t cols) {
  Matrices matrices(type, rows, cols);
  const auto x = Random(m * cols);
  std::vector<float> y(static_cast<size_t>(m * rows));
  for (auto _ : state) {
    retort_packed_gemm_f32(matrices.Next(), x.data(), m, 0, nullptr, y.data(), 0, Threads());
  }
  Rate(state, "GB/s", matrices.bytes());
  Rate(state, "GFLOP/s", 2 * m * rows * cols);
}

void Transposed(benchmark::State& state, int type, int64_t m, int64_t rows, int64_t cols) {
  Matrices matrices(type, rows, cols);
  const auto dy = Random(m * rows);
  std::vector<float> dx(static_cast<size_t>(m * cols));
  for (auto _ : state) {
    retort_packed_gemm_transposed_f32(matrices.Next(), dy.data(), m, 0, 0, dx.data(), 0, Threads());
  }
  Rate(state, "GFLOP/s", 2 * m * rows * cols);
}

void Pack(benchmark::State& state, int type) {
  const int64_t rows = 1024, cols = 4096;
  const auto w = Random(rows * cols);
  std::vector<uint8_t> file(static_cast<size_t>(rows * cols / retort_packed_block_weights(type) *
                                                retort_packed_block_bytes(type)));
  retort_quantize(type, w.data(), rows * cols, file.data());
  std::vector<uint8_t> packed(static_cast<size_t>(retort_packed_bytes(type, rows, cols)));
  for (auto _ : state) retort_pack_rows(type, rows, cols, 0, rows, file.data(), packed.data());
  Rate(state, "GB/s", static_cast<int64_t>(file.size()));
}

void Register() {
  benchmark::RegisterBenchmark("read", BM_Read)->UseRealTime();
  struct Shape {
    int64_t rows, cols;
  };
  // K-quants need whole 256s of columns: 576 becomes 512 for them.
  constexpr Shape kShapes[] = {{576, 576}, {1536, 576}, {576, 1536}, {49152, 576}, {4096, 4096}};
  for (int type = 0; type < RETORT_PACKED_TYPES; ++type) {
    const std::string name = kTypes[type];
    for (int64_t m : {1, 4, 16, 512}) {
      for (const Shape& s : kShapes) {
        const int64_t cols =
            s.cols / retort_packed_block_weights(type) * retort_packed_block_weights(type);
        if (m * s.rows * cols > int64_t{10} << 30) continue;
        benchmark::RegisterBenchmark(
            (name + "/" + std::to_string(m) + "/" + std::to_string(s.rows) + "x" +
             std::to_string(cols))
                .c_str(),
            [=](benchmark::State& state) { Gemm(state, type, m, s.rows, cols); })
            ->UseRealTime();
      }
    }
    benchmark::RegisterBenchmark(
        (name + "/transposed/512/1536x512").c_str(),
        [=](benchmark::State& state) { Transposed(state, type, 512, 1536, 512); })
        ->UseRealTime();
    benchmark::RegisterBenchmark((name + "/pack").c_str(),
                                 [=](benchmark::State& state) { Pack(state, type); });
  }
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::AddCustomContext("kernels", retort_kernels_level_name(retort_kernels_level()));
  benchmark::AddCustomContext("threads", std::to_string(Threads()));
  Register();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
