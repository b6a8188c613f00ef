// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stages/policy_reference.h"

namespace retort::host {

Result<PolicyReference> PolicyReference::Open(StageRun& run, const StageModel& base,
                                              StageTrainer& trainer) {
  const GrpoStage& config = run.stage->grpo;
  PolicyReference reference;
  if (!config.reference && config.lora && !base.opened->adapter) {
    reference.weights_ = &trainer.model();
    return reference;
  }
  StageModel model = base;
  if (config.reference) {
    RETORT_ASSIGN_OR_RETURN(
        model, OpenStageModel(*run.session, *run.pipeline, *config.reference, run.folder->path()));
  }
  RETORT_ASSIGN_OR_RETURN(reference.owned_, run.session->LoadModel(*model.opened, model.storage));
  reference.weights_ = reference.owned_.get();
  reference.adapter_ = model.opened->adapter_index();
  return reference;
}

}  // namespace retort::host
