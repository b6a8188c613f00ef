// generate: completions of prompts, as sample lines in the order of the prompts.
// SPDX-License-Identifier: Apache-2.0
#include "host/commands/generate.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/clock.h"
#include "core/data/prompt.h"
#include "core/engine/kv_dtype.h"
#include "host/commands/lines.h"

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

Result<std::vector<data::Record>> ReadPrompts(const CommandCall& call) {
  if (call.args.Has("prompt")) {
    const std::string line =
        json::Writer().BeginObject().Field("prompt", call.args.Text("prompt")).EndObject().Take();
    RETORT_ASSIGN_OR_RETURN(data::RecordSet set, data::ParseRecords(line, "prompt", {}));
    return std::move(set.records);
  }
  const std::string path = call.args.Text("input");
  if (path != "-") {
    RETORT_ASSIGN_OR_RETURN(data::RecordSet set, data::ReadRecords(path, {}));
    return std::move(set.records);
  }
  std::string text;
  RETORT_ASSIGN_OR_RETURN(InputLines input, InputLines::Open(path, call.io));
  for (;;) {
    if (call.cancelled()) return Interrupted();
    RETORT_ASSIGN_OR_RETURN(const std::optional<std::string_view> line, input.Next());
    if (!line.has_value()) break;
    (text += *line) += '\n';
  }
  RETORT_ASSIGN_OR_RETURN(data::RecordSet set, data::ParseRecords(text, "standard input", {}));
  return std::move(set.records);
}

// Completions arrive as they end; lines leave in the order of the prompts.
class Ordered {
 public:
  Ordered(const std::vector<GeneratePrompt>& prompts, int32_t samples)
      : prompts_(prompts), samples_(static_cast<size_t>(samples)) {
    for (size_t i = 0; i < prompts.size(); ++i) place_[prompts[i].request.uid] = i * samples_;
  }

  void Add(const engine::Completion& done) {
    waiting_[place_.at(done.uid) + static_cast<size_t>(done.index)] = done;
    ++n_done_;
  }
  size_t n_done() const { return n_done_; }

  Status WriteReady(CommandIo& io) {
    for (auto it = waiting_.begin(); it != waiting_.end() && it->first == next_;
         it = waiting_.erase(it), ++next_) {
      RETORT_RETURN_IF_ERROR(
          io.Line(data::SampleToJson(SampleOf(prompts_[next_ / samples_], it->second))));
    }
    return OkStatus();
  }

 private:
  const std::vector<GeneratePrompt>& prompts_;
  size_t samples_, next_ = 0, n_done_ = 0;
  std::map<uint64_t, size_t> place_;              // request uid -> number of its first line
  std::map<size_t, engine::Completion> waiting_;  // by number of the line
};

// "ID=NUMBER" each.
Result<std::vector<std::pair<int32_t, float>>> ReadLogitBias(
    const std::vector<std::string>& entries) {
  std::vector<std::pair<int32_t, float>> biases;
  for (const std::string& entry : entries) {
    const size_t equals = std::min(entry.find('='), entry.size());
    const char* const end = entry.data() + entry.size();
    int32_t id = -1;
    float bias = 0;
    const auto key = std::from_chars(entry.data(), entry.data() + equals, id);
    const auto value = std::from_chars(std::min(entry.data() + equals + 1, end), end, bias);
    if (key.ec != std::errc{} || key.ptr != entry.data() + equals || id < 0 ||
        value.ec != std::errc{} || value.ptr != end || !std::isfinite(bias)) {
      return InvalidArgument("logit_bias \"" + entry +
                             "\" is not a token id, =, and a number; as 198=-2.5");
    }
    biases.emplace_back(id, bias);
  }
  return biases;
}

Status Generate(const CommandCall& call, engine::Model& model,
                const std::vector<GeneratePrompt>& prompts, const GenerateSettings& settings) {
  std::vector<engine::GenerateRequest> requests;
  for (const GeneratePrompt& prompt : prompts) requests.push_back(prompt.request);
  const bool stream = call.args.Has("prompt") && settings.samples == 1 && call.io.streams() &&
                      !call.args.Flag("json");
  const auto total = static_cast<double>(prompts.size()) * settings.samples;
  Ordered ordered(prompts, settings.samples);
  Status written;  // once it fails the run is asked to stop
  const auto note = [&](Status status) {
    if (status.ok() || !written.ok()) return;
    written = std::move(status);
    call.cancel = 1;
  };
  const Stopwatch watch;
  engine::GenerateOptions options = EngineOptionsOf(settings);
  options.cancel = &call.cancel;
  options.on_done = [&](const engine::Completion& done) {
    if (done.finish == engine::Finish::kError) {
      call.io.Warning("prompt " + data::UidToHex(done.uid) + ": " + done.error);
    }
    ordered.Add(done);
    if (!stream && !call.cancelled()) note(ordered.WriteReady(call.io));
  };
  if (stream) {
    options.on_text = [&](uint64_t, int32_t, std::string_view text) { note(call.io.Text(text)); };
  }
  options.on_progress = [&](int64_t tokens) {
    const double seconds = watch.Seconds();
    call.io.Progress(
        {.what = "generate",
         .done = static_cast<double>(ordered.n_done()),
         .total = total,
         .unit = "samples",
         .tokens_per_second = seconds > 0.5 ? static_cast<double>(tokens) / seconds : 0});
  };
  const Result<engine::GenerateStats> stats = model.Generate(requests, options);
  if (!written.ok()) return written;
  if (call.cancelled()) return Interrupted();
  if (!stats.ok()) return stats.status();
  return stream ? call.io.Text("\n") : OkStatus();
}

}  // namespace

engine::GenerateOptions EngineOptionsOf(const GenerateSettings& settings) {
  engine::GenerateOptions options;
  options.max_batch = settings.max_batch;
  options.kv_dtype = settings.kv_dtype;
  options.kv_memory = settings.kv_memory;
  options.prefill_chunk = settings.prefill_chunk;
  options.adapter = settings.model->adapter_index();
  options.tokenizer = settings.model->tokenizer.get();
  return options;
}

Result<GenerateSettings> ReadGenerateSettings(const Args& args, const OpenedModel& model) {
  GenerateSettings settings;
  settings.model = &model;
  RETORT_ASSIGN_OR_RETURN(const text::Tokenizer* tokenizer, TokenizerOf(model));
  settings.system = args.Text("system");
  settings.chat = args.Flag("chat") || args.Has("system");
  if (settings.chat && !model.chat.has_value()) return model.chat_status;
  settings.samples = static_cast<int32_t>(args.Int("samples", 1));
  settings.max_batch = static_cast<int32_t>(args.Int("max_batch", 16));
  settings.prefill_chunk = static_cast<int32_t>(args.Int("prefill_chunk", 512));
  settings.kv_memory = args.Int("kv_memory", 0);
  if (args.Has("kv_dtype")) {
    RETORT_ASSIGN_OR_RETURN(settings.kv_dtype, engine::ParseKvDtype(args.Text("kv_dtype")));
  }
  engine::SamplingParams& sampling = settings.sampling;
  sampling.temperature = args.Number("temperature", 1.0);
  sampling.top_k = static_cast<int32_t>(args.Int("top_k", 0));
  sampling.top_p = args.Number("top_p", 1.0);
  sampling.min_p = args.Number("min_p", 0);
  sampling.repetition_penalty = args.Number("repetition_penalty", 1.0);
  sampling.presence_penalty = args.Number("presence_penalty", 0);
  sampling.frequency_penalty = args.Number("frequency_penalty", 0);
  RETORT_ASSIGN_OR_RETURN(sampling.logit_bias, ReadLogitBias(args.Texts("logit_bias")));
  sampling.max_tokens = static_cast<int32_t>(args.Int("max_tokens", 256));
  sampling.min_tokens = static_cast<int32_t>(args.Int("min_tokens", 0));
  sampling.seed = static_cast<uint64_t>(args.Int("seed", 0));
  sampling.stop = args.Texts("stop");
  sampling.stop_ids = model.stop_ids;
  if (sampling.min_tokens > sampling.max_tokens) {
    return InvalidArgument("min_tokens must not be above max_tokens");
  }
  RETORT_ASSIGN_OR_RETURN(settings.prefix,
                          tokenizer->Encode(args.Text("prefix"), {.add_special_tokens = false}));
  return settings;
}

Result<GeneratePrompt> MakePrompt(const data::Record& record, const GenerateSettings& settings) {
  const OpenedModel& model = *settings.model;
  data::PromptOptions options;
  options.tokenizer = model.tokenizer.get();
  options.system = settings.system;
  if (settings.chat || !record.messages.empty()) {
    if (!model.chat.has_value()) return model.chat_status.WithContext(record.where);
    options.chat = &*model.chat;
  }
  RETORT_ASSIGN_OR_RETURN(data::Prompt built, data::BuildPrompt(record, options));
  if (built.ids.empty()) return InvalidArgument(record.where + ": the prompt has no token");
  GeneratePrompt prompt;
  prompt.request = {.uid = record.uid,
                    .ids = built.ids,
                    .prefix = settings.prefix,
                    .n_samples = settings.samples,
                    .sampling = settings.sampling};
  data::Sample& sample = prompt.sample;
  sample.record_uid = record.uid;
  sample.prompt = std::move(built.text);
  sample.prompt_ids = std::move(built.ids);
  sample.messages = std::move(built.messages);
  sample.model = model.path;
  sample.seed = settings.sampling.seed;
  sample.n_prefix = static_cast<int32_t>(settings.prefix.size());
  sample.tokenizer = model.tokenizer->hash();
  sample.record = record.Json();
  return prompt;
}

data::Sample SampleOf(const GeneratePrompt& prompt, const engine::Completion& done) {
  data::Sample sample = prompt.sample;
  sample.uid = data::SampleUid(sample.record_uid, done.index);
  sample.index = done.index;
  sample.completion = done.text;
  sample.completion_ids = done.ids;
  sample.logp = done.logp;
  sample.finish = FinishName(done.finish);
  return sample;
}

Outcome RunGenerate(const CommandCall& call) {
  const Args& args = call.args;
  if (args.Has("prompt") == args.Has("input")) {
    return Outcome::Usage("generate needs either a prompt or an input file");
  }
  if (const Outcome storage = CheckStorage(call); !storage.ok()) return storage;
  RETORT_ASSIGN_OR_RETURN(
      const OpenedModel* opened,
      call.session.OpenModel(args.Text("model"), args.Text("chat_format"), args.Text("adapter")));
  if (args.Flag("chat") || args.Has("system")) {
    const Outcome chat = NeedChat(call, *opened);
    if (!chat.ok()) return chat;
  }
  const Result<GenerateSettings> settings = ReadGenerateSettings(args, *opened);
  if (settings.status().code() == Code::kInvalidArgument) return Outcome::Usage(settings.status());
  if (!settings.ok()) return settings.status();
  RETORT_ASSIGN_OR_RETURN(const std::vector<data::Record> records, ReadPrompts(call));
  std::vector<GeneratePrompt> prompts;
  for (const data::Record& record : records) {
    RETORT_ASSIGN_OR_RETURN(GeneratePrompt prompt, MakePrompt(record, *settings));
    prompts.push_back(std::move(prompt));
  }
  if (prompts.empty()) return OkStatus();
  RETORT_ASSIGN_OR_RETURN(const std::unique_ptr<engine::Model> model, LoadWeights(call, *opened));
  return Generate(call, *model, prompts, *settings);
}

}  // namespace retort::host
