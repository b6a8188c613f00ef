// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/sample_job.h"

#include <algorithm>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/data/prompt.h"
#include "core/data/sample.h"
#include "core/engine/kv_dtype.h"
#include "host/pipeline/ordered_samples.h"

namespace retort::host {
namespace {

std::string FinishName(engine::Finish finish) {
  switch (finish) {
    case engine::Finish::kStop: return "stop";
    case engine::Finish::kLength: return "length";
    case engine::Finish::kCancelled: return "cancelled";
    case engine::Finish::kError: return "error";
  }
  return "error";
}

struct PreparedPrompts {
  std::vector<data::Prompt> prompts;  // of the job's records
  std::vector<int32_t> prefix;
};

Result<PreparedPrompts> Prepare(const SampleJob& job) {
  RETORT_ASSIGN_OR_RETURN(const data::PromptOptions options,
                          PromptOptionsFor(*job.model, *job.chat));
  PreparedPrompts out;
  for (const data::Record& record : job.records) {
    RETORT_ASSIGN_OR_RETURN(data::Prompt prompt, data::BuildPrompt(record, options));
    if (prompt.ids.empty()) return FailedPrecondition(record.where + ": the prompt is empty");
    out.prompts.push_back(std::move(prompt));
  }
  if (job.prefix.empty()) return out;
  const text::EncodeOptions plain = {.add_special_tokens = false};
  RETORT_ASSIGN_OR_RETURN(out.prefix, options.tokenizer->Encode(job.prefix, plain));
  return out;
}

// Collects completions as they come, writes them in order.
class OrderedWriter {
 public:
  OrderedWriter(StageRun& run, const SampleJob& job, const PreparedPrompts& prepared,
                OrderedSamples file)
      : run_(run), job_(job), prepared_(prepared), file_(std::move(file)) {
    for (size_t i = 0; i < job.records.size(); ++i) record_of_[job.records[i].uid] = i;
  }

  void Take(const engine::Completion& completion) {
    Mirror();
    if (completion.finish == engine::Finish::kCancelled) return;
    const size_t record = record_of_.at(completion.uid);
    const size_t position = SampleOrder{job_.records, job_.samples}.At(record, completion.index);
    if (file_.Has(position)) return;  // written before the stop
    if (completion.finish == engine::Finish::kError && errors_++ == 0) {
      run_.Warn(job_.records[record].where + ": " + completion.error);
    }
    if (status_.ok()) {
      status_ = file_.Add(position, data::SampleToJson(MakeSample(record, completion)));
    }
    if (!status_.ok()) stop_.store(1);
    Report();
  }

  void Progress(int64_t tokens) {
    Mirror();
    tokens_ = tokens;
    Report();
  }

  Status Finish() {
    RETORT_RETURN_IF_ERROR(status_);
    return file_.Sync();
  }
  const engine::Cancel* stop() const { return &stop_; }
  int64_t errors() const { return errors_; }
  void StartRate() { rate_clock_.Restart(); }

 private:
  // The engine polls one flag: the caller's wish and our own failure meet in it.
  void Mirror() {
    if (run_.cancelled()) stop_.store(1);
  }

  void Report() {
    const double seconds = rate_clock_.Seconds();
    run_.Emit(
        {.kind = RunEvent::Kind::kProgress,
         .done = static_cast<double>(file_.taken()),
         .total = static_cast<double>(job_.records.size()) * static_cast<double>(job_.samples),
         .unit = job_.unit,
         .rate = seconds > 0 ? static_cast<double>(tokens_) / seconds : 0});
  }

  data::Sample MakeSample(size_t record, const engine::Completion& completion) const {
    const data::Prompt& prompt = prepared_.prompts[record];
    data::Sample sample;
    sample.record_uid = completion.uid;
    sample.uid = data::SampleUid(completion.uid, completion.index);
    sample.index = completion.index;
    sample.prompt = prompt.text;
    sample.messages = prompt.messages;
    sample.prompt_ids = prompt.ids;
    sample.completion = completion.text;
    sample.completion_ids = completion.ids;
    sample.logp = completion.logp;
    sample.finish = FinishName(completion.finish);
    sample.model = job_.model->label;
    sample.seed = job_.seed;
    sample.n_prefix = static_cast<int32_t>(prepared_.prefix.size());
    sample.tokenizer = job_.model->opened->tokenizer->hash();
    sample.record = job_.records[record].Json();
    return sample;
  }

  StageRun& run_;
  const SampleJob& job_;
  const PreparedPrompts& prepared_;
  OrderedSamples file_;
  std::unordered_map<uint64_t, size_t> record_of_;
  engine::Cancel stop_{0};
  Status status_;
  int64_t errors_ = 0, tokens_ = 0;
  Stopwatch rate_clock_;
};

std::vector<engine::GenerateRequest> Requests(const SampleJob& job, const PreparedPrompts& prepared,
                                              size_t done) {
  engine::SamplingParams params = {.temperature = job.sampling->temperature,
                                   .top_k = static_cast<int32_t>(job.sampling->top_k),
                                   .top_p = job.sampling->top_p,
                                   .min_p = job.sampling->min_p,
                                   .repetition_penalty = job.sampling->repetition_penalty,
                                   .presence_penalty = job.sampling->presence_penalty,
                                   .frequency_penalty = job.sampling->frequency_penalty,
                                   .max_tokens = static_cast<int32_t>(job.sampling->max_tokens),
                                   .min_tokens = static_cast<int32_t>(job.sampling->min_tokens),
                                   .stop_ids = job.model->opened->stop_ids,
                                   .stop = job.sampling->stop,
                                   .seed = job.seed};
  for (const auto& [id, bias] : job.sampling->logit_bias) {
    params.logit_bias.emplace_back(id, static_cast<float>(bias));
  }
  std::vector<engine::GenerateRequest> requests;
  for (size_t i = done / static_cast<size_t>(job.samples); i < job.records.size(); ++i) {
    requests.push_back({.uid = job.records[i].uid,
                        .ids = prepared.prompts[i].ids,
                        .prefix = prepared.prefix,
                        .n_samples = static_cast<int32_t>(job.samples),
                        .sampling = params});
  }
  return requests;
}

void AddStats(const engine::GenerateStats& stats, StageNumbers* numbers) {
  numbers->Add("prompt_tokens", static_cast<double>(stats.prompt_tokens));
  numbers->Add("completion_tokens", static_cast<double>(stats.completion_tokens));
  numbers->Add("prefill_seconds", stats.prefill_seconds);
  numbers->Add("decode_seconds", stats.decode_seconds);
  numbers->Set("kv_peak_bytes", static_cast<double>(stats.kv_blocks_peak * stats.kv_block_bytes));
}

}  // namespace

Status WriteSamples(StageRun& run, const SampleJob& job) {
  const SampleOrder order = {job.records, job.samples};
  RETORT_ASSIGN_OR_RETURN(OrderedSamples file,
                          OrderedSamples::Open(run.folder->fs(), job.path, order));
  const size_t done = file.written(), total = order.total();
  if (done > 0 && done < total) {
    run.Resumed(std::to_string(done) + " of " + std::to_string(total) + " samples were there");
  }
  if (done == total) return OkStatus();
  RETORT_ASSIGN_OR_RETURN(const PreparedPrompts prepared, Prepare(job));
  const std::vector<engine::GenerateRequest> requests = Requests(job, prepared, done);
  OrderedWriter writer(run, job, prepared, std::move(file));
  if (run.cancelled()) return run.CancelledStatus();
  engine::GenerateOptions options;
  options.max_batch = static_cast<int32_t>(job.decoding->max_batch);
  options.kv_memory = job.decoding->kv_memory;
  options.prefill_chunk = static_cast<int32_t>(job.decoding->prefill_chunk);
  RETORT_ASSIGN_OR_RETURN(options.kv_dtype, engine::ParseKvDtype(job.decoding->kv_dtype));
  options.adapter = job.model->opened->adapter_index();
  options.tokenizer = job.model->opened->tokenizer.get();
  options.on_done = [&](const engine::Completion& c) { writer.Take(c); };
  options.on_progress = [&](int64_t tokens) { writer.Progress(tokens); };
  options.cancel = writer.stop();
  writer.StartRate();
  const Result<engine::GenerateStats> stats = job.weights->Generate(requests, options);
  if (stats.ok()) AddStats(*stats, &run.numbers);
  RETORT_RETURN_IF_ERROR(writer.Finish());
  if (run.cancelled()) return run.CancelledStatus();
  if (writer.errors() > 0) run.numbers.Add("errors", static_cast<double>(writer.errors()));
  return stats.status();
}

}  // namespace retort::host
