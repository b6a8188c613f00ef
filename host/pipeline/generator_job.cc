// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/generator_job.h"

#include <algorithm>
#include <deque>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/base/clock.h"
#include "core/base/plugin_call.h"
#include "core/data/sample.h"
#include "host/chain/fuse.h"
#include "host/library/guard.h"
#include "host/pipeline/ordered_samples.h"
#include "retort/abi/draft/generator.h"
#include "retort/abi/reward.h"

namespace retort::host {
namespace {

constexpr int64_t kMillisecond = 1'000'000;
constexpr int64_t kPollNs = 200 * kMillisecond;  // how long a poll waits: cancels are seen between
constexpr size_t kRequestsPerCall = 64;

// What is asked about one record.
struct Request {
  std::string messages_json;
  std::vector<text::Message> messages;
  int64_t attempts = 0;       // failed ones
  int64_t not_before_ns = 0;  // of the next attempt
  bool in_flight = false;
};

Result<std::vector<text::Message>> MessagesOf(const data::Record& record, const ChatOptions& chat) {
  std::vector<text::Message> messages = record.messages;
  if (messages.empty() && record.prompt) messages = {{"user", *record.prompt, ""}};
  if (!messages.empty() && messages.back().role == "assistant") messages.pop_back();
  if (messages.empty()) {
    return InvalidArgument(record.where +
                           ": the record has no prompt (only text): map a column to prompt");
  }
  if (!chat.system.empty() && messages[0].role != "system") {
    messages.insert(messages.begin(), {"system", chat.system, ""});
  }
  return messages;
}

std::string ParamsJson(const SamplingOptions& sampling, uint64_t seed) {
  json::Writer out;
  out.BeginObject().Field("temperature", sampling.temperature).Field("top_p", sampling.top_p);
  out.Field("top_k", sampling.top_k).Field("max_tokens", sampling.max_tokens);
  out.Field("min_tokens", sampling.min_tokens).Field("min_p", sampling.min_p);
  out.Field("repetition_penalty", sampling.repetition_penalty);
  out.Field("presence_penalty", sampling.presence_penalty);
  out.Field("frequency_penalty", sampling.frequency_penalty).Key("logit_bias").BeginObject();
  for (const auto& [id, bias] : sampling.logit_bias) out.Field(std::to_string(id), bias);
  out.EndObject().Field("seed", seed).Key("stop").BeginArray();
  for (const std::string& stop : sampling.stop) out.String(stop);
  return out.EndArray().EndObject().Take();
}

std::string FinishName(uint32_t finish) {
  switch (finish) {
    case RETORT_FINISH_STOP: return "stop";
    case RETORT_FINISH_LENGTH: return "length";
    case RETORT_FINISH_CANCELLED: return "cancelled";
    default: return "error";
  }
}

class GeneratorJob {
 public:
  GeneratorJob(StageRun& run, std::span<const data::Record> records, OrderedSamples file)
      : run_(run),
        config_(run.stage->generate),
        order_{records, config_.samples},
        file_(std::move(file)),
        fuse_(config_.generator->max_error_rate),
        params_(ParamsJson(config_.sampling, run.pipeline->seed)) {}

  Status Prepare() {
    const PluginUse& use = config_.generator->plugin;
    RETORT_ASSIGN_OR_RETURN(plugin_, run_.session->CreatePlugin(
                                         "generator", use.plugin, use.config, retort_key{},
                                         {.isolate = use.isolate, .timeout_ms = use.timeout_ms}));
    table_ = static_cast<const retort_generator_v1*>(plugin_.interface(RETORT_GENERATOR_INTERFACE));
    if (table_ == nullptr) {
      return FailedPrecondition(plugin_.name() + " has no " RETORT_GENERATOR_INTERFACE);
    }
    requests_.resize(order_.records.size());
    for (size_t i = 0; i < requests_.size(); ++i) {
      RETORT_ASSIGN_OR_RETURN(requests_[i].messages, MessagesOf(order_.records[i], config_.chat));
      json::Writer out;
      data::WriteMessages(requests_[i].messages, &out);
      requests_[i].messages_json = out.Take();
      record_of_[order_.records[i].uid] = i;
      if (!Complete(i)) pending_.push_back(i);
    }
    return OkStatus();
  }

  Status Run() {
    PluginCallSinks sinks;
    sinks.log = [this](int32_t level, std::string_view text) {
      if (level >= RETORT_LOG_WARNING) run_.Warn(std::string(text));
    };
    PluginCall call(plugin_.name(), std::move(sinks));
    while (file_.taken() < order_.total() && status_.ok()) {
      if (run_.cancelled()) break;
      Status turn = Submit(call);
      if (turn.ok()) turn = Poll(call);
      if (!turn.ok()) turn = AfterBrokenCall(turn);
      RETORT_RETURN_IF_ERROR(turn);
      Report();
    }
    RETORT_RETURN_IF_ERROR(status_);
    RETORT_RETURN_IF_ERROR(file_.Sync());
    if (run_.cancelled()) return run_.CancelledStatus();
    return fuse_.Check(plugin_.name(), /*at_end=*/true);
  }

 private:
  bool Complete(size_t record) const {
    for (int32_t k = 0; k < config_.samples; ++k) {
      if (!file_.Has(order_.At(record, k))) return false;
    }
    return true;
  }

  PluginCallSettings Settings(int64_t deadline_ns) const {
    return {.cancel = run_.options->cancel,
            .deadline_ns = deadline_ns,
            .n_threads = run_.session->n_threads()};
  }

  // Requests whose time has come, as many as one call takes; fewer when the plugin's queue is full.
  Status Submit(PluginCall& call) {
    const int64_t now = RealClock().MonotonicNs();
    std::vector<retort_request> batch;
    std::vector<size_t> records;
    for (const size_t i : pending_) {
      if (requests_[i].not_before_ns > now) continue;
      batch.push_back({.uid = order_.records[i].uid,
                       .messages_json = ToStr(requests_[i].messages_json),
                       .params_json = ToStr(params_),
                       .ids = nullptr,
                       .n_ids = 0,
                       .n_samples = static_cast<uint32_t>(config_.samples)});
      records.push_back(i);
      if (batch.size() == kRequestsPerCall) break;
    }
    if (batch.empty()) return OkStatus();
    uint64_t n_taken = 0;
    RETORT_RETURN_IF_ERROR(
        call.End(table_->submit(plugin_.get(), call.Begin(Settings(0)), batch.data(),
                                sizeof(retort_request), batch.size(), &n_taken),
                 "submit requests"));
    for (size_t k = 0; k < n_taken; ++k) {
      requests_[records[k]].in_flight = true;
      std::erase(pending_, records[k]);
    }
    run_.numbers.Add("requests", static_cast<double>(n_taken));
    return OkStatus();
  }

  Status Poll(PluginCall& call) {
    const int64_t deadline = RealClock().MonotonicNs() + kPollNs;
    RETORT_RETURN_IF_ERROR(call.End(
        table_->poll(plugin_.get(), call.Begin(Settings(deadline)), this, OnEvent), "poll"));
    broken_calls_ = 0;
    return OkStatus();
  }

  static void OnEvent(void* ctx, const retort_event* event) {
    GeneratorJob& self = *static_cast<GeneratorJob*>(ctx);
    const Status taken = Guard([&]() -> Status {
      self.Take(*event);
      return OkStatus();
    });
    if (!taken.ok()) self.status_ = taken;
  }

  void Take(const retort_event& event) {
    const auto found = record_of_.find(event.uid);
    if (found == record_of_.end() || !status_.ok()) return;
    if (event.kind == RETORT_EVENT_ERROR) {
      const std::string why = order_.records[found->second].where + ": " + plugin_.name() + ": " +
                              std::string(ToView(event.text));
      Failed(found->second, why, event.retry_after_ns);
    } else if (event.kind == RETORT_EVENT_DONE) {
      Done(found->second, event);
    }
  }

  void Done(size_t record, const retort_event& event) {
    const auto index = static_cast<int32_t>(event.sample);
    if (index >= config_.samples || file_.Has(order_.At(record, index))) return;
    Write(record, index, MakeSample(record, event));
    fuse_.Count(1, 0);
    tokens_ += static_cast<double>(event.n_ids);
    run_.numbers.Add("completion_tokens", static_cast<double>(event.n_ids));
    if (Complete(record)) requests_[record].in_flight = false;
  }

  // Another attempt, or, after the last one, an error in the place of each missing sample.
  void Failed(size_t record, const std::string& why, int64_t retry_after_ns) {
    Request& request = requests_[record];
    request.in_flight = false;
    if (++request.attempts <= config_.generator->max_retries) {
      const int64_t backoff =
          (int64_t{100} << std::min<int64_t>(request.attempts, 8)) * kMillisecond;
      request.not_before_ns =
          RealClock().MonotonicNs() + (retry_after_ns > 0 ? retry_after_ns : backoff);
      pending_.push_back(record);
      run_.numbers.Add("retries", 1);
      return;
    }
    if (config_.generator->fail_on_error) {
      status_ = Status(Code::kAborted, why + " (on_error is \"fail\")");
      return;
    }
    if (fuse_.errors() == 0) run_.Warn(why);
    fuse_.Note(why);
    for (int32_t k = 0; k < config_.samples; ++k) {
      if (file_.Has(order_.At(record, k))) continue;
      data::Sample sample = EmptySample(record, k);
      sample.finish = "error";
      Write(record, k, sample);
      fuse_.Count(1, 1);
      run_.numbers.Add("errors", 1);
    }
    if (status_.ok()) status_ = fuse_.Check(plugin_.name(), /*at_end=*/false);
  }

  // The plugin itself failed, perhaps with its process: what it had taken is asked for again.
  Status AfterBrokenCall(const Status& why) {
    if (run_.cancelled()) return OkStatus();
    if (++broken_calls_ > config_.generator->max_retries) return why;
    run_.Warn(why.message() + "; asked again");
    for (size_t i = 0; i < requests_.size(); ++i) {
      if (requests_[i].in_flight) Failed(i, why.message(), kMillisecond);
    }
    return status_;
  }

  data::Sample EmptySample(size_t record, int32_t index) const {
    data::Sample sample;
    sample.record_uid = order_.records[record].uid;
    sample.uid = data::SampleUid(sample.record_uid, index);
    sample.index = index;
    sample.messages = requests_[record].messages;
    sample.prompt = sample.messages.back().content;
    sample.model = "generator/" + config_.generator->plugin.plugin;
    sample.seed = run_.pipeline->seed;
    sample.record = order_.records[record].Json();
    return sample;
  }

  data::Sample MakeSample(size_t record, const retort_event& event) const {
    data::Sample sample = EmptySample(record, static_cast<int32_t>(event.sample));
    sample.completion = ToView(event.text);
    sample.finish = FinishName(event.finish);
    if (event.ids != nullptr) sample.completion_ids.assign(event.ids, event.ids + event.n_ids);
    if (event.logp != nullptr) sample.logp.assign(event.logp, event.logp + event.n_ids);
    if (event.info.ptr != nullptr)
      sample.extra.push_back({"info", std::string(ToView(event.info))});
    return sample;
  }

  void Write(size_t record, int32_t index, const data::Sample& sample) {
    if (status_.ok()) status_ = file_.Add(order_.At(record, index), data::SampleToJson(sample));
  }

  void Report() {
    run_.Emit({.kind = RunEvent::Kind::kProgress,
               .done = static_cast<double>(file_.taken()),
               .total = static_cast<double>(order_.total()),
               .unit = "samples",
               .rate = tokens_ / std::max(clock_.Seconds(), 1e-3)});
  }

  StageRun& run_;
  const GenerateStage& config_;
  SampleOrder order_;
  OrderedSamples file_;
  Fuse fuse_;
  std::string params_;
  PluginInstance plugin_;
  const retort_generator_v1* table_ = nullptr;
  std::vector<Request> requests_;  // by record
  std::deque<size_t> pending_;     // records to be asked about
  std::unordered_map<uint64_t, size_t> record_of_;
  int64_t broken_calls_ = 0;  // in a row
  double tokens_ = 0;         // of those that told their ids
  Status status_;             // of what happened in callbacks
  Stopwatch clock_;
};

}  // namespace

Status WriteGeneratedSamples(StageRun& run, std::span<const data::Record> records,
                             const std::string& path) {
  const SampleOrder order = {records, run.stage->generate.samples};
  RETORT_ASSIGN_OR_RETURN(OrderedSamples file, OrderedSamples::Open(run.folder->fs(), path, order));
  const size_t done = file.written();
  if (done == order.total()) return OkStatus();
  if (done > 0) {
    run.Resumed(std::to_string(done) + " of " + std::to_string(order.total()) +
                " samples were there");
  }
  GeneratorJob job(run, records, std::move(file));
  RETORT_RETURN_IF_ERROR(job.Prepare());
  return job.Run();
}

}  // namespace retort::host
