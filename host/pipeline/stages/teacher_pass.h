// The teacher's pass over a stage's examples, before training: fills the cache that students share.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>

#include "core/base/status.h"
#include "core/data/sft_example.h"
#include "host/pipeline/stage.h"
#include "host/pipeline/stage_models.h"
#include "host/pipeline/teacher_cache.h"

namespace retort::host {

// The whole cache, every shard mapped; what was there already is not made again, and the teacher's
// weights are loaded only if something is missing. CANCELLED: whole shards stay. `examples` outlive
// it. `part`: a folder in the stage's teacher_cache; "": that one. Numbers: teacher_cache_rows,
// _bytes and _bytes_per_token; of what was made teacher_tokens, teacher_seconds.
Result<TeacherCache> FillTeacherCache(StageRun& run, const StageModel& teacher,
                                      std::span<const data::SftExample> examples,
                                      const std::string& part);

}  // namespace retort::host
