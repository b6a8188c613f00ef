// Prompts to samples: every record of the data is answered `samples` times by the model.
// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <utility>

#include "host/pipeline/sample_job.h"
#include "host/pipeline/stage.h"
#include "host/pipeline/stage_data.h"
#include "host/pipeline/stage_models.h"

namespace retort::host {

Result<StageOutput> RunGenerate(StageRun& run) {
  const GenerateStage& config = run.stage->generate;
  const std::string& run_path = run.folder->path();
  RETORT_ASSIGN_OR_RETURN(const std::vector<StageData> data,
                          LoadData(*run.pipeline, config.data, config.limit, run_path));
  RETORT_ASSIGN_OR_RETURN(const std::vector<data::Record> records, AsRecords(data));
  if (records.empty()) return FailedPrecondition("the stage's data is empty");
  RETORT_ASSIGN_OR_RETURN(const StageModel model,
                          OpenStageModel(*run.session, *run.pipeline, config.model, run_path));
  RETORT_ASSIGN_OR_RETURN(const std::unique_ptr<engine::Model> weights,
                          run.session->LoadModel(*model.opened));
  const SampleJob job = {.model = &model,
                         .weights = weights.get(),
                         .records = records,
                         .samples = config.samples,
                         .max_batch = config.max_batch,
                         .chat = &config.chat,
                         .prefix = config.prefix,
                         .sampling = &config.sampling,
                         .seed = run.key().lo,
                         .path = io::Join(run.dir, "samples.jsonl")};
  RETORT_RETURN_IF_ERROR(WriteSamples(run, job));
  RETORT_ASSIGN_OR_RETURN(io::FileDigest digest, io::HashFile(job.path));
  digest.name = "samples.jsonl";
  run.numbers.Set("prompts", static_cast<double>(records.size()));
  run.numbers.Set("samples",
                  static_cast<double>(records.size()) * static_cast<double>(config.samples));
  return StageOutput{.files = {std::move(digest)}};
}

}  // namespace retort::host
