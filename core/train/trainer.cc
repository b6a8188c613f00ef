// SPDX-License-Identifier: Apache-2.0
#include "core/train/trainer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>

#include "core/base/features.h"
#include "core/base/rng.h"
#include "core/engine/edge.h"
#include "core/engine/gradients.h"
#include "core/engine/loss_chain.h"
#include "core/engine/memory.h"
#include "core/engine/pass.h"
#include "core/train/optimizer_state.h"
#include "core/train/param_groups.h"
#include "retort/kernels/optimizer.h"

namespace retort::train {
namespace {

using engine::Cancel;
using engine::MicroBatch;
using engine::StepResult;

constexpr double kClipEpsilon = 1e-6;  // torch's clip_grad_norm_

// What is trained: the base, or one adapter.
Status CheckTrained(const engine::TrainerOptions& options, const graph::Graph& graph,
                    std::span<const TensorView> params) {
  const auto n_adapters = static_cast<int32_t>(graph.adapters.size());
  if (options.adapter < -1 || options.adapter >= n_adapters) {
    return InvalidArgument("adapter " + std::to_string(options.adapter) +
                           " is to be trained; the model has " + std::to_string(n_adapters) +
                           " (-1: the base)");
  }
  for (size_t p = 0; p < params.size(); ++p) {
    const graph::Param& param = graph.params[p];
    const bool frozen = (param.flags & RETORT_PARAM_FROZEN) != 0;
    if (param.adapter != options.adapter || frozen || params[p].dtype == DType::kF32) continue;
    return Unimplemented("training runs on f32 weights; " + param.name + " is " +
                         std::string(DTypeName(params[p].dtype)) +
                         " (load the model for training, or train an adapter)");
  }
  return OkStatus();
}

Status CheckOptions(const engine::TrainerOptions& options) {
  if (options.recompute < engine::kRecomputeAuto || options.recompute > engine::kRecomputeMost) {
    return InvalidArgument("recompute is " + std::to_string(options.recompute) +
                           "; levels are 0, 1 and 2 (-1: the least that fits the memory)");
  }
  if (options.memory_limit < 0 || options.micro_batch_tokens < 0 || options.longest < 0) {
    return InvalidArgument("memory_limit, micro_batch_tokens and longest must be at least 0");
  }
  if (!(options.max_grad_norm >= 0)) {
    return InvalidArgument("max_grad_norm must be at least 0 (0: no clipping)");
  }
  if (!(options.weight_decay >= 0) || !std::isfinite(options.weight_decay)) {
    return InvalidArgument("weight_decay must be finite and at least 0");
  }
  if (options.head_rows < 0) return InvalidArgument("head_rows must be at least 0");
  return OkStatus();
}

Status CheckMicroBatch(size_t index, const MicroBatch& batch) {
  if (batch.labels.size() == batch.ids.size() && batch.weight.size() == batch.ids.size()) {
    return OkStatus();
  }
  return InvalidArgument("micro-batch " + std::to_string(index) + " has " +
                         std::to_string(batch.ids.size()) + " tokens, " +
                         std::to_string(batch.labels.size()) + " labels and " +
                         std::to_string(batch.weight.size()) + " weights; they must be equal");
}

engine::RowBatch RowsOf(const MicroBatch& batch, const PluginCallSettings& call) {
  return {.ids = batch.ids,
          .positions = batch.positions,
          .cu_seqlens = batch.cu_seqlens,
          .prefixes = batch.prefixes,
          .call = call};
}

bool IsSet(const Cancel* cancel) {
  return cancel != nullptr && cancel->load(std::memory_order_relaxed) != 0;
}

class TrainerImpl final : public engine::Trainer {
 public:
  TrainerImpl(const graph::Graph& graph, const engine::TrainerOptions& options, int n_threads)
      : graph_(graph),
        options_(options),
        n_threads_(n_threads),
        norms_in_one_pass_(!IsDisabled("multitensor")),
        grads_(graph, DType::kF32, options.adapter) {}

  Status Init(std::span<const TensorView> params) {
    RETORT_ASSIGN_OR_RETURN(losses_, engine::LossChain::Make(graph_, params, options_, n_threads_));
    RETORT_ASSIGN_OR_RETURN(ParamGroups groups, AssignGroups(graph_, options_));
    RETORT_ASSIGN_OR_RETURN(optimizer_, OptimizerState::Make(options_.optimizer, graph_, params,
                                                             grads_, std::move(groups)));
    recompute_ = options_.recompute >= 0 ? options_.recompute : ChooseLevel(params);
    pass_ = std::make_unique<engine::Pass>(graph_, params, engine::Mode::kTraining, n_threads_,
                                           options_.adapter, recompute_);
    for (size_t p = 0; p < graph_.params.size(); ++p) {
      const TensorView& grad = grads_.view(static_cast<int32_t>(p));
      if (!grads_.Wanted(static_cast<int32_t>(p))) continue;
      gradients_.push_back({.x = grad.as<float>(), .n = grad.numel()});
      trained_.push_back(static_cast<int32_t>(p));
    }
    squares_.resize(gradients_.size());
    return OkStatus();
  }

  Result<StepResult> Step(std::span<const MicroBatch> window, double learning_rate, int64_t step,
                          const Cancel* cancel) override {
    return engine::Guarded("training step", [&]() -> Result<StepResult> {
      const engine::ThreadScope threads(n_threads_);
      return DoStep(window, learning_rate, step, cancel);
    });
  }

  Result<StepResult> Evaluate(std::span<const MicroBatch> window, const Cancel* cancel) override {
    return engine::Guarded("evaluation", [&]() -> Result<StepResult> {
      const engine::ThreadScope threads(n_threads_);
      RETORT_ASSIGN_OR_RETURN(StepResult result, CountWindow(window));
      if (result.label_tokens == 0) return result;
      losses_->BeginWindow(window);
      router_ = {};
      for (const MicroBatch& batch : window) {
        if (IsSet(cancel)) return Cancelled("evaluation was stopped");
        const TensorView hidden = Forward(batch, OpSettings(-1, &batch - window.data(), cancel));
        RETORT_RETURN_IF_ERROR(losses_->Run(batch, hidden, nullptr, nullptr, Settings(-1, cancel),
                                            pass_->HeadMemory()));
        AddRouterLoss(ShareOf(batch, result.tokens));
      }
      FillLosses(result);
      return result;
    });
  }

  int32_t recompute() const override { return recompute_; }
  std::vector<engine::StateTensor> State() override { return optimizer_->Views(); }
  Result<std::string> SaveScalars() override { return optimizer_->SaveScalars(); }
  Status LoadScalars(std::string_view bytes) override { return optimizer_->LoadScalars(bytes); }

  std::vector<engine::StateTensor> Gradients() override {
    std::vector<engine::StateTensor> views;
    for (size_t p = 0; p < graph_.params.size(); ++p) {
      const auto index = static_cast<int32_t>(p);
      if (grads_.Wanted(index)) views.push_back({graph_.params[p].name, grads_.view(index)});
    }
    return views;
  }

 private:
  int32_t ChooseLevel(std::span<const TensorView> params) const {
    constexpr int64_t kUsualTokens = 2048;
    std::vector<DType> dtypes;
    for (const TensorView& param : params) dtypes.push_back(param.dtype);
    const int64_t tokens =
        options_.micro_batch_tokens > 0 ? options_.micro_batch_tokens : kUsualTokens;
    return engine::ChooseRecompute(
        graph_,
        {.tokens = tokens,
         .micro_batches = options_.micro_batches,
         .head_rows = options_.head_rows,
         .adapter = options_.adapter,
         .state_bytes = optimizer_->bytes(),
         .n_losses = std::max<int64_t>(1, static_cast<int64_t>(options_.losses.size())),
         .longest = options_.longest,
         .n_threads = n_threads_,
         .dtypes = dtypes},
        options_.memory_limit);
  }

  Result<StepResult> DoStep(std::span<const MicroBatch> window, double learning_rate, int64_t step,
                            const Cancel* cancel) {
    RETORT_ASSIGN_OR_RETURN(StepResult result, CountWindow(window));
    if (result.label_tokens == 0) return result;
    RETORT_RETURN_IF_ERROR(Accumulate(window, step, cancel));
    FillLosses(result);
    result.grad_norm = GradientNorm();
    if (!std::isfinite(result.loss) || !std::isfinite(result.grad_norm)) {
      const std::string tensor = FirstNonFinite();  // of the whole window
      return DataLoss("loss " + std::to_string(result.loss) + ", gradient norm " +
                      std::to_string(result.grad_norm) + tensor + Culprit(window, step, cancel) +
                      "; no weight was changed. Lower the learning rate, or look at this batch");
    }
    const double limit = options_.max_grad_norm;
    const double scale = limit > 0 ? std::min(1.0, limit / (result.grad_norm + kClipEpsilon)) : 1.0;
    RETORT_RETURN_IF_ERROR(optimizer_->Step(
        {.learning_rate = learning_rate, .grad_scale = static_cast<float>(scale), .step = step},
        Settings(step, nullptr)));
    return result;
  }

  // Tokens and labels of the whole window, known before its first micro-batch runs.
  Result<StepResult> CountWindow(std::span<const MicroBatch> window) const {
    StepResult result;
    for (size_t i = 0; i < window.size(); ++i) {
      RETORT_RETURN_IF_ERROR(CheckMicroBatch(i, window[i]));
      result.tokens += static_cast<int64_t>(window[i].ids.size());
      result.label_tokens += losses_->CountLabels(window[i]);
    }
    // Nothing to learn: the reason why loss and gradient are 0, and why no update was made.
    static constexpr std::array<engine::StepMetric, 1> kNoLabels = {{{"no_labels", 1}}};
    if (result.label_tokens == 0) result.metrics = kNoLabels;
    return result;
  }

  Status Accumulate(std::span<const MicroBatch> window, int64_t step, const Cancel* cancel) {
    BeginWindow(window);
    lends_ = lends_ && window.size() == 1;
    for (size_t i = 0; i < window.size(); ++i) {
      if (IsSet(cancel)) return Cancelled("training step was stopped before its update");
      RETORT_RETURN_IF_ERROR(AccumulateOne(window, i, step, cancel));
    }
    grads_.Finish();
    if (IsSet(cancel)) return Cancelled("training step was stopped before its update");
    return OkStatus();
  }

  void BeginWindow(std::span<const MicroBatch> window) {
    losses_->BeginWindow(window);
    grads_.Begin();
    router_ = {};
  }

  // Micro-batch `index` of the window: its losses, and its part of the gradients.
  Status AccumulateOne(std::span<const MicroBatch> window, size_t index, int64_t step,
                       const Cancel* cancel) {
    const MicroBatch& batch = window[index];
    if (losses_->CountLabels(batch) == 0) return OkStatus();
    const double share = ShareOf(batch, TokensWithLabels(window));
    const PluginCallSettings op = OpSettings(step, static_cast<int64_t>(index), cancel);
    const TensorView hidden = Forward(batch, op);
    const TensorView d_hidden = pass_->HiddenGradient();
    const Status lost = losses_->Run(batch, hidden, &d_hidden, &grads_, Settings(step, cancel),
                                     pass_->HeadMemory());
    if (!lost.ok()) return lost.WithContext(Named(window, index));
    AddRouterLoss(share);
    pass_->Backward(grads_, share);
    return OkStatus();
  }

  static std::string Named(std::span<const MicroBatch> window, size_t index) {
    return "micro-batch " + std::to_string(index + 1) + " of " + std::to_string(window.size()) +
           " (" + std::to_string(window[index].cu_seqlens.size() - 1) + " documents)";
  }

  // " in micro-batch ...": which one alone has a gradient that isn't finite; or "".
  std::string Culprit(std::span<const MicroBatch> window, int64_t step, const Cancel* cancel) {
    if (window.size() == 1) return " in " + Named(window, 0);
    for (size_t i = 0; i < window.size(); ++i) {
      BeginWindow(window);
      const Status run = AccumulateOne(window, i, step, cancel);
      grads_.Finish();
      if (!run.ok() || !std::isfinite(GradientNorm())) return " in " + Named(window, i);
    }
    return "";
  }

  TensorView Forward(const MicroBatch& batch, const PluginCallSettings& call) {
    if (!lends_) return pass_->Forward(RowsOf(batch, call), nullptr);
    const engine::PassMemory::Lent lent{.data = grads_.data(),
                                        .gradients = &grads_.space(),
                                        .head_bytes = losses_->ScratchBytes(batch)};
    return pass_->Forward(RowsOf(batch, call), nullptr, &lent);
  }

  void FillLosses(StepResult& result) {
    result.loss = losses_->loss() + router_.weighted;
    metrics_.clear();
    losses_->AppendMetrics(&metrics_);
    if (pass_->has_routers()) metrics_.push_back({"aux_loss", router_.value});
    result.metrics = metrics_;
  }

  // The load-balancing loss of a window is the mean over its micro-batches, by tokens: one
  // micro-batch gives transformers' number, and accumulation doesn't change the scale.
  void AddRouterLoss(double share) {
    if (!pass_->has_routers()) return;
    const engine::RouterLoss loss = pass_->MeasureRouters();
    router_.value += share * loss.value;
    router_.weighted += share * loss.weighted;
  }
  static double ShareOf(const MicroBatch& batch, int64_t n_tokens) {
    return static_cast<double>(batch.ids.size()) / static_cast<double>(n_tokens);
  }
  int64_t TokensWithLabels(std::span<const MicroBatch> window) const {
    int64_t tokens = 0;
    for (const MicroBatch& batch : window) {
      if (losses_->CountLabels(batch) > 0) tokens += static_cast<int64_t>(batch.ids.size());
    }
    return tokens;
  }

  double GradientNorm() {
    if (norms_in_one_pass_) {
      retort_sum_squares_list_f32(gradients_.data(), static_cast<int64_t>(gradients_.size()),
                                  squares_.data(), n_threads_);
    } else {
      for (size_t i = 0; i < gradients_.size(); ++i) {
        squares_[i] = retort_sum_squares_f32(gradients_[i].x, gradients_[i].n, n_threads_);
      }
    }
    double sum = 0;
    for (double squares : squares_) sum += squares;
    return std::sqrt(sum);
  }

  // " (first in the gradient of ...)", or "". After GradientNorm.
  std::string FirstNonFinite() const {
    for (size_t i = 0; i < squares_.size(); ++i) {
      if (std::isfinite(squares_[i])) continue;
      return " (first in the gradient of " + graph_.params[static_cast<size_t>(trained_[i])].name +
             ")";
    }
    return "";
  }

  PluginCallSettings Settings(int64_t step, const Cancel* cancel) const {
    const RngKey key =
        Derive(Derive({options_.key_hi, options_.key_lo}, "step"), static_cast<uint64_t>(step));
    return {.cancel = cancel,
            .step = step,
            .key = {.hi = key.hi, .lo = key.lo},
            .n_threads = n_threads_};
  }

  // Custom ops draw anew for every micro-batch, alike in forward and backward.
  PluginCallSettings OpSettings(int64_t step, int64_t micro_batch, const Cancel* cancel) const {
    PluginCallSettings settings = Settings(step, cancel);
    const RngKey key = Derive(Derive({settings.key.hi, settings.key.lo}, "op"),
                              static_cast<uint64_t>(micro_batch));
    settings.key = {.hi = key.hi, .lo = key.lo};
    return settings;
  }

  const graph::Graph& graph_;
  const engine::TrainerOptions options_;
  const int n_threads_;
  const bool norms_in_one_pass_;
  int32_t recompute_ = 0;
  // The pass works in the gradients' memory until backward writes them. Over once a window has had
  // several micro-batches, whose sums must survive a pass: its own arena is large from then on.
  bool lends_ = !IsDisabled("arena");
  std::unique_ptr<engine::Pass> pass_;
  engine::Gradients grads_;
  std::vector<retort_tensor_f32> gradients_;  // of what is trained, in order
  std::vector<int32_t> trained_;
  std::vector<double> squares_;  // of each gradient
  std::vector<engine::StepMetric> metrics_;
  engine::RouterLoss router_;  // of the window so far
  std::unique_ptr<engine::LossChain> losses_;
  std::unique_ptr<OptimizerState> optimizer_;
};

}  // namespace

Result<std::unique_ptr<engine::Trainer>> MakeTrainer(const graph::Graph& graph,
                                                     std::span<const TensorView> params,
                                                     const engine::TrainerOptions& options,
                                                     int n_threads) {
  return engine::Guarded("preparing training", [&]() -> Result<std::unique_ptr<engine::Trainer>> {
    RETORT_RETURN_IF_ERROR(CheckOptions(options));
    RETORT_RETURN_IF_ERROR(CheckTrained(options, graph, params));
    auto trainer = std::make_unique<TrainerImpl>(graph, options, n_threads);
    RETORT_RETURN_IF_ERROR(trainer->Init(params));
    return std::unique_ptr<engine::Trainer>(std::move(trainer));
  });
}

}  // namespace retort::train
