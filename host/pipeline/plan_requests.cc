// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/plan_requests.h"

#include <algorithm>
#include <utility>

#include "host/pipeline/sampling.h"
#include "host/pipeline/stage_data.h"

namespace retort::host {
namespace {

constexpr size_t kUsualPromptTokens = 512;

template <class Work>
SampleJob JobOf(const Work& work, const StageModel& model) {
  return {.model = &model,
          .samples = work.samples,
          .decoding = &work.decoding,
          .chat = &work.chat,
          .prefix = work.prefix,
          .sampling = &work.sampling};
}

// The stage's own requests, or why they aren't known yet: its data is to be made by another stage,
// or holds what only a run will complain about.
Result<std::vector<engine::GenerateRequest>> Known(Session& session, const PipelineConfig& config,
                                                   const std::vector<DataRef>& refs, int64_t limit,
                                                   SampleJob job) {
  for (const DataRef& ref : refs) {
    if (!ref.stage.empty()) return NotFound("data of stage " + ref.stage);
  }
  RETORT_ASSIGN_OR_RETURN(const std::vector<StageData> data,
                          LoadData(session, config, refs, limit, ""));
  RETORT_ASSIGN_OR_RETURN(const std::vector<data::Record> records, AsRecords(data));
  job.records = records;
  RETORT_ASSIGN_OR_RETURN(const PreparedPrompts prepared, PreparePrompts(job));
  return MakeRequests(job, prepared, 0);
}

template <class Work>
Result<PlannedRequests> Planned(Session& session, const PipelineConfig& config, const Work& work,
                                const StageModel& model, int64_t records) {
  PlannedRequests planned;
  const SampleJob job = JobOf(work, model);
  RETORT_ASSIGN_OR_RETURN(planned.options, OptionsOf(job));
  Result<std::vector<engine::GenerateRequest>> known =
      Known(session, config, work.data, work.limit, job);
  if (known.ok()) {
    planned.requests = std::move(known).value();
    return planned;
  }
  engine::GenerateRequest usual;
  usual.ids.resize(kUsualPromptTokens);
  usual.n_samples = static_cast<int32_t>(work.samples);
  usual.sampling.max_tokens = static_cast<int32_t>(work.sampling.max_tokens);
  // More prompts than are decoded together make no difference.
  planned.requests.assign(static_cast<size_t>(std::min(records, work.decoding.max_batch)), usual);
  return planned;
}

}  // namespace

Result<PlannedRequests> RequestsOfStage(Session& session, const PipelineConfig& config,
                                        const GenerateStage& stage, const StageModel& model,
                                        int64_t records) {
  return Planned(session, config, stage, model, records);
}

Result<PlannedRequests> RequestsOfTask(Session& session, const PipelineConfig& config,
                                       const EvalTask& task, const StageModel& model,
                                       int64_t records) {
  return Planned(session, config, task, model, records);
}

}  // namespace retort::host
