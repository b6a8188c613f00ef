// SPDX-License-Identifier: Apache-2.0
#include "host/worker/program/calls.h"

#include <limits>
#include <utility>

#include "core/base/clock.h"
#include "host/library/guard.h"

namespace retort::host {
namespace {

// Progress is for people: more often than this nobody sees it.
constexpr int64_t kProgressEveryNs = 50'000'000;

Status Unreadable() { return DataLoss("the host sent a request that can't be read"); }

TableFacts FactsOf(const PluginInstance& instance) {
  TableFacts facts;
  const auto find = [&](const char* id) { return instance.interface(id); };
  if (const auto* t = static_cast<const retort_reward_v1*>(find(RETORT_REWARD_INTERFACE))) {
    facts.flags = t->flags;
    facts.preferred_batch = t->preferred_batch;
    facts.has_answers = find(RETORT_ANSWER_INTERFACE) != nullptr;
  } else if (const auto* f = static_cast<const retort_filter_v1*>(find(RETORT_FILTER_INTERFACE))) {
    facts.flags = f->flags;
    facts.n_observe_passes = f->n_observe_passes;
    facts.has_state = f->save != nullptr && f->merge != nullptr;
  } else if (const auto* s = static_cast<const retort_source_v1*>(find(RETORT_SOURCE_INTERFACE))) {
    facts.flags = s->flags;
    facts.has_state = s->save != nullptr && s->load != nullptr;
  } else if (const auto* g =
                 static_cast<const retort_generator_v1*>(find(RETORT_GENERATOR_INTERFACE))) {
    facts.flags = g->flags;
  }
  return facts;
}

}  // namespace

void Reported::Clear() {
  items_.Clear();
  n_ = 0;
  full_ = false;
}

FrameWriter* Reported::Add(uint64_t bytes) {
  full_ = full_ || bytes > kMaxFrameBytes / 2 || items_.size() + bytes > kMaxFrameBytes / 2;
  if (full_) return nullptr;
  ++n_;
  return &items_;
}

void Reported::Put(FrameWriter& out) const {
  out.Uint(n_);
  out.Fields(items_);
}

Status Held::Create(const CreateRequest& request, TableFacts* facts) {
  if (instance_) return FailedPrecondition("this worker holds an instance already");
  plugins_.SetHost(request.host_name, request.host_version);
  RETORT_RETURN_IF_ERROR(plugins_.LoadFile(request.path));
  RETORT_ASSIGN_OR_RETURN(const PluginInfo* info, plugins_.Find(request.kind, request.id));
  if (!request.sha256.empty() && info->sha256 != request.sha256) {
    return FailedPrecondition("plugin " + request.path + ": the file has changed since it was " +
                              "described (SHA-256 " + info->sha256 + ", was " + request.sha256 +
                              "); start again, or load the new file under another name");
  }
  RETORT_ASSIGN_OR_RETURN(instance_,
                          plugins_.Create(request.kind, request.id, request.config, request.key));
  call_.emplace(instance_.name(), Sinks());
  *facts = FactsOf(instance_);
  return OkStatus();
}

PluginCallSinks Held::Sinks() {
  PluginCallSinks sinks;
  sinks.log = [this](int32_t level, std::string_view message) {
    FrameWriter line;
    line.Int(level);
    line.Text(message);
    link_.Send(FrameType::kLog, 0, line);
  };
  sinks.metric = [this](std::string_view name, double sum, double count) {
    if (FrameWriter* item = reported_.Add(name.size() + 64)) PutMetric(name, sum, count, *item);
  };
  sinks.progress = [this, last = int64_t{0}](double fraction, std::string_view what) mutable {
    const int64_t now = RealClock().MonotonicNs();
    if (now - last < kProgressEveryNs) return;
    last = now;
    FrameWriter progress;
    progress.Double(fraction);
    progress.Text(what);
    link_.Send(FrameType::kProgress, number_, progress);
  };
  return sinks;
}

const retort_call* Held::Begin(FrameReader& in) {
  const CallFields fields = TakeCall(in);
  return call_->Begin({.cancel = cancel_,
                       .deadline_ns = fields.deadline_ns,
                       .step = fields.step,
                       .key = fields.key,
                       .n_threads = fields.n_threads});
}

void Held::Answer(FrameType type, uint64_t number, FrameReader& in) {
  number_ = number;
  FrameWriter fields, reply;
  retort_status status = RETORT_FAILED_PRECONDITION;
  std::string text = "this worker holds no instance";
  reported_.Clear();
  if (instance_) {
    const Status outcome = Guard([&]() -> Status {
      status = Dispatch(type, in, fields);
      text = call_->error_text();
      return OkStatus();
    });
    if (!outcome.ok()) {
      status = static_cast<retort_status>(outcome.code());
      text = outcome.message();
    }
    if (status == RETORT_OK && reported_.full()) {
      status = RETORT_RESOURCE_EXHAUSTED;
      text = "what the plugin reported is more than a reply may hold";
    }
  }
  reply.Int(status);
  reply.Text(std::string_view(text));
  const std::string own = fields.Flatten();
  if (!own.empty()) reply.Bytes(own.data(), own.size());
  reported_.Put(reply);
  link_.Send(FrameType::kReply, number, reply);
}

retort_status Held::Dispatch(FrameType type, FrameReader& in, FrameWriter& out) {
  const retort_call* call = Begin(in);
  switch (type) {
    case FrameType::kScore: return Score(call, in, out);
    case FrameType::kClasses: return Classes(call, in, out);
    case FrameType::kObserve:
    case FrameType::kEndPass:
    case FrameType::kJudge: return Filter(type, call, in);
    case FrameType::kSave: return Save(call, out);
    case FrameType::kMerge: return Restore(call, in);
    case FrameType::kNext: return Next(call, in, out);
    case FrameType::kSubmit:
    case FrameType::kPoll:
    case FrameType::kCancelRequest: return Generate(type, call, in, out);
    default: break;
  }
  throw Error(Unreadable());
}

retort_status Held::Score(const retort_call* call, FrameReader& in, FrameWriter& out) {
  const auto* table = Find<retort_reward_v1>(RETORT_REWARD_INTERFACE);
  samples_ = TakeSamples(in);
  if (table == nullptr || !in.AtEnd()) throw Error(Unreadable());
  scores_.assign(samples_.size(), std::numeric_limits<double>::quiet_NaN());
  statuses_.assign(samples_.size(), RETORT_SCORE_ERROR);
  retort_reward_args args{};
  args.struct_size = sizeof args;
  args.sample_stride = sizeof(retort_sample);
  args.samples = samples_.data();
  args.n = samples_.size();
  args.score = scores_.data();
  args.status = statuses_.data();
  args.info_ctx = &reported_;
  args.info = [](void* ctx, uint64_t index, retort_str json) {
    auto& reported = *static_cast<Reported*>(ctx);
    if (FrameWriter* item = reported.Add(json.len + 64)) PutInfo(index, json, *item);
  };
  const retort_status status = table->score(instance_.get(), call, &args);
  out.Bytes(scores_.data(), scores_.size() * sizeof(double));
  out.Bytes(statuses_.data(), statuses_.size());
  return status;
}

retort_status Held::Classes(const retort_call* call, FrameReader& in, FrameWriter& out) {
  const auto* table = Find<retort_answer_v1>(RETORT_ANSWER_INTERFACE);
  samples_ = TakeSamples(in);
  if (table == nullptr || !in.AtEnd()) throw Error(Unreadable());
  classes_.assign(samples_.size(), -1);
  const retort_status status =
      table->classes(instance_.get(), call, samples_.data(), sizeof(retort_sample), samples_.size(),
                     classes_.data());
  out.Bytes(classes_.data(), classes_.size() * sizeof(int64_t));
  return status;
}

retort_status Held::Filter(FrameType type, const retort_call* call, FrameReader& in) {
  const auto* table = Find<retort_filter_v1>(RETORT_FILTER_INTERFACE);
  if (table == nullptr) throw Error(Unreadable());
  if (type == FrameType::kEndPass) {
    const uint32_t pass = in.Uint32();
    if (!in.AtEnd() || table->end_pass == nullptr) throw Error(Unreadable());
    return table->end_pass(instance_.get(), call, pass);
  }
  TakeFilterArgs(in, &filter_args_);
  if (!in.AtEnd()) throw Error(Unreadable());
  retort_filter_args& args = filter_args_.args;
  args.out_ctx = &reported_;
  args.decide = [](void* ctx, uint64_t sample, const retort_decision* decision) {
    auto& reported = *static_cast<Reported*>(ctx);
    const uint64_t bytes =
        decision->reason.len + decision->completion.len + decision->record.len + 128;
    if (FrameWriter* item = reported.Add(bytes)) PutDecision(sample, *decision, *item);
  };
  if (type == FrameType::kJudge) return table->judge(instance_.get(), call, &args);
  if (table->observe == nullptr) throw Error(Unreadable());
  return table->observe(instance_.get(), call, &args);
}

retort_status Held::Save(const retort_call* call, FrameWriter& out) {
  state_.clear();
  const retort_sink sink = {
      &state_, [](void* ctx, const void* data, uint64_t n) -> int64_t {
        std::string& state = *static_cast<std::string*>(ctx);
        if (n > kMaxFrameBytes / 2 - std::min<uint64_t>(state.size(), kMaxFrameBytes / 2)) {
          return -1;
        }
        const Status kept = Guard([&]() -> Status {
          state.append(static_cast<const char*>(data), n);
          return OkStatus();
        });
        return kept.ok() ? static_cast<int64_t>(n) : -1;
      }};
  const auto* filter = Find<retort_filter_v1>(RETORT_FILTER_INTERFACE);
  const auto* source = Find<retort_source_v1>(RETORT_SOURCE_INTERFACE);
  retort_status status = RETORT_UNIMPLEMENTED;
  if (filter != nullptr && filter->save != nullptr) {
    status = filter->save(instance_.get(), call, &sink);
  } else if (source != nullptr && source->save != nullptr) {
    status = source->save(instance_.get(), call, &sink);
  }
  out.Text(std::string_view(state_));
  return status;
}

retort_status Held::Restore(const retort_call* call, FrameReader& in) {
  std::string_view rest = in.Text();
  if (!in.AtEnd()) throw Error(Unreadable());
  const retort_reader reader = {&rest, [](void* ctx, void* data, uint64_t n) -> int64_t {
                                  std::string_view& bytes = *static_cast<std::string_view*>(ctx);
                                  const size_t given = bytes.copy(static_cast<char*>(data), n);
                                  bytes.remove_prefix(given);
                                  return static_cast<int64_t>(given);
                                }};
  const auto* filter = Find<retort_filter_v1>(RETORT_FILTER_INTERFACE);
  const auto* source = Find<retort_source_v1>(RETORT_SOURCE_INTERFACE);
  if (filter != nullptr && filter->merge != nullptr) {
    return filter->merge(instance_.get(), call, &reader);
  }
  if (source != nullptr && source->load != nullptr) {
    return source->load(instance_.get(), call, &reader);
  }
  return RETORT_UNIMPLEMENTED;
}

retort_status Held::Next(const retort_call* call, FrameReader& in, FrameWriter& out) {
  const auto* table = Find<retort_source_v1>(RETORT_SOURCE_INTERFACE);
  const uint64_t max_n = in.Uint();
  if (table == nullptr || !in.AtEnd()) throw Error(Unreadable());
  const auto on_record = [](void* ctx, const retort_record* record) {
    auto& reported = *static_cast<Reported*>(ctx);
    const uint64_t bytes = record->json.len + record->origin.len + 128;
    if (FrameWriter* item = reported.Add(bytes)) PutRecord(*record, *item);
  };
  int32_t end = 0;
  const retort_status status =
      table->next(instance_.get(), call, max_n, &reported_, on_record, &end);
  out.Uint(end != 0 ? 1 : 0);
  return status;
}

retort_status Held::Generate(FrameType type, const retort_call* call, FrameReader& in,
                             FrameWriter& out) {
  const auto* table = Find<retort_generator_v1>(RETORT_GENERATOR_INTERFACE);
  if (table == nullptr) throw Error(Unreadable());
  if (type == FrameType::kSubmit) {
    const std::vector<retort_request> requests = TakeRequests(in);
    if (!in.AtEnd()) throw Error(Unreadable());
    uint64_t n_taken = 0;
    const retort_status status = table->submit(instance_.get(), call, requests.data(),
                                               sizeof(retort_request), requests.size(), &n_taken);
    out.Uint(n_taken);
    return status;
  }
  if (type == FrameType::kCancelRequest) {
    const uint64_t uid = in.Uint();
    if (!in.AtEnd() || table->cancel == nullptr) throw Error(Unreadable());
    return table->cancel(instance_.get(), call, uid);
  }
  if (!in.AtEnd()) throw Error(Unreadable());
  const auto on_event = [](void* ctx, const retort_event* event) {
    auto& reported = *static_cast<Reported*>(ctx);
    const uint64_t ids = event->n_ids * 8 * (1 + uint64_t{event->top_k});
    const uint64_t bytes = event->text.len + event->info.len + ids + 256;
    if (FrameWriter* item = reported.Add(bytes)) PutEvent(*event, *item);
  };
  return table->poll(instance_.get(), call, &reported_, on_event);
}

}  // namespace retort::host
