// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/sampling.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "core/engine/kv_dtype.h"

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

// Completions into their places; tells when a record has all of its own.
class Collector {
 public:
  using OnRecord = std::function<void(size_t, std::span<const data::Sample>)>;
  Collector(StageRun& run, const SampleJob& job, const PreparedPrompts& prepared,
            const OnRecord& on_record)
      : run_(run),
        job_(job),
        prepared_(prepared),
        on_record_(on_record),
        samples_(job.records.size() * static_cast<size_t>(job.samples)),
        missing_(job.records.size(), job.samples) {
    for (size_t i = 0; i < job.records.size(); ++i) record_of_[job.records[i].uid] = i;
  }

  void Take(const engine::Completion& completion) {
    Mirror();
    if (completion.finish == engine::Finish::kCancelled) return;
    const size_t record = record_of_.at(completion.uid);
    if (completion.finish == engine::Finish::kError && failed_.empty()) {
      failed_ = job_.records[record].where + ": " + completion.error;
    }
    const size_t first = record * static_cast<size_t>(job_.samples);
    samples_[first + static_cast<size_t>(completion.index)] =
        MakeSample(job_, prepared_, record, completion);
    if (--missing_[record] == 0 && on_record_) {
      on_record_(record, std::span(samples_).subspan(first, static_cast<size_t>(job_.samples)));
    }
  }
  // The engine polls one flag.
  void Mirror() {
    if (run_.cancelled()) stop_.store(1);
  }
  const engine::Cancel* stop() const { return &stop_; }

  Result<std::vector<data::Sample>> Finish() {
    if (run_.cancelled()) return run_.CancelledStatus();
    if (!failed_.empty()) return FailedPrecondition(failed_);
    return std::move(samples_);
  }

 private:
  StageRun& run_;
  const SampleJob& job_;
  const PreparedPrompts& prepared_;
  const OnRecord& on_record_;
  std::vector<data::Sample> samples_;
  std::vector<int64_t> missing_;  // of each record
  std::unordered_map<uint64_t, size_t> record_of_;
  std::string failed_;
  engine::Cancel stop_{0};
};

}  // namespace

Result<PreparedPrompts> PreparePrompts(const SampleJob& job) {
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

engine::SamplingParams SamplingParamsOf(const SamplingOptions& sampling, const OpenedModel& model,
                                        uint64_t seed) {
  engine::SamplingParams params = {.temperature = sampling.temperature,
                                   .top_k = static_cast<int32_t>(sampling.top_k),
                                   .top_p = sampling.top_p,
                                   .min_p = sampling.min_p,
                                   .repetition_penalty = sampling.repetition_penalty,
                                   .presence_penalty = sampling.presence_penalty,
                                   .frequency_penalty = sampling.frequency_penalty,
                                   .max_tokens = static_cast<int32_t>(sampling.max_tokens),
                                   .min_tokens = static_cast<int32_t>(sampling.min_tokens),
                                   .stop_ids = model.stop_ids,
                                   .stop = sampling.stop,
                                   .seed = seed};
  for (const auto& [id, bias] : sampling.logit_bias) {
    params.logit_bias.emplace_back(id, static_cast<float>(bias));
  }
  return params;
}

std::vector<engine::GenerateRequest> MakeRequests(const SampleJob& job,
                                                  const PreparedPrompts& prepared, size_t first) {
  const engine::SamplingParams params =
      SamplingParamsOf(*job.sampling, *job.model->opened, job.seed);
  std::vector<engine::GenerateRequest> requests;
  for (size_t i = first; i < job.records.size(); ++i) {
    requests.push_back({.uid = job.records[i].uid,
                        .ids = prepared.prompts[i].ids,
                        .prefix = prepared.prefix,
                        .n_samples = static_cast<int32_t>(job.samples),
                        .sampling = params});
  }
  return requests;
}

data::Sample MakeSample(const SampleJob& job, const PreparedPrompts& prepared, size_t record,
                        const engine::Completion& completion) {
  const data::Prompt& prompt = prepared.prompts[record];
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
  sample.model = job.model->label;
  sample.seed = job.seed;
  sample.n_prefix = static_cast<int32_t>(prepared.prefix.size());
  sample.tokenizer = job.model->opened->tokenizer->hash();
  sample.record = job.records[record].Json();
  return sample;
}

Result<engine::GenerateOptions> OptionsOf(const SampleJob& job) {
  engine::GenerateOptions options;
  options.max_batch = static_cast<int32_t>(job.decoding->max_batch);
  options.kv_memory = job.decoding->kv_memory;
  options.prefill_chunk = static_cast<int32_t>(job.decoding->prefill_chunk);
  RETORT_ASSIGN_OR_RETURN(options.kv_dtype, engine::ParseKvDtype(job.decoding->kv_dtype));
  options.adapter = job.adapter;
  options.tokenizer = job.model->opened->tokenizer.get();
  return options;
}

void AddStats(const engine::GenerateStats& stats, StageNumbers* numbers) {
  numbers->Add("prompt_tokens", static_cast<double>(stats.prompt_tokens));
  numbers->Add("completion_tokens", static_cast<double>(stats.completion_tokens));
  numbers->Add("prefill_seconds", stats.prefill_seconds);
  numbers->Add("decode_seconds", stats.decode_seconds);
  numbers->Set("kv_peak_bytes", static_cast<double>(stats.kv_blocks_peak * stats.kv_block_bytes));
}

Result<std::vector<data::Sample>> DrawSamples(
    StageRun& run, const SampleJob& job,
    const std::function<void(size_t record, std::span<const data::Sample> samples)>& on_record) {
  if (run.cancelled()) return run.CancelledStatus();
  RETORT_ASSIGN_OR_RETURN(const PreparedPrompts prepared, PreparePrompts(job));
  Collector collector(run, job, prepared, on_record);
  RETORT_ASSIGN_OR_RETURN(engine::GenerateOptions options, OptionsOf(job));
  options.on_done = [&](const engine::Completion& c) { collector.Take(c); };
  options.on_progress = [&](int64_t) { collector.Mirror(); };
  options.cancel = collector.stop();
  const Result<engine::GenerateStats> stats =
      job.weights->Generate(MakeRequests(job, prepared, 0), options);
  if (run.cancelled()) return run.CancelledStatus();
  RETORT_RETURN_IF_ERROR(stats.status());
  AddStats(*stats, &run.numbers);
  return collector.Finish();
}

}  // namespace retort::host
