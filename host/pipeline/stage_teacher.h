// The teacher of a distill stage: whether it fits the student, what the losses ask of it, and what
// names its distributions.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/base/status.h"
#include "host/pipeline/config/config.h"
#include "host/pipeline/stage_models.h"
#include "host/session/session.h"

namespace retort::host {

// INVALID_ARGUMENT unless both encode a text to the same ids; padding of either vocabulary is fine.
Status CheckSameTokenizer(const OpenedModel& student, const OpenedModel& teacher);

// What a stage's losses want of a teacher, as their plugins say.
struct TeacherWants {
  bool any = false, all = false;  // losses that look at one
  double temperature = 1;         // at which its cached rows are to be written
};
// INVALID_ARGUMENT: losses disagree about the cache, or want another number of entries.
Result<TeacherWants> WantsOfTeacher(Session& session, const StageConfig& stage);

// INVALID_ARGUMENT: no loss looks at the teacher; or one doesn't where the student's own samples
// are trained on.
Status CheckDistillLosses(Session& session, const StageConfig& stage);

// A hash of all that decides the teacher's distributions: weights, adapter, storage.
Result<std::string> HashTeacher(const StageModel& teacher);

}  // namespace retort::host
