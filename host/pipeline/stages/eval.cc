// Models times tasks to scores: each model answers each task's prompts, rewards measure the
// answers, and given texts get a log-likelihood. Samples and their scores stay in the folder.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "core/base/threads.h"
#include "core/data/prompt.h"
#include "core/data/sample.h"
#include "core/json/json.h"
#include "host/chain/reward_chain.h"
#include "host/pipeline/sample_job.h"
#include "host/pipeline/scores.h"
#include "host/pipeline/stage.h"
#include "host/pipeline/stage_data.h"
#include "host/pipeline/stage_models.h"
#include "host/pipeline/stage_rewards.h"

namespace retort::host {
namespace {

// A name as part of a file's name.
std::string Slug(std::string text) {
  for (char& c : text) {
    const bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '-' || c == '_';
    if (!fine) c = '_';
  }
  constexpr size_t kMax = 40;
  return text.size() > kMax ? text.substr(text.size() - kMax) : text;
}

// One model at one task.
struct Pair {
  const StageModel* model = nullptr;
  engine::Model* weights = nullptr;
  const EvalTask* task = nullptr;
  std::vector<data::Record> records;
  std::string file;  // "samples/0-student.0-test.jsonl"
};

Status WriteScored(const RewardTable& table, const std::vector<data::Sample>& samples,
                   const RewardChain& chain, StageRun& run, const Pair& pair) {
  const std::string name = "scored" + pair.file.substr(pair.file.find('/'));
  io::FileSystem& fs = run.folder->fs();
  RETORT_RETURN_IF_ERROR(fs.MakeFolders(io::Join(run.dir, "scored")));
  std::string text;
  for (size_t i = 0; i < samples.size(); ++i) {
    json::Writer writer;
    writer.BeginObject().Field("uid", data::UidToHex(samples[i].uid));
    writer.Field("record_uid", data::UidToHex(samples[i].record_uid));
    chain.WriteFields(table, i, writer);
    text += writer.EndObject().Take() + "\n";
  }
  return io::DurableWrite(fs, io::Join(run.dir, name), text).status();
}

// Per prompt: the mean over its measured samples. Prompts without any are left out.
std::vector<double> PerPrompt(const RewardTable& table, const std::vector<data::Sample>& samples,
                              size_t column, bool as_correct) {
  std::vector<double> out;
  for (const GroupSpan& group : GroupsOf(samples)) {
    double sum = 0;
    int64_t n = 0;
    for (size_t i = group.first; i < group.first + group.n; ++i) {
      if (table.status_at(i, column) != ScoreStatus::kOk) continue;
      const double score = table.score_at(i, column);
      sum += as_correct ? (score >= 1 ? 1.0 : 0.0) : score;
      ++n;
    }
    if (n > 0) out.push_back(sum / static_cast<double>(n));
  }
  return out;
}

class TaskScorer {
 public:
  TaskScorer(StageRun& run, const Pair& pair) : run_(run), pair_(pair) {}

  Result<std::vector<ScoreRow>> Run() {
    RETORT_RETURN_IF_ERROR(Sample());
    for (const MetricSpec& metric : pair_.task->metrics) {
      RETORT_RETURN_IF_ERROR(Add(metric));
    }
    return std::move(rows_);
  }

 private:
  bool NeedsSamples() const {
    const auto& metrics = pair_.task->metrics;
    const auto needs = [](const MetricSpec& metric) { return metric.name != "loglik"; };
    return std::any_of(metrics.begin(), metrics.end(), needs);
  }

  Status Sample() {
    if (!NeedsSamples()) return OkStatus();
    const EvalTask& task = *pair_.task;
    const std::string path = io::Join(run_.dir, pair_.file);
    const SampleJob job = {.model = pair_.model,
                           .weights = pair_.weights,
                           .adapter = pair_.model->opened->adapter_index(),
                           .records = pair_.records,
                           .samples = task.samples,
                           .decoding = &task.decoding,
                           .chat = &task.chat,
                           .prefix = task.prefix,
                           .sampling = &task.sampling,
                           .seed = Derive(run_.key(), task.name).lo,
                           .unit = "samples (" + pair_.model->label + ")"};
    RETORT_RETURN_IF_ERROR(WriteSamples(run_, job, path));
    RETORT_ASSIGN_OR_RETURN(samples_, data::ReadSamples(path));
    run_.numbers.Add("samples", static_cast<double>(samples_.size()));
    return Score();
  }

  Status Score() {
    const ChainConfig& rewards = pair_.task->rewards;
    RETORT_ASSIGN_OR_RETURN(const json::Document entries,
                            ChainEntriesOf(rewards, *run_.pipeline, run_.folder->path()));
    const RngKey key = Derive(run_.key(), "rewards");
    RETORT_ASSIGN_OR_RETURN(chain_, RewardChain::Create(*run_.session, entries.root(),
                                                        {key.hi, key.lo}, rewards.key_path));
    ChainCall call;
    call.cancel = run_.options->cancel;
    call.key = {key.hi, key.lo};
    call.n_threads = ResolveThreads(static_cast<int32_t>(run_.pipeline->threads));
    call.tokenizer = pair_.model->opened->tokenizer.get();
    call.log = [this](int32_t level, std::string_view message) {
      if (level >= RETORT_LOG_WARNING) run_.Warn(std::string(message));
    };
    RETORT_ASSIGN_OR_RETURN(table_, chain_.Score(samples_, call));
    for (const RewardCounts& n : chain_.counts()) {
      run_.numbers.AddFailures(n.name, n.n_errors, n.n_timeouts);
    }
    chain_.LogFailures(call);
    RETORT_RETURN_IF_ERROR(chain_.Finish());
    if (chain_.empty()) return OkStatus();
    return WriteScored(table_, samples_, chain_, run_, pair_);
  }

  Status Add(const MetricSpec& metric) {
    if (metric.name == "loglik") return AddLogLikelihood(metric.column);
    if (metric.name == "pass@1") {
      Estimate share = Mean(PerPrompt(table_, samples_, 0, true));
      share.low = std::max(0.0, share.low);
      share.high = std::min(1.0, share.high);
      AddRow("pass@1", share);
    } else if (metric.name == "mean_length") {
      std::vector<double> lengths;
      for (const data::Sample& sample : samples_) {
        lengths.push_back(static_cast<double>(sample.completion_ids.size()));
      }
      AddRow("mean_length", Mean(lengths));
    } else {
      for (size_t i = 0; i < chain_.names().size(); ++i) {
        AddRow(chain_.names()[i], Mean(PerPrompt(table_, samples_, i, false)));
      }
    }
    return OkStatus();
  }

  // Log-likelihood per token of a column's text as the completion of the record's prompt; neither
  // the task's prefix nor a stop token belongs to it.
  Status AddLogLikelihood(const std::string& column) {
    RETORT_ASSIGN_OR_RETURN(const data::PromptOptions options,
                            PromptOptionsFor(*pair_.model, pair_.task->chat));
    std::vector<std::vector<int32_t>> ids;
    std::vector<engine::ScoreRequest> requests;
    std::vector<int64_t> first;
    for (const data::Record& record : pair_.records) {
      const std::optional<std::string> text = record.TextOf(column);
      if (!text) {
        return FailedPrecondition(record.where + ": loglik needs the column '" + column +
                                  "', which the record lacks");
      }
      RETORT_ASSIGN_OR_RETURN(data::Prompt prompt, data::BuildPrompt(record, options));
      const text::EncodeOptions plain = {.add_special_tokens = false};
      RETORT_ASSIGN_OR_RETURN(const std::vector<int32_t> more,
                              options.tokenizer->Encode(*text, plain));
      first.push_back(std::max<int64_t>(1, static_cast<int64_t>(prompt.ids.size())));
      ids.push_back(std::move(prompt.ids));
      ids.back().insert(ids.back().end(), more.begin(), more.end());
    }
    const int32_t adapter = pair_.model->opened->adapter_index();
    for (size_t i = 0; i < ids.size(); ++i) {
      requests.push_back({.ids = ids[i], .first = first[i], .adapter = adapter});
    }
    return ScoreTexts(column, requests);
  }

  Status ScoreTexts(const std::string& column, const std::vector<engine::ScoreRequest>& requests) {
    double total = 0;
    for (const engine::ScoreRequest& r : requests) total += static_cast<double>(r.ids.size());
    Stopwatch watch;
    const auto report = [&](int64_t tokens) {
      const double done = static_cast<double>(tokens);
      run_.Emit({.kind = RunEvent::Kind::kProgress,
                 .done = done,
                 .total = total,
                 .unit = "tokens (" + pair_.model->label + ")",
                 .rate = done / std::max(watch.Seconds(), 1e-9)});
    };
    RETORT_ASSIGN_OR_RETURN(const std::vector<engine::ScoreResult> results,
                            pair_.weights->Score(requests, 0, run_.options->cancel, report));
    if (run_.cancelled()) return run_.CancelledStatus();
    run_.numbers.Add("scored_tokens", total);
    run_.numbers.Add("score_seconds", watch.Seconds());
    std::vector<double> sums, counts;
    for (const engine::ScoreResult& result : results) {
      double sum = 0;
      for (const float logp : result.logp) sum += static_cast<double>(logp);
      sums.push_back(sum);
      counts.push_back(static_cast<double>(result.logp.size()));
    }
    AddRow("loglik(" + column + ")", Ratio(sums, counts));
    return OkStatus();
  }

  void AddRow(const std::string& metric, const Estimate& estimate) {
    rows_.push_back({.model = pair_.model->label,
                     .task = pair_.task->name,
                     .metric = metric,
                     .estimate = estimate});
  }

  StageRun& run_;
  const Pair& pair_;
  std::vector<data::Sample> samples_;
  RewardChain chain_;
  RewardTable table_;
  std::vector<ScoreRow> rows_;
};

Result<std::vector<ScoreRow>> EvaluateModel(StageRun& run, size_t model_index) {
  const EvalStage& config = run.stage->eval;
  const std::string& run_path = run.folder->path();
  RETORT_ASSIGN_OR_RETURN(
      const StageModel model,
      OpenStageModel(*run.session, *run.pipeline, config.models[model_index], run_path));
  RETORT_ASSIGN_OR_RETURN(const std::unique_ptr<engine::Model> weights,
                          run.session->LoadModel(*model.opened, model.storage));
  run.NoteWeights(model.label, *weights);
  std::vector<ScoreRow> rows;
  for (size_t i = 0; i < config.tasks.size(); ++i) {
    const EvalTask& task = config.tasks[i];
    RETORT_ASSIGN_OR_RETURN(const std::vector<StageData> data,
                            LoadData(*run.session, *run.pipeline, task.data, task.limit, run_path));
    Pair pair = {.model = &model,
                 .weights = weights.get(),
                 .task = &task,
                 .records = {},
                 .file = "samples/" + std::to_string(model_index) + "-" + Slug(model.label) + "." +
                         std::to_string(i) + "-" + Slug(task.name) + ".jsonl"};
    RETORT_ASSIGN_OR_RETURN(pair.records, AsRecords(data));
    if (pair.records.empty()) return FailedPrecondition("task '" + task.name + "' has no records");
    Result<std::vector<ScoreRow>> scored = TaskScorer(run, pair).Run();
    if (!scored.ok()) {
      return scored.status().WithContext("model '" + model.label + "', task '" + task.name + "'");
    }
    rows.insert(rows.end(), scored->begin(), scored->end());
  }
  return rows;
}

}  // namespace

Result<StageOutput> RunEval(StageRun& run) {
  io::FileSystem& fs = run.folder->fs();
  RETORT_RETURN_IF_ERROR(fs.MakeFolders(io::Join(run.dir, "samples")));
  run.numbers.Set("samples", 0);
  std::vector<ScoreRow> rows;
  for (size_t i = 0; i < run.stage->eval.models.size(); ++i) {
    RETORT_ASSIGN_OR_RETURN(const std::vector<ScoreRow> scored, EvaluateModel(run, i));
    rows.insert(rows.end(), scored.begin(), scored.end());
    if (run.cancelled()) return run.CancelledStatus();
  }
  StageOutput output;
  RETORT_ASSIGN_OR_RETURN(
      io::FileDigest digest,
      io::DurableWrite(fs, io::Join(run.dir, "scores.json"), WriteScores(rows)));
  digest.name = "scores.json";
  output.files.push_back(std::move(digest));
  return output;
}

}  // namespace retort::host
