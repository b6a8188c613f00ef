// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stages/policy_reference.h"

#include <map>
#include <string>
#include <string_view>
#include <utility>

namespace retort::host {
namespace {

// Of the policy, by the names of the reference's params.
Result<std::vector<TensorView>> Partners(std::span<const engine::StateTensor> policy,
                                         std::span<const engine::StateTensor> reference) {
  std::map<std::string_view, TensorView> by_name;
  for (const engine::StateTensor& param : policy) by_name.emplace(param.name, param.view);
  std::vector<TensorView> partners;
  for (const engine::StateTensor& param : reference) {
    const auto found = by_name.find(param.name);
    const auto fail = [&](const std::string& why) {
      return InvalidArgument("sync_ref_model: " + param.name + " of the reference " + why +
                             "; the reference can follow a policy of the same architecture only");
    };
    if (found == by_name.end()) return fail("is no param of the policy");
    const TensorView& view = found->second;
    if (view.numel() != param.view.numel() || view.shape != param.view.shape) {
      return fail("has another shape in the policy");
    }
    if (view.dtype != DType::kF32 || param.view.dtype != DType::kF32) {
      return fail("is " + std::string(DTypeName(param.view.dtype)) + " and " +
                  std::string(DTypeName(view.dtype)) + " in the policy, and both must be f32");
    }
    partners.push_back(view);
  }
  return partners;
}

}  // namespace

Status MixIntoReference(std::span<const engine::StateTensor> policy,
                        std::span<const engine::StateTensor> reference, double alpha) {
  RETORT_ASSIGN_OR_RETURN(const std::vector<TensorView> partners, Partners(policy, reference));
  const auto own = static_cast<float>(1 - alpha), other = static_cast<float>(alpha);
  for (size_t p = 0; p < partners.size(); ++p) {
    float* to = reference[p].view.as<float>();
    const float* from = partners[p].as<float>();
    for (int64_t i = 0; i < partners[p].numel(); ++i) to[i] = own * to[i] + other * from[i];
  }
  return OkStatus();
}

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
  if (config.sync_ref_model) model.storage = "f32";
  RETORT_ASSIGN_OR_RETURN(reference.owned_, run.session->LoadModel(*model.opened, model.storage));
  reference.weights_ = reference.owned_.get();
  reference.adapter_ = model.opened->adapter_index();
  if (config.sync_ref_model) {  // before the first step, rather than when the first sync is due
    RETORT_RETURN_IF_ERROR(
        Partners(trainer.model().Params(), reference.weights_->Params()).status());
  }
  return reference;
}

std::vector<engine::StateTensor> PolicyReference::State() const {
  std::vector<engine::StateTensor> state = weights_->Params();
  for (engine::StateTensor& tensor : state) tensor.name = "reference/" + tensor.name;
  return state;
}

}  // namespace retort::host
