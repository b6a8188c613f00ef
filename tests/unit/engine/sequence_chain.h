// What tests of sequence losses share: a chain of losses over the tiny model, and its gradients
// against central differences.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "core/engine/edge.h"
#include "core/engine/loss_chain.h"
#include "core/engine/pass.h"
#include "tests/unit/engine/tiny_model.h"

namespace retort::engine::test {

inline constexpr int kThreads = 1;
inline constexpr double kTemperature = 0.8;

// A window's loss and gradients.
template <class T>
class Chain {
 public:
  Chain(TinyModel<T>& model, TrainerOptions options)
      : model_(model),
        pass_(model.graph, model.views, Mode::kTraining, kThreads),
        grads_(model.graph, sizeof(T) == 8 ? DType::kF64 : DType::kF32) {
    SetThreads(kThreads);
    options.temperature = kTemperature;
    auto made = LossChain::Make(model.graph, model.views, options, kThreads);
    EXPECT_TRUE(made.ok()) << made.status().ToString();
    losses_ = std::move(made).value();
  }

  double Run(const std::vector<MicroBatch>& window, bool want_grad) {
    losses_->BeginWindow(window);
    grads_.Begin();
    for (const MicroBatch& batch : window) {
      const TensorView hidden = pass_.Forward(RowsOf(batch), nullptr);
      const TensorView d_hidden = pass_.HiddenGradient();
      status_ = losses_->Run(batch, hidden, want_grad ? &d_hidden : nullptr,
                             want_grad ? &grads_ : nullptr, {});
      if (!status_.ok()) return 0;
      if (want_grad) pass_.Backward(grads_);
    }
    if (want_grad) grads_.Finish();
    return losses_->loss();
  }

  std::vector<T> Derivatives() const {
    std::vector<T> all;
    for (size_t p = 0; p < model_.graph.params.size(); ++p) {
      const TensorView& view = grads_.view(static_cast<int32_t>(p));
      all.insert(all.end(), view.as<T>(), view.as<T>() + view.numel());
    }
    return all;
  }
  std::vector<StepMetric> Metrics() {
    std::vector<StepMetric> metrics;
    losses_->AppendMetrics(&metrics);
    return metrics;
  }
  const Status& status() const { return status_; }

 private:
  TinyModel<T>& model_;
  Pass pass_;
  Gradients grads_;
  std::unique_ptr<LossChain> losses_;
  Status status_;
};

inline TrainerOptions Losses(std::vector<SequenceLoss> sequence, std::vector<TokenLoss> token = {},
                             int64_t head_rows = 0) {
  TrainerOptions options;
  options.sequence_losses = std::move(sequence);
  options.losses = std::move(token);
  options.head_rows = head_rows;
  return options;
}

template <class T>
void ExpectNearAll(const std::vector<T>& a, const std::vector<T>& b, double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], tolerance) << i;
}

// Of all params, the value head's too, against central differences.
inline void CheckGradientsOf(TinyModel<double>& model, const TrainerOptions& options,
                             const std::vector<MicroBatch>& window) {
  constexpr double kStep = 1e-5, kTolerance = 2e-8;
  Chain<double> chain(model, options);
  chain.Run(window, true);
  ASSERT_TRUE(chain.status().ok()) << chain.status().ToString();
  const std::vector<double> gradient = chain.Derivatives();
  size_t at = 0;
  for (size_t p = 0; p < model.storage.size(); ++p) {
    for (double& w : model.storage[p]) {
      const double kept = w;
      w = kept + kStep;
      const double above = chain.Run(window, false);
      w = kept - kStep;
      const double below = chain.Run(window, false);
      w = kept;
      ASSERT_NEAR(gradient[at], (above - below) / (2 * kStep), kTolerance)
          << model.graph.params[p].name;
      ++at;
    }
  }
}

}  // namespace retort::engine::test
