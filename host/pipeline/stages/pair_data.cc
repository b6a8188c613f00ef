// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stages/pair_data.h"

#include <string>
#include <utility>

#include "host/pipeline/stage_data.h"

namespace retort::host {
namespace {

Result<data::SftOptions> OptionsFor(const StageConfig& stage, const StageModel& model) {
  data::SftOptions options;
  RETORT_ASSIGN_OR_RETURN(options.prompt, PromptOptionsFor(model, stage.sft.chat));
  RETORT_ASSIGN_OR_RETURN(options.truncation, data::ParseTruncation(stage.sft.truncation));
  options.max_length = stage.reward_model.max_length;
  return options;
}

Status AddEntry(const StageData& entry, const data::SftOptions& options, const std::string& reward,
                data::PairBuild* build) {
  for (const data::Record& record : entry.records) {
    RETORT_RETURN_IF_ERROR(data::AddPreference(record, options, build));
  }
  const std::vector<data::Sample>& samples = entry.samples;  // those of a record are adjacent
  for (size_t begin = 0, end = 0; begin < samples.size(); begin = end) {
    while (end < samples.size() && samples[end].record_uid == samples[begin].record_uid) ++end;
    const std::span<const data::Sample> group(&samples[begin], end - begin);
    RETORT_RETURN_IF_ERROR(data::AddBestAndWorst(group, options, reward, build));
  }
  return OkStatus();
}

void ReportLeftOut(StageRun& run, const data::PairBuild& build) {
  run.numbers.Set("pairs", static_cast<double>(build.pairs.size()));
  const auto say = [&](int64_t count, const char* name, const std::string& why) {
    if (count == 0) return;
    run.numbers.Set(name, static_cast<double>(count));
    run.Warn(std::to_string(count) + " pairs were left out: " + why);
  };
  say(build.build.too_long, "too_long",
      "a text is longer than max_length " + std::to_string(run.stage->reward_model.max_length));
  say(build.equal, "equal", "nothing tells their answers apart (equal texts or rewards, or none)");
  say(build.build.no_trained_token + build.build.unfinished, "unfinished",
      "an answer is empty or unfinished");
}

Status NoPairs(const std::string& reward) {
  return FailedPrecondition(
      "no pair is left to train on. Records need the columns prompt, chosen and rejected; samples "
      "need rewards that differ within a prompt" +
      (reward.empty() ? std::string() : " by '" + reward + "'"));
}

}  // namespace

Result<std::unique_ptr<PairData>> LoadPairData(StageRun& run, const StageModel& model) {
  const SftStage& config = run.stage->sft;
  const std::string& reward = run.stage->reward_model.reward;
  RETORT_ASSIGN_OR_RETURN(
      std::vector<StageData> entries,
      LoadData(*run.session, *run.pipeline, config.data, config.limit, run.folder->path()));
  RETORT_ASSIGN_OR_RETURN(const data::SftOptions options, OptionsFor(*run.stage, model));
  RETORT_ASSIGN_OR_RETURN(data::LoaderOptions loader, LoaderOptionsFor(run, config));
  auto data = std::make_unique<PairData>();
  data::PairBuild build;
  for (const StageData& entry : entries) {
    const Status added = AddEntry(entry, options, reward, &build);
    RETORT_RETURN_IF_ERROR(added.WithContext("data '" + entry.name + "'"));
    loader.source_ends.push_back(static_cast<int64_t>(build.pairs.size()));
    loader.source_weights.push_back(entry.weight);
  }
  ReportLeftOut(run, build);
  if (build.pairs.empty()) return NoPairs(reward);
  data->sft.build = std::move(build.build);
  data->pairs = std::move(build.pairs);
  RETORT_ASSIGN_OR_RETURN(data::Loader made,
                          data::Loader::Create(data->sft.build.examples, loader));
  data->sft.loader = std::make_unique<data::Loader>(std::move(made));
  data->sft.total_steps =
      config.max_steps > 0 ? config.max_steps : data->sft.loader->StepsOf(config.epochs);
  return data;
}

Result<std::unique_ptr<PairEvalData>> LoadPairEvalData(StageRun& run, const StageModel& model) {
  const SftStage& config = run.stage->sft;
  auto held_back = std::make_unique<PairEvalData>();
  if (config.evaluation.data.empty()) return held_back;
  RETORT_ASSIGN_OR_RETURN(
      const std::vector<StageData> entries,
      LoadData(*run.session, *run.pipeline, config.evaluation.data, 0, run.folder->path()));
  RETORT_ASSIGN_OR_RETURN(const data::SftOptions options, OptionsFor(*run.stage, model));
  data::PairBuild build;
  for (const StageData& entry : entries) {
    const Status added = AddEntry(entry, options, run.stage->reward_model.reward, &build);
    RETORT_RETURN_IF_ERROR(added.WithContext("eval_data '" + entry.name + "'"));
  }
  if (build.pairs.empty()) {
    return NoPairs(run.stage->reward_model.reward).WithContext("eval_data");
  }
  run.numbers.Set("eval_examples", static_cast<double>(build.pairs.size()));
  RETORT_ASSIGN_OR_RETURN(const data::LoaderOptions loader, LoaderOptionsFor(run, config));
  RETORT_ASSIGN_OR_RETURN(held_back->batches, PackOnce(build.build.examples, loader));
  held_back->pairs = std::move(build.pairs);
  return held_back;
}

std::vector<engine::MicroBatch> ToPairs(std::vector<data::PackedBatch> batches,
                                        const std::vector<data::Pair>& pairs) {
  std::vector<std::vector<data::Piece>> pieces;
  for (const data::PackedBatch& batch : batches) pieces.push_back(batch.pieces);
  std::vector<engine::MicroBatch> window = ToMicroBatches(std::move(batches));
  for (size_t i = 0; i < window.size(); ++i) {
    engine::MicroBatch& batch = window[i];
    const std::vector<int32_t> ends = std::move(batch.cu_seqlens);
    batch.cu_seqlens = {0};
    for (size_t p = 0; p < pieces[i].size(); ++p) {
      const data::Pair& pair = pairs[static_cast<size_t>(pieces[i][p].document)];
      const int32_t middle = ends[p] + static_cast<int32_t>(pair.split);
      batch.cu_seqlens.insert(batch.cu_seqlens.end(), {middle, ends[p + 1]});
      for (int32_t t = middle; t < ends[p + 1]; ++t) {
        batch.positions[static_cast<size_t>(t)] = t - middle;
      }
      batch.sequence.group_id.insert(batch.sequence.group_id.end(), 2, static_cast<int32_t>(p));
      batch.sequence.target.insert(batch.sequence.target.end(), {pair.better, pair.worse});
    }
  }
  return window;
}

}  // namespace retort::host
