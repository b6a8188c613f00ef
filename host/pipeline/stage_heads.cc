// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stage_heads.h"

#include <cstdint>
#include <string>

#include "retort/abi/draft/loss.h"

namespace retort::host {
namespace {

constexpr uint64_t kValues = RETORT_SEQUENCE_VALUE | RETORT_SEQUENCE_VALUE_AFTER;

}  // namespace

Heads HeadsOf(const StageConfig& stage) {
  if (stage.kind == StageKind::kRewardModel) return Heads::kValueOnly;
  const bool ppo = stage.kind == StageKind::kGrpo && stage.grpo.algorithm == "ppo";
  return ppo ? Heads::kValueToo : Heads::kAsSaved;
}

Heads HeadsOf(const ModelRef& ref, const PipelineConfig& config) {
  const StageConfig* stage = ref.stage.empty() ? nullptr : config.FindStage(ref.stage);
  if (stage == nullptr) return Heads::kAsSaved;
  const Heads heads = HeadsOf(*stage);
  return heads == Heads::kAsSaved ? HeadsOf(stage->training()->model, config) : heads;
}

Status CheckLossHeads(Session& session, const StageConfig& stage, const graph::Graph& graph) {
  for (const LossEntry& loss : stage.training()->losses) {
    RETORT_ASSIGN_OR_RETURN(const PluginInstance instance,
                            session.plugins().Create("loss", loss.plugin, loss.config, {}));
    const auto* table = static_cast<const retort_sequence_loss_v1*>(
        instance.interface(RETORT_SEQUENCE_LOSS_INTERFACE));
    const retort_loss_spec* spec = table != nullptr ? table->spec(instance.get()) : nullptr;
    const uint64_t needs = spec != nullptr ? spec->needs : 0;
    if ((needs & kValues) != 0 && graph.value_head < 0) {
      return InvalidArgument("loss " + loss.plugin +
                             " needs values, and this model has no value head to give them; use "
                             "it in a stage that adds one (reward_model, or grpo with ppo)");
    }
    if (stage.kind == StageKind::kRewardModel && (needs & kValues) == 0) {
      return InvalidArgument("loss " + loss.plugin +
                             " looks at no values, and a reward model has nothing else; use "
                             "bradley_terry");
    }
  }
  return OkStatus();
}

}  // namespace retort::host
