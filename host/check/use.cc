// SPDX-License-Identifier: Apache-2.0
#include "host/check/use.h"

#include <functional>
#include <string_view>
#include <utility>

#include "host/check/filter_probe.h"
#include "host/check/generator_probe.h"
#include "host/check/op_run.h"
#include "host/check/optimizer_slot.h"
#include "host/check/reward_probe.h"
#include "host/check/sequence_loss_batch.h"
#include "host/check/source_probe.h"
#include "host/check/token_loss_batch.h"
#include "retort/abi/draft/family.h"

namespace retort::host::check {
namespace {

constexpr size_t kGroups = 4, kGroupSize = 3;

Status DestroyOther(const UseShape& shape) {
  return shape.destroyed_before_work == nullptr ? OkStatus()
                                                : shape.destroyed_before_work->Destroy();
}

Result<std::string> UseReward(const Subject& subject, const UseShape& shape) {
  RETORT_ASSIGN_OR_RETURN(const RewardProbe reward, RewardProbe::Make(subject, shape.call));
  RETORT_RETURN_IF_ERROR(DestroyOther(shape));
  const std::vector<CheckGroup> groups = OrdinaryGroups(subject, kGroups, kGroupSize);
  RETORT_ASSIGN_OR_RETURN(
      const RewardRun run,
      reward.Score(groups, {.growth = shape.args, .stride_extra = shape.stride_extra}));
  std::string text;
  for (size_t i = 0; i < run.score.size(); ++i) {
    text += std::to_string(run.status[i]) + " ";
    if (run.status[i] == RETORT_SCORE_OK) text += std::to_string(run.score[i]);
    text += " " + run.info[i] + "\n";
  }
  if (!reward.has_answers()) return text;
  RETORT_ASSIGN_OR_RETURN(const auto classes, reward.Classes(groups[0], shape.stride_extra));
  for (const int64_t first : classes) text += std::to_string(first) + " ";
  return text;
}

Result<std::string> UseFilter(const Subject& subject, const UseShape& shape) {
  RETORT_ASSIGN_OR_RETURN(const FilterProbe filter, FilterProbe::Make(subject, shape.call));
  RETORT_RETURN_IF_ERROR(DestroyOther(shape));
  RETORT_ASSIGN_OR_RETURN(
      const FilterRun run,
      filter.Everything(OrdinaryGroups(subject, kGroups, kGroupSize),
                        {.growth = shape.args, .stride_extra = shape.stride_extra}));
  std::string text;
  for (const FilterDecision& d : run.decisions) {
    text += std::to_string(d.action) + " " + std::to_string(d.reason_code) + " " + d.reason + " " +
            d.completion.value_or("") + " " + d.record.value_or("") + "\n";
  }
  return text;
}

Result<std::string> UseSource(const Subject& subject, const UseShape& shape) {
  RETORT_ASSIGN_OR_RETURN(SourceProbe source, SourceProbe::Make(subject, shape.call));
  RETORT_RETURN_IF_ERROR(DestroyOther(shape));
  RETORT_ASSIGN_OR_RETURN(const auto records, source.Read(20, 50));
  RETORT_RETURN_IF_ERROR(source.Save().status());
  std::string text;
  for (const SourceRecord& r : records) text += std::to_string(r.uid) + " " + r.json + "\n";
  return text;
}

Result<std::string> UseGenerator(const Subject& subject, const UseShape& shape) {
  RETORT_ASSIGN_OR_RETURN(GeneratorProbe generator, GeneratorProbe::Make(subject, shape.call));
  RETORT_RETURN_IF_ERROR(DestroyOther(shape));
  RETORT_RETURN_IF_ERROR(generator.SubmitAll(OrdinaryRequests(subject, 3), shape.stride_extra));
  RETORT_RETURN_IF_ERROR(generator.Finish());
  std::string text;
  for (const auto& [key, sample] : generator.samples()) {
    text += std::to_string(key.first) + "/" + std::to_string(key.second) + " " + sample.text + "\n";
  }
  return text;
}

Result<std::string> UseLoss(const Subject& subject, const UseShape&) {
  Rng rng = subject.Random("use");
  RETORT_ASSIGN_OR_RETURN(const TokenLoss token, TokenLoss::Open(subject));
  if (token.there()) {
    const retort_loss_spec* spec = token.spec();
    if (spec == nullptr) return InvalidArgument("spec gave NULL");
    TokenBatch batch(*spec, {.rows = 6, .vocab = 11}, InputSets(*spec).front(), &rng);
    RETORT_RETURN_IF_ERROR(token.Run(&batch));
  }
  RETORT_ASSIGN_OR_RETURN(const SequenceLoss sequence, SequenceLoss::Open(subject));
  if (sequence.there()) {
    const retort_loss_spec* spec = sequence.spec();
    if (spec == nullptr) return InvalidArgument("spec gave NULL");
    SequenceBatch batch(*spec, {3, 4}, spec->needs, Elem::kF32, &rng);
    RETORT_RETURN_IF_ERROR(sequence.Run(&batch));
  }
  return std::string();
}

Result<std::string> UseOptimizer(const Subject& subject, const UseShape&) {
  Rng rng = subject.Random("use");
  RETORT_ASSIGN_OR_RETURN(const Optimizer optimizer, Optimizer::Open(subject));
  if (!optimizer.there()) return std::string();
  const std::vector<ParamDescription> params = SomeParams();
  RETORT_ASSIGN_OR_RETURN(std::vector<Slot> slots, optimizer.Slots(params, &rng));
  RETORT_RETURN_IF_ERROR(optimizer.Step(slots, 1));
  return std::string();
}

Result<std::string> UseOp(const Subject& subject, const UseShape&) {
  Rng rng = subject.Random("use");
  RETORT_ASSIGN_OR_RETURN(const Op op, Op::Open(subject));
  if (!op.there()) return std::string();
  RETORT_ASSIGN_OR_RETURN(const OpLayout layout, op.FindLayout(subject));
  RETORT_ASSIGN_OR_RETURN(OpShapesCopy shapes, op.Infer(layout, 7, Elem::kF32));
  OpRun run(layout, std::move(shapes), {3, 4}, Elem::kF32, &rng);
  RETORT_RETURN_IF_ERROR(run.Forward(op));
  return std::string();
}

Result<std::string> UseFamily(const Subject& subject, const UseShape& shape) {
  RETORT_ASSIGN_OR_RETURN(const RawInstance family,
                          RawInstance::Create(subject, shape.call.growth));
  RETORT_ASSIGN_OR_RETURN(const auto* table,
                          family.Table<retort_family_v1>(RETORT_FAMILY_INTERFACE));
  const GuardedBytes config(std::string_view(R"({"model_type": "nobody's"})"));
  RawCall call;
  ZonedArray<int32_t> score(1, 0);
  RETORT_RETURN_IF_ERROR(
      call.End(table->match(family.get(), call.Begin(), config.str(), score.data()), "match"));
  return std::string();
}

using UseFn = Result<std::string> (*)(const Subject&, const UseShape&);
struct KindUse {
  std::string_view kind;
  bool takes_shape;
  UseFn use;
};
constexpr KindUse kUses[] = {
    {RETORT_KIND_REWARD, true, UseReward}, {RETORT_KIND_FILTER, true, UseFilter},
    {RETORT_KIND_SOURCE, true, UseSource}, {RETORT_KIND_GENERATOR, true, UseGenerator},
    {RETORT_KIND_LOSS, false, UseLoss},    {RETORT_KIND_OPTIMIZER, false, UseOptimizer},
    {RETORT_KIND_OP, false, UseOp},        {RETORT_KIND_FAMILY, false, UseFamily},
};

const KindUse* UseOf(const Subject& subject) {
  for (const KindUse& use : kUses) {
    if (use.kind == subject.kind) return &use;
  }
  return nullptr;
}

}  // namespace

Result<std::string> UseOnce(const Subject& subject, const UseShape& shape) {
  const KindUse* use = UseOf(subject);
  if (use == nullptr) return Unimplemented("no kind \"" + subject.kind + "\" is known");
  return use->use(subject, shape);
}

bool UseTakesShape(const Subject& subject) {
  const KindUse* use = UseOf(subject);
  return use != nullptr && use->takes_shape;
}

}  // namespace retort::host::check
