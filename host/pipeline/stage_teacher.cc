// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stage_teacher.h"

#include <cstdint>

#include "core/base/hash.h"
#include "core/io/filesystem.h"
#include "core/model/peft.h"
#include "retort/abi/draft/loss.h"

namespace retort::host {
namespace {

constexpr uint64_t kTeacherBits = RETORT_TOKEN_TEACHER_LOGITS | RETORT_TOKEN_TEACHER_TOP_K;

Status CheckEntries(const LossEntry& loss, const retort_loss_spec& spec, int64_t top_k) {
  if (top_k == 0 || spec.teacher_top_k == 0 || spec.teacher_top_k == top_k) return OkStatus();
  return InvalidArgument("loss " + loss.plugin + " wants " + std::to_string(spec.teacher_top_k) +
                         " entries of each of the teacher's rows, teacher_top_k is " +
                         std::to_string(top_k));
}

}  // namespace

Status CheckSameTokenizer(const OpenedModel& student, const OpenedModel& teacher) {
  for (const OpenedModel* model : {&student, &teacher}) {
    if (model->tokenizer != nullptr) continue;
    return InvalidArgument(model->path +
                           " has no tokenizer.json: teacher and student must encode "
                           "texts to the same ids");
  }
  if (student.tokenizer->hash() == teacher.tokenizer->hash()) return OkStatus();
  return InvalidArgument("the teacher " + teacher.path +
                         " has another tokenizer than the student " + student.path +
                         ", so their distributions can't be compared; let the teacher write text "
                         "(a generate stage) and train on that (an sft stage)");
}

Result<TeacherWants> WantsOfTeacher(Session& session, const StageConfig& stage) {
  TeacherWants wants = {.all = true};
  const int64_t top_k = stage.distill.teacher_top_k;
  for (const LossEntry& loss : stage.training()->losses) {
    RETORT_ASSIGN_OR_RETURN(const PluginInstance instance,
                            session.plugins().Create("loss", loss.plugin, loss.config, {}));
    const auto* table =
        static_cast<const retort_token_loss_v1*>(instance.interface(RETORT_TOKEN_LOSS_INTERFACE));
    const retort_loss_spec* spec = table != nullptr ? table->spec(instance.get()) : nullptr;
    if (spec == nullptr || ((spec->needs | spec->optional) & kTeacherBits) == 0) {
      wants.all = false;
      continue;
    }
    RETORT_RETURN_IF_ERROR(CheckEntries(loss, *spec, top_k));
    const double temperature = spec->teacher_temperature > 0 ? spec->teacher_temperature : 1;
    if (top_k > 0 && wants.any && temperature != wants.temperature) {
      return InvalidArgument(
          "loss " + loss.plugin + " wants the teacher's cached rows at temperature " +
          std::to_string(temperature) + ", a loss before it at " +
          std::to_string(wants.temperature) + "; give them the same, or set teacher_top_k to 0");
    }
    wants.temperature = temperature;
    wants.any = true;
  }
  return wants;
}

Status CheckDistillLosses(Session& session, const StageConfig& stage) {
  RETORT_ASSIGN_OR_RETURN(const TeacherWants wants, WantsOfTeacher(session, stage));
  if (!wants.any) {
    return InvalidArgument(
        "no loss of this stage looks at the teacher; add kd, or use an sft stage");
  }
  if (stage.distill.on_policy > 0 && !wants.all) {
    return InvalidArgument(
        "on_policy trains on the student's own samples, which a loss without a "
        "teacher would take for truth; leave only losses like kd");
  }
  return OkStatus();
}

Result<std::string> HashTeacher(const StageModel& teacher) {
  Hasher hasher;
  RETORT_ASSIGN_OR_RETURN(const std::string weights, teacher.opened->source->Fingerprint());
  hasher.UpdateSized(weights);
  hasher.UpdateSized(teacher.storage);
  if (!teacher.opened->adapter) return hasher.Hex();
  for (const std::string& path : model::AdapterFiles(teacher.opened->adapter->folder)) {
    RETORT_ASSIGN_OR_RETURN(const io::FileDigest digest, io::HashFile(path));
    hasher.UpdateSized(digest.hash);
  }
  return hasher.Hex();
}

}  // namespace retort::host
