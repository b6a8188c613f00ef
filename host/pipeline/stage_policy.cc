// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stage_policy.h"

#include "retort/abi/draft/loss.h"

namespace retort::host {

Result<PolicyWants> WantsOfPolicy(Session& session, const StageConfig& stage) {
  const GrpoStage& config = stage.grpo;
  PolicyWants wants = {.reference = config.kl_coef > 0};
  for (const LossEntry& loss : config.losses) {
    RETORT_ASSIGN_OR_RETURN(const PluginInstance instance,
                            session.plugins().Create("loss", loss.plugin, loss.config, {}));
    const auto* table = static_cast<const retort_sequence_loss_v1*>(
        instance.interface(RETORT_SEQUENCE_LOSS_INTERFACE));
    if (table != nullptr) {
      const uint64_t needs = table->spec(instance.get())->needs;
      wants.reference = wants.reference || (needs & RETORT_SEQUENCE_REF_LOGP) != 0;
    } else if (config.cold_start && loss.name.empty()) {
      return InvalidArgument("loss " + loss.plugin +
                             " is one over tokens, and those of cold_start have the only one; "
                             "leave one of the two out");
    }
  }
  if (config.sync_ref_model && !wants.reference) {
    return InvalidArgument(
        "sync_ref_model: nothing looks at the reference; set beta of the loss or kl_coef above 0, "
        "or leave it out");
  }
  return wants;
}

}  // namespace retort::host
