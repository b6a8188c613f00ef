// SPDX-License-Identifier: Apache-2.0
#include "core/engine/loss_chain.h"

#include <cstring>
#include <string>
#include <utility>

#include "core/graph/value_head.h"

namespace retort::engine {
namespace {

Status CheckNames(const TrainerOptions& options) {
  if (options.losses.empty() && options.sequence_losses.empty()) {
    return InvalidArgument("training needs at least one loss");
  }
  for (const TokenLoss& token : options.losses) {
    for (const SequenceLoss& sequence : options.sequence_losses) {
      if (token.name != sequence.name) continue;
      return InvalidArgument("loss \"" + token.name +
                             "\" is in the chain twice; give one another name");
    }
  }
  return OkStatus();
}

}  // namespace

Result<std::unique_ptr<LossChain>> LossChain::Make(const graph::Graph& graph,
                                                   std::span<const TensorView> params,
                                                   const TrainerOptions& options, int n_threads) {
  RETORT_RETURN_IF_ERROR(CheckNames(options));
  auto chain = std::make_unique<LossChain>();
  if (!options.losses.empty()) {
    RETORT_RETURN_IF_ERROR(
        graph::CheckHasLmHead(graph, "loss \"" + options.losses[0].name + "\" over logits"));
    std::unique_ptr<Teacher> teacher;
    if (options.teacher != nullptr) {
      RETORT_ASSIGN_OR_RETURN(teacher, Teacher::Make(*options.teacher, graph));
    }
    RETORT_ASSIGN_OR_RETURN(chain->tokens_,
                            TokenLosses::Make(graph, params, options.losses, options.head_rows,
                                              n_threads, std::move(teacher)));
  }
  if (!options.sequence_losses.empty()) {
    const SequenceLossOptions sequence = {.head_rows = options.head_rows,
                                          .temperature = options.temperature,
                                          .max_completion_length = options.max_completion_length};
    RETORT_ASSIGN_OR_RETURN(
        chain->sequences_,
        SequenceLosses::Make(graph, params, options.sequence_losses, sequence, n_threads));
  }
  return chain;
}

int64_t LossChain::CountLabels(const MicroBatch& batch) const {
  return RunsTokens(batch) || RunsSequences(batch) ? engine::CountLabels(batch) : 0;
}

void LossChain::BeginWindow(std::span<const MicroBatch> window) {
  n_labels_ = 0;
  for (const MicroBatch& batch : window) {
    if (RunsTokens(batch)) n_labels_ += static_cast<double>(engine::CountLabels(batch));
  }
  if (tokens_) tokens_->BeginWindow();
  if (sequences_) sequences_->BeginWindow(CountSequences(window));
}

Status LossChain::Run(const MicroBatch& batch, const TensorView& hidden, const TensorView* d_hidden,
                      Gradients* grads, const PluginCallSettings& settings,
                      std::span<unsigned char> scratch) {
  if (RunsTokens(batch)) {
    RETORT_RETURN_IF_ERROR(tokens_->Run({.batch = batch,
                                         .hidden_TD = hidden,
                                         .n_labels = n_labels_,
                                         .d_hidden_TD = d_hidden,
                                         .grads = grads,
                                         .scratch = scratch},
                                        settings));
  } else if (d_hidden != nullptr) {
    std::memset(d_hidden->data, 0, static_cast<size_t>(d_hidden->bytes()));
  }
  if (!RunsSequences(batch)) return OkStatus();
  return sequences_->Run(
      {.batch = batch, .hidden_TD = hidden, .d_hidden_TD = d_hidden, .grads = grads}, settings);
}

int64_t LossChain::ScratchBytes(const MicroBatch& batch) const {
  return RunsTokens(batch) ? tokens_->ScratchBytes(engine::CountLabels(batch), batch.teacher.k) : 0;
}

double LossChain::loss() const {
  return (tokens_ ? tokens_->loss() : 0) + (sequences_ ? sequences_->loss() : 0);
}

void LossChain::AppendMetrics(std::vector<StepMetric>* metrics) {
  if (tokens_) tokens_->AppendMetrics(metrics);
  if (sequences_) sequences_->AppendMetrics(metrics);
}

}  // namespace retort::engine
