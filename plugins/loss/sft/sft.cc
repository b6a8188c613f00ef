// Cross-entropy of the next token, for supervised fine-tuning. Per row, with z the logits, y the
// label, p = softmax(z), lse = log sum exp z:
//   nll = lse - z[y]
//   variant nll: (1-e)*nll + e*(lse - mean z) + c*lse^2     e label_smoothing, c z_loss
//   variant dft: p[y] * nll, p[y] held constant             (dynamic fine-tuning, as TRL)
// Aux as TRL logs them: entropy (nats) and mean_token_accuracy. Letters: R rows, V vocabulary.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <type_traits>

#include "retort/kernels/parallel.h"
#include "retort/kernels/softmax.h"
#include "retort/sdk/loss.h"

namespace {

using retort::sdk::Call;
using retort::sdk::LossSpec;
using retort::sdk::TokenRows;

// The kernels by element type, in the calling thread.
template <class T>
void CrossEntropy(const retort_cross_entropy_shape& shape, T* logits, const int64_t* labels,
                  const T* weight, T* loss, T* entropy) {
  if constexpr (std::is_same_v<T, double>) {
    retort_cross_entropy_f64(&shape, logits, labels, weight, loss, nullptr, entropy, 1);
  } else {
    retort_cross_entropy_f32(&shape, logits, labels, weight, loss, nullptr, entropy, 1);
  }
}

template <class T>
void Argmax(const T* x, int64_t stride, int64_t rows, int64_t cols, int32_t* out) {
  if constexpr (std::is_same_v<T, double>) {
    retort_row_argmax_f64(x, stride, rows, cols, out, nullptr, 1);
  } else {
    retort_row_argmax_f32(x, stride, rows, cols, out, nullptr, 1);
  }
}

template <class T>
void LogP(const T* x, int64_t stride, int64_t rows, int64_t cols, const int64_t* label, T* logp) {
  if constexpr (std::is_same_v<T, double>) {
    retort_row_logp_f64(x, stride, rows, cols, 1.0, label, logp, nullptr, 1);
  } else {
    retort_row_logp_f32(x, stride, rows, cols, 1.0, label, logp, nullptr, 1);
  }
}

// Rows that stay in the cache while they are read several times.
constexpr int64_t kBlock = 8;

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
    return {
        .flags = RETORT_LOSS_F64 | (dft_ ? RETORT_LOSS_SURROGATE : 0U),
        .aux_names = {"entropy", "mean_token_accuracy"},
    };
  }

  // One parallel region for the whole chunk: each thread takes a run of rows, block by block.
  template <class T>
  void Rows(const Call& call, const TokenRows<T>& rows) {
    const int64_t n_blocks = (rows.n_rows() + kBlock - 1) / kBlock;
    const auto n_tasks = std::min<int64_t>(call.n_threads(), n_blocks);
    const bool needs_copy = !rows.want_grad;  // the kernel overwrites what it reads
    const int64_t copy_size = needs_copy ? kBlock * rows.vocab() : 0;
    Chunk<T> chunk{.self = this,
                   .call = &call,
                   .rows = &rows,
                   .copies = call.Scratch<T>(static_cast<size_t>(n_tasks * copy_size)),
                   .n_blocks = n_blocks,
                   .n_tasks = n_tasks};
    retort_parallel_for(n_tasks, call.n_threads(), &Chunk<T>::RunTask, &chunk);
    call.ThrowIfCancelled();
  }

 private:
  // What the tasks share; each writes rows and a copy buffer of its own.
  template <class T>
  struct Chunk {
    const Sft* self;
    const Call* call;
    const TokenRows<T>* rows;
    std::span<T> copies;  // [n_tasks, kBlock, V], or empty
    int64_t n_blocks, n_tasks;

    static void RunTask(void* context, int64_t task) {
      const Chunk& c = *static_cast<const Chunk*>(context);
      T* copy = c.copies.empty() ? nullptr : c.copies.data() + task * kBlock * c.rows->vocab();
      const int64_t end = c.n_blocks * (task + 1) / c.n_tasks;
      for (int64_t b = c.n_blocks * task / c.n_tasks; b < end && !c.call->cancelled(); ++b) {
        const int64_t first = b * kBlock;
        c.self->Block(*c.rows, first, std::min(kBlock, c.rows->n_rows() - first), copy);
      }
    }
  };

  // Rows [first, first + n), n <= kBlock.
  template <class T>
  void Block(const TokenRows<T>& rows, int64_t first, int64_t n, T* copy) const {
    const int64_t vocab = rows.vocab();
    T* logits = rows.logits[first];
    int64_t stride = rows.logits.stride;
    if (copy != nullptr) {
      for (int64_t i = 0; i < n; ++i) {
        std::copy_n(rows.logits[first + i], vocab, copy + i * vocab);
      }
      logits = copy;
      stride = vocab;
    }
    std::array<int64_t, kBlock> labels;
    std::array<T, kBlock> weight, loss, entropy;
    for (int64_t i = 0; i < n; ++i) {
      const auto row = static_cast<size_t>(first + i), at = static_cast<size_t>(i);
      weight[at] = rows.weight[row];
      labels[at] = weight[at] == 0 ? -1 : *rows.labels[first + i];
    }
    if (rows.aux) Accuracy<T>(rows, first, n, logits, stride, labels.data());
    if (dft_) WeightByProbability<T>(logits, stride, n, vocab, labels.data(), weight.data());
    const retort_cross_entropy_shape shape = {.rows = n,
                                              .cols = vocab,
                                              .stride = stride,
                                              .label_smoothing = label_smoothing_,
                                              .z_loss = z_loss_};
    CrossEntropy<T>(shape, logits, labels.data(), weight.data(), loss.data(),
                    rows.aux ? entropy.data() : nullptr);
    for (int64_t i = 0; i < n; ++i) {
      const T value = loss[static_cast<size_t>(i)];
      *rows.loss[first + i] = dft_ ? value * std::exp(-value) : value;
      if (rows.aux) rows.aux[first + i][0] = entropy[static_cast<size_t>(i)];
    }
  }

  template <class T>
  static void Accuracy(const TokenRows<T>& rows, int64_t first, int64_t n, const T* logits,
                       int64_t stride, const int64_t* labels) {
    std::array<int32_t, kBlock> best;
    Argmax<T>(logits, stride, n, rows.vocab(), best.data());
    for (int64_t i = 0; i < n; ++i) {
      rows.aux[first + i][1] = best[static_cast<size_t>(i)] == labels[i] ? T{1} : T{0};
    }
  }

  // d(sg(p) * nll) = p * d nll.
  template <class T>
  static void WeightByProbability(const T* logits, int64_t stride, int64_t n, int64_t vocab,
                                  const int64_t* labels, T* weight) {
    std::array<T, kBlock> logp;
    LogP<T>(logits, stride, n, vocab, labels, logp.data());
    for (int64_t i = 0; i < n; ++i) weight[i] *= std::exp(logp[static_cast<size_t>(i)]);
  }

  bool dft_;
  double label_smoothing_, z_loss_;
};

RETORT_TOKEN_LOSS("sft", Sft, "cross-entropy of the next token (label smoothing, z-loss, dft)",
                  kSchema);

}  // namespace
