// Training attention, forward and backward: our kernel beside LibTorch's CPU flash kernel, in turns
// on the same tensors, one sequence after the other as the latter needs it.
//   attention_bench [blocks] [threads]; a row gives the medians of times and of paired ratios.
// SPDX-License-Identifier: Apache-2.0
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "retort/kernels/attention_train.h"
#include "retort/kernels/level.h"

namespace {

struct Case {
  int64_t sequences, length, heads, kv_heads, dim;
};
// C1, C2, SmolLM2 and C3 as trained; then lengths and head sizes around them.
constexpr Case kCases[] = {{4, 64, 4, 2, 16},   {4, 256, 8, 2, 32},  {2, 512, 9, 3, 64},
                           {1, 512, 14, 2, 64}, {8, 128, 9, 3, 64},  {1, 1024, 16, 8, 128},
                           {1, 1024, 8, 8, 64}, {16, 64, 8, 2, 128}, {1, 1024, 32, 4, 80}};

std::vector<float> Random(int64_t n, unsigned seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> v(static_cast<size_t>(n));
  for (float& x : v) x = normal(rng);
  return v;
}

double Median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<long>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

class Pair {
 public:
  explicit Pair(const Case& c, int threads) : c_(c), threads_(threads) {
    const int64_t rows = c.sequences * c.length, wide = rows * c.heads * c.dim,
                  narrow = rows * c.kv_heads * c.dim;
    q_ = Random(wide, 1), k_ = Random(narrow, 2), v_ = Random(narrow, 3), d_out_ = Random(wide, 4);
    for (auto* x : {&out_, &dq_}) x->resize(q_.size());
    for (auto* x : {&dk_, &dv_}) x->resize(k_.size());
    lse_.resize(static_cast<size_t>(rows * c.heads));
    for (int64_t s = 0; s <= c.sequences; ++s) {
      cu_seqlens_.push_back(static_cast<int32_t>(s * c.length));
    }
    shape_ = {.n_heads = c.heads,
              .n_kv_heads = c.kv_heads,
              .head_dim = c.dim,
              .window = 0,
              .scale = 1 / std::sqrt(static_cast<double>(c.dim)),
              .soft_cap = 0,
              .n_sequences = c.sequences,
              .cu_seqlens = cu_seqlens_.data(),
              .q_stride = 0,
              .k_stride = 0,
              .v_stride = 0,
              .out_stride = 0,
              .dq_stride = 0,
              .dk_stride = 0,
              .dv_stride = 0,
              .d_out_stride = 0};
    const int64_t bytes = retort_train_attention_scratch_f32(&shape_, c.length, 1, threads);
    scratch_.resize(static_cast<size_t>(bytes / 4 + 16));
  }

  void Ours(bool backward) {
    void* const scratch = scratch_.data();
    if (!backward) {
      retort_train_attention_f32(&shape_, q_.data(), k_.data(), v_.data(), out_.data(), lse_.data(),
                                 scratch, threads_);
      return;
    }
    retort_train_attention_backward_f32(&shape_, d_out_.data(), q_.data(), k_.data(), v_.data(),
                                        out_.data(), lse_.data(), dq_.data(), dk_.data(),
                                        dv_.data(), scratch, threads_);
  }
  void Theirs(bool backward) {
    for (int64_t s = 0; s < c_.sequences; ++s) {
      const at::Tensor q = Rows(q_, s, c_.heads), k = Rows(k_, s, c_.kv_heads),
                       v = Rows(v_, s, c_.kv_heads);
      if (!backward) {
        std::tie(out_tensor_, lse_tensor_) =
            at::_scaled_dot_product_flash_attention_for_cpu(q, k, v, 0, true, {}, shape_.scale);
        continue;
      }
      grads_ = at::_scaled_dot_product_flash_attention_for_cpu_backward(
          Rows(d_out_, s, c_.heads), q, k, v, out_tensor_, lse_tensor_, 0, true, {}, shape_.scale);
    }
  }
  // Largest difference of dq, dk or dv of the last sequence.
  double Difference() {
    const int64_t s = c_.sequences - 1;
    const auto of = [](const at::Tensor& a, const at::Tensor& b) {
      const at::Tensor x = a.contiguous(), y = b.contiguous();
      double most = 0;
      for (int64_t i = 0; i < x.numel(); ++i) {
        most = std::max(most, std::fabs(static_cast<double>(x.const_data_ptr<float>()[i]) -
                                        static_cast<double>(y.const_data_ptr<float>()[i])));
      }
      return most;
    };
    return std::max({of(Rows(dq_, s, c_.heads), std::get<0>(grads_)),
                     of(Rows(dk_, s, c_.kv_heads), std::get<1>(grads_)),
                     of(Rows(dv_, s, c_.kv_heads), std::get<2>(grads_))});
  }
  // Of the visible half of the scores: 2 products forward, 5 backward.
  double Flops(bool backward) const {
    return static_cast<double>(c_.sequences * c_.heads * c_.length * (c_.length + 1) / 2 * c_.dim) *
           2 * (backward ? 5 : 2);
  }

 private:
  at::Tensor Rows(std::vector<float>& x, int64_t sequence, int64_t heads) const {
    return at::from_blob(x.data() + sequence * c_.length * heads * c_.dim,
                         {1, c_.length, heads, c_.dim}, at::TensorOptions().dtype(at::kFloat))
        .transpose(1, 2);
  }

  const Case c_;
  const int threads_;
  std::vector<float> q_, k_, v_, d_out_, out_, lse_, dq_, dk_, dv_, scratch_;
  std::vector<int32_t> cu_seqlens_;
  retort_train_attention_shape shape_ = {};
  at::Tensor out_tensor_, lse_tensor_;
  std::tuple<at::Tensor, at::Tensor, at::Tensor> grads_;
};

template <class Fn>
double Seconds(int repeats, Fn&& fn) {
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < repeats; ++i) fn();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / repeats;
}

void Measure(const Case& c, int blocks, int threads) {
  Pair pair(c, threads);
  for (bool backward : {false, true}) {
    const auto ours = [&] { pair.Ours(backward); };
    const auto theirs = [&] { pair.Theirs(backward); };
    ours();
    theirs();
    const int repeats = std::max(1, static_cast<int>(0.02 / Seconds(1, theirs)));
    std::vector<double> a, b, ratio;
    for (int i = 0; i < blocks; ++i) {
      a.push_back(Seconds(repeats, ours));
      b.push_back(Seconds(repeats, theirs));
      ratio.push_back(b.back() / a.back());
    }
    std::printf(
        "%2ld x %4ld, %2ld/%ld x %3ld %-8s ours %8.3f ms %6.1f GFLOP/s, flash %8.3f ms: %.2f",
        c.sequences, c.length, c.heads, c.kv_heads, c.dim, backward ? "backward" : "forward",
        Median(a) * 1e3, pair.Flops(backward) / Median(a) * 1e-9, Median(b) * 1e3, Median(ratio));
    if (backward) std::printf("  (gradients differ by %.1e)", pair.Difference());
    std::printf("\n");
  }
}

}  // namespace

int main(int argc, char** argv) {
  const c10::InferenceMode no_autograd;
  const int blocks = argc > 1 ? std::atoi(argv[1]) : 9, threads = argc > 2 ? std::atoi(argv[2]) : 2;
  at::set_num_threads(threads);
  std::printf("kernels %s, %d threads\n", retort_kernels_level_name(retort_kernels_level()),
              threads);
  for (const Case& c : kCases) Measure(c, blocks, threads);
  return 0;
}
