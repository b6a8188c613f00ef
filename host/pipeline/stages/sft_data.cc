// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stages/sft_data.h"

#include <iterator>
#include <utility>

#include "core/data/packing.h"
#include "host/pipeline/stage_data.h"

namespace retort::host {
namespace {

Result<data::SftOptions> OptionsFor(const SftStage& config, const StageModel& model) {
  data::SftOptions options;
  RETORT_ASSIGN_OR_RETURN(options.prompt, PromptOptionsFor(model, config.chat));
  RETORT_ASSIGN_OR_RETURN(options.train_on, data::ParseTrainOn(config.train_on));
  RETORT_ASSIGN_OR_RETURN(options.truncation, data::ParseTruncation(config.truncation));
  options.max_length = config.max_length;
  return options;
}

Status AddEntry(const StageData& entry, const data::SftOptions& options, data::SftBuild* build) {
  for (const data::Record& record : entry.records) {
    RETORT_RETURN_IF_ERROR(data::AddRecord(record, options, build));
  }
  for (const data::Sample& sample : entry.samples) {
    RETORT_RETURN_IF_ERROR(data::AddSample(sample, options, build));
  }
  return OkStatus();
}

void ReportLeftOut(StageRun& run, const SftStage& config, const SftData& data) {
  run.numbers.Set("examples", static_cast<double>(data.build.examples.size()));
  if (data.build.too_long > 0) {
    run.numbers.Set("too_long", static_cast<double>(data.build.too_long));
    run.Warn(std::to_string(data.build.too_long) + " examples are longer than max_length " +
             std::to_string(config.max_length) + " and were dropped");
  }
  if (data.build.no_trained_token > 0) {
    run.Warn(std::to_string(data.build.no_trained_token) +
             " examples have no token to train and were dropped");
  }
}

}  // namespace

Result<data::LoaderOptions> LoaderOptionsFor(const StageRun& run, const SftStage& config) {
  data::LoaderOptions options;
  options.seed = run.pipeline->seed;
  options.stage = run.key().lo;
  options.max_length = config.max_length;
  RETORT_ASSIGN_OR_RETURN(options.packing, data::ParsePacking(config.packing));
  options.packing_window = config.packing_window;
  options.shuffle = config.shuffle;
  options.batch_tokens = config.batch_tokens;
  options.per_device = config.per_device;
  options.accumulation = config.accumulation;
  options.micro_tokens = config.micro_batch_tokens;
  return options;
}

Result<std::unique_ptr<SftData>> LoadSftData(StageRun& run, const SftStage& config,
                                             const StageModel& model) {
  RETORT_ASSIGN_OR_RETURN(
      const std::vector<StageData> entries,
      LoadData(*run.session, *run.pipeline, config.data, config.limit, run.folder->path()));
  RETORT_ASSIGN_OR_RETURN(const data::SftOptions options, OptionsFor(config, model));
  RETORT_ASSIGN_OR_RETURN(data::LoaderOptions loader, LoaderOptionsFor(run, config));
  auto data = std::make_unique<SftData>();
  for (const StageData& entry : entries) {
    const Status added = AddEntry(entry, options, &data->build);
    RETORT_RETURN_IF_ERROR(added.WithContext("data '" + entry.name + "'"));
    loader.source_ends.push_back(static_cast<int64_t>(data->build.examples.size()));
    loader.source_weights.push_back(entry.weight);
  }
  ReportLeftOut(run, config, *data);
  if (data->build.examples.empty()) {
    return FailedPrecondition(
        "no example is left to train on (data is empty, or all of it is "
        "longer than max_length or without a token to train)");
  }
  RETORT_ASSIGN_OR_RETURN(data::Loader made, data::Loader::Create(data->build.examples, loader));
  data->loader = std::make_unique<data::Loader>(std::move(made));
  data->total_steps =
      config.max_steps > 0 ? config.max_steps : data->loader->StepsOf(config.epochs);
  return data;
}

Result<std::vector<data::PackedBatch>> PackOnce(std::span<const data::SftExample> examples,
                                                data::LoaderOptions options) {
  options.shuffle = false;
  options.source_ends.clear();
  options.source_weights.clear();
  RETORT_ASSIGN_OR_RETURN(data::Loader loader, data::Loader::Create(examples, options));
  std::vector<data::PackedBatch> all;
  for (int64_t left = loader.StepsOf(int64_t{0}); left > 0; --left) {
    std::vector<data::PackedBatch> window = loader.Next();
    std::move(window.begin(), window.end(), std::back_inserter(all));
  }
  return all;
}

Result<std::unique_ptr<SftEvalData>> LoadSftEvalData(StageRun& run, const SftStage& config,
                                                     const StageModel& model) {
  auto held_back = std::make_unique<SftEvalData>();
  if (config.evaluation.data.empty()) return held_back;
  RETORT_ASSIGN_OR_RETURN(
      const std::vector<StageData> entries,
      LoadData(*run.session, *run.pipeline, config.evaluation.data, 0, run.folder->path()));
  RETORT_ASSIGN_OR_RETURN(const data::SftOptions options, OptionsFor(config, model));
  for (const StageData& entry : entries) {
    const Status added = AddEntry(entry, options, &held_back->build);
    RETORT_RETURN_IF_ERROR(added.WithContext("eval_data '" + entry.name + "'"));
  }
  const data::SftBuild& build = held_back->build;
  if (build.too_long + build.no_trained_token > 0) {
    run.Warn(std::to_string(build.too_long + build.no_trained_token) +
             " examples of eval_data are longer than max_length or have no token with a label, "
             "and were dropped");
  }
  if (build.examples.empty()) {
    return FailedPrecondition(
        "no example of eval_data is left (it is empty, or all of it is longer than max_length or "
        "without a token with a label)");
  }
  run.numbers.Set("eval_examples", static_cast<double>(build.examples.size()));
  RETORT_ASSIGN_OR_RETURN(const data::LoaderOptions loader, LoaderOptionsFor(run, config));
  RETORT_ASSIGN_OR_RETURN(held_back->batches, PackOnce(build.examples, loader));
  return held_back;
}

std::vector<engine::MicroBatch> ToMicroBatches(std::vector<data::PackedBatch> batches) {
  std::vector<engine::MicroBatch> out;
  for (data::PackedBatch& batch : batches) {
    out.push_back({.ids = std::move(batch.ids),
                   .positions = std::move(batch.positions),
                   .cu_seqlens = std::move(batch.cu_seqlens),
                   .labels = std::move(batch.labels),
                   .weight = std::move(batch.weight)});
  }
  return out;
}

}  // namespace retort::host
