// Cross-entropy of the next token, for supervised fine-tuning. Per row, with z the logits, y the
// label, p = softmax(z), lse = log sum exp z:
//   nll = lse - z[y]
//   variant nll: (1-e)*nll + e*(lse - mean z) + c*lse^2     e label_smoothing, c z_loss
//   variant dft: p[y] * nll, p[y] held constant             (dynamic fine-tuning, as TRL)
// Aux as TRL logs them: entropy (nats) and mean_token_accuracy. Letters: R rows, V vocabulary.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include "retort/kernels/softmax.h"
#include "retort/sdk/loss.h"

namespace {

using retort::sdk::Call;
using retort::sdk::LossSpec;
using retort::sdk::TokenRows;

// The kernels by element type.
template <class T>
void CrossEntropy(const retort_cross_entropy_shape& shape, T* logits, const int64_t* labels,
                  const T* weight, T* loss, T* nll, T* entropy, int n_threads) {
  if constexpr (std::is_same_v<T, double>) {
    retort_cross_entropy_f64(&shape, logits, labels, weight, loss, nll, entropy, n_threads);
  } else {
    retort_cross_entropy_f32(&shape, logits, labels, weight, loss, nll, entropy, n_threads);
  }
}

template <class T>
void Argmax(const T* x, int64_t stride, int64_t rows, int64_t cols, int32_t* out, int n_threads) {
  if constexpr (std::is_same_v<T, double>) {
    retort_row_argmax_f64(x, stride, rows, cols, out, nullptr, n_threads);
  } else {
    retort_row_argmax_f32(x, stride, rows, cols, out, nullptr, n_threads);
  }
}

template <class T>
void LogP(const T* x, int64_t stride, int64_t rows, int64_t cols, const int64_t* label, T* logp,
          int n_threads) {
  if constexpr (std::is_same_v<T, double>) {
    retort_row_logp_f64(x, stride, rows, cols, 1.0, label, logp, nullptr, n_threads);
  } else {
    retort_row_logp_f32(x, stride, rows, cols, 1.0, label, logp, nullptr, n_threads);
  }
}

constexpr const char* kSchema = R"({
  "type": "object",
  "properties": {
    "variant": {"type": "string", "enum": ["nll", "dft"], "default": "nll",
                "description": "dft weights each token by its own probability"},
    "label_smoothing": {"type": "number", "minimum": 0, "maximum": 1, "default": 0,
                        "description": "share of the target spread over the vocabulary"},
    "z_loss": {"type": "number", "minimum": 0, "default": 0,
               "description": "weight of the squared log-normaliser"}
  }
})";

class Sft {
 public:
  explicit Sft(const retort::sdk::Config& config)
      : dft_(config.String("variant") == "dft"),
        label_smoothing_(config.Double("label_smoothing")),
        z_loss_(config.Double("z_loss")) {
    if (dft_ && (label_smoothing_ > 0 || z_loss_ > 0)) {
      throw retort::sdk::Failure(RETORT_INVALID_ARGUMENT,
                                 "/variant: dft can't be combined with label_smoothing or z_loss");
    }
  }

  LossSpec Spec() const {
    return {.flags = RETORT_LOSS_F64,
            .aux_names = {"entropy", "mean_token_accuracy"},
            .scratch_per_row = 4 * sizeof(double)};
  }

  // In blocks of rows that stay in the cache while they are read several times.
  template <class T>
  void Rows(const Call& call, const TokenRows<T>& rows) {
    const int64_t block = std::min(rows.n_rows(), int64_t{kRowsPerThread} * call.n_threads());
    std::span<T> copy;
    if (!rows.want_grad) copy = call.Scratch<T>(static_cast<size_t>(block * rows.vocab()));
    for (int64_t r = 0; r < rows.n_rows(); r += block) {
      call.ThrowIfCancelled();
      Block(call, rows, r, std::min(block, rows.n_rows() - r), copy.data());
    }
  }

 private:
  static constexpr int kRowsPerThread = 8;

  // Rows [r, r + n). The kernel overwrites its logits, so without a gradient it works on a copy.
  template <class T>
  void Block(const Call& call, const TokenRows<T>& rows, int64_t r, int64_t n, T* copy) const {
    const auto size = static_cast<size_t>(n);
    const int64_t vocab = rows.vocab();
    T* logits = rows.logits[r];
    int64_t stride = rows.logits.stride;
    if (copy != nullptr) {
      for (int64_t i = 0; i < n; ++i) {
        std::memcpy(copy + i * vocab, rows.logits[r + i], static_cast<size_t>(vocab) * sizeof(T));
      }
      logits = copy;
      stride = vocab;
    }
    const std::span<int64_t> labels = call.Scratch<int64_t>(size);
    const std::span<T> weight = call.Scratch<T>(size), loss = call.Scratch<T>(size),
                       entropy = call.Scratch<T>(size);
    for (size_t i = 0; i < size; ++i) {
      const size_t row = static_cast<size_t>(r) + i;
      weight[i] = rows.weight[row];
      labels[i] = weight[i] == 0 ? -1 : *rows.labels[static_cast<int64_t>(row)];
    }
    if (rows.aux) Accuracy<T>(call, rows, r, n, logits, stride, labels);
    if (dft_) WeightByProbability<T>(call, logits, stride, vocab, labels, weight);
    const retort_cross_entropy_shape shape = {.rows = n,
                                              .cols = vocab,
                                              .stride = stride,
                                              .label_smoothing = label_smoothing_,
                                              .z_loss = z_loss_};
    CrossEntropy<T>(shape, logits, labels.data(), weight.data(), loss.data(), nullptr,
                    rows.aux ? entropy.data() : nullptr, call.n_threads());
    for (int64_t i = 0; i < n; ++i) {
      const T value = loss[static_cast<size_t>(i)];
      *rows.loss[r + i] = dft_ ? value * std::exp(-value) : value;
      if (rows.aux) rows.aux[r + i][0] = entropy[static_cast<size_t>(i)];
    }
  }

  template <class T>
  static void Accuracy(const Call& call, const TokenRows<T>& rows, int64_t r, int64_t n,
                       const T* logits, int64_t stride, std::span<const int64_t> labels) {
    const std::span<int32_t> best = call.Scratch<int32_t>(static_cast<size_t>(n));
    Argmax<T>(logits, stride, n, rows.vocab(), best.data(), call.n_threads());
    for (int64_t i = 0; i < n; ++i) {
      const auto index = static_cast<size_t>(i);
      rows.aux[r + i][1] = best[index] == labels[index] ? T{1} : T{0};
    }
  }

  // d(sg(p) * nll) = p * d nll.
  template <class T>
  static void WeightByProbability(const Call& call, const T* logits, int64_t stride, int64_t vocab,
                                  std::span<const int64_t> labels, std::span<T> weight) {
    const auto n = static_cast<int64_t>(weight.size());
    const std::span<T> logp = call.Scratch<T>(weight.size());
    LogP<T>(logits, stride, n, vocab, labels.data(), logp.data(), call.n_threads());
    for (size_t i = 0; i < weight.size(); ++i) weight[i] *= std::exp(logp[i]);
  }

  bool dft_;
  double label_smoothing_, z_loss_;
};

RETORT_TOKEN_LOSS("sft", Sft, "cross-entropy of the next token (label smoothing, z-loss, dft)",
                  kSchema);

}  // namespace
