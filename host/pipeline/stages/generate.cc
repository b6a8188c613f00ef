// Prompts to samples: every record of the data is answered `samples` times, by a model or by a
// generator plugin.
// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <utility>

#include "host/pipeline/generator_job.h"
#include "host/pipeline/sample_job.h"
#include "host/pipeline/stage.h"
#include "host/pipeline/stage_data.h"
#include "host/pipeline/stage_models.h"

namespace retort::host {

static Status WriteByModel(StageRun& run, std::span<const data::Record> records,
                           const std::string& path) {
  const GenerateStage& config = run.stage->generate;
  RETORT_ASSIGN_OR_RETURN(const StageModel model, OpenStageModel(*run.session, *run.pipeline,
                                                                 config.model, run.folder->path()));
  RETORT_ASSIGN_OR_RETURN(const std::unique_ptr<engine::Model> weights,
                          run.session->LoadModel(*model.opened, model.storage));
  run.NoteWeights(model.label, *weights);
  const SampleJob job = {.model = &model,
                         .weights = weights.get(),
                         .adapter = model.opened->adapter_index(),
                         .records = records,
                         .samples = config.samples,
                         .decoding = &config.decoding,
                         .chat = &config.chat,
                         .prefix = config.prefix,
                         .sampling = &config.sampling,
                         .seed = run.key().lo};
  return WriteSamples(run, job, path);
}

Result<StageOutput> RunGenerate(StageRun& run) {
  const GenerateStage& config = run.stage->generate;
  const std::string& run_path = run.folder->path();
  RETORT_ASSIGN_OR_RETURN(
      const std::vector<StageData> data,
      LoadData(*run.session, *run.pipeline, config.data, config.limit, run_path));
  RETORT_ASSIGN_OR_RETURN(const std::vector<data::Record> records, AsRecords(data));
  if (records.empty()) return FailedPrecondition("the stage's data is empty");
  const std::string path = io::Join(run.dir, "samples.jsonl");
  RETORT_RETURN_IF_ERROR(config.generator ? WriteGeneratedSamples(run, records, path)
                                          : WriteByModel(run, records, path));
  RETORT_ASSIGN_OR_RETURN(io::FileDigest digest, io::HashFile(path));
  digest.name = "samples.jsonl";
  run.numbers.Set("prompts", static_cast<double>(records.size()));
  run.numbers.Set("samples",
                  static_cast<double>(records.size()) * static_cast<double>(config.samples));
  return StageOutput{.files = {std::move(digest)}};
}

}  // namespace retort::host
