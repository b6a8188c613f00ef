// SPDX-License-Identifier: Apache-2.0
#include "host/check/generator_probe.h"

#include <pthread.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "core/base/clock.h"
#include "core/base/plugin_call.h"
#include "core/json/json.h"
#include "host/check/texts.h"
#include "retort/abi/reward.h"

namespace retort::host::check {
namespace {

constexpr double kSecondsMax = 20;  // for all samples of a rule
constexpr int64_t kPollMs = 200;

// Requests in guarded memory, as the host would hand them over.
struct RawRequests {
  RawRequests(const std::vector<GeneratorRequest>& requests, size_t first, size_t stride_extra) {
    std::vector<retort_request> raw;
    for (size_t i = first; i < requests.size(); ++i) {
      const GeneratorRequest& r = requests[i];
      retort_request one{};
      one.uid = r.uid;
      one.messages_json = Keep(r.messages);
      one.params_json = Keep(r.params);
      one.n_samples = r.n_samples;
      if (!r.ids.empty()) {
        const auto bytes = std::string_view(reinterpret_cast<const char*>(r.ids.data()),
                                            r.ids.size() * sizeof(int32_t));
        one.ids = reinterpret_cast<const int32_t*>(Keep(bytes).ptr);
        one.n_ids = static_cast<uint32_t>(r.ids.size());
      }
      raw.push_back(one);
    }
    array.emplace(raw, stride_extra);
    n = raw.size();
  }
  retort_str Keep(std::string_view text) {
    memory.emplace_back(text);
    memory.back().MakeReadOnly();
    return memory.back().str();
  }
  std::vector<GuardedBytes> memory;
  std::optional<StridedArray<retort_request>> array;
  uint64_t n = 0;
};

}  // namespace

std::vector<GeneratorRequest> OrdinaryRequests(const Subject& subject, size_t n) {
  Rng rng = subject.Random("requests");
  std::vector<GeneratorRequest> requests(n);
  for (size_t i = 0; i < n; ++i) {
    GeneratorRequest& r = requests[i];
    r.uid = 5000 + 3 * i;
    const std::string question = "What is " + std::to_string(rng.Below(100)) + " + " +
                                 std::to_string(rng.Below(100)) + "? \xE2\x82\xAC";
    json::Writer out;
    out.BeginArray().BeginObject().Field("role", "user").Field("content", question);
    r.messages = out.EndObject().EndArray().Take();
    r.params = R"({"max_new_tokens":32,"temperature":0.7,"top_p":0.95})";
    r.n_samples = 1 + static_cast<uint32_t>(i % 3);
    if (i % 2 == 0) r.ids = {1, 2, static_cast<int32_t>(rng.Below(100))};
  }
  return requests;
}

struct GeneratorProbe::Impl {
  Impl(const Subject& subject, const CallKind& call_kind, RawInstance made,
       const retort_generator_v1* its)
      : key(RootKey(subject.seed, "check")),
        kind(call_kind),
        instance(std::move(made)),
        table(its) {}

  RngKey key;
  CallKind kind;
  std::vector<std::unique_ptr<RawRequests>> kept;  // outlives the instance
  RawInstance instance;
  const retort_generator_v1* table;
  std::map<uint64_t, uint32_t> open;  // uid -> samples to come
  std::map<uint64_t, uint32_t> n_samples;
  std::set<uint64_t> cancelled;
  std::map<std::pair<uint64_t, uint32_t>, Sample> samples;
  std::map<uint64_t, std::string> errors;
  uint64_t n_events = 0;
  pthread_t thread{};
  std::string problem;

  static void Take(void* ctx, const retort_event* event) {
    auto& self = *static_cast<Impl*>(ctx);
    ++self.n_events;
    std::string why = self.Wrong(event);
    if (why.empty()) why = self.Account(*event);
    if (!why.empty() && self.problem.empty()) self.problem = why;
  }

  std::string Wrong(const retort_event* e) const {
    if (pthread_equal(thread, pthread_self()) == 0) return "on was called from another thread";
    if (e == nullptr) return "on got a NULL event";
    if (e->struct_size < sizeof(retort_event)) {
      return "an event has struct_size " + std::to_string(e->struct_size) + ", expected at least " +
             std::to_string(sizeof(retort_event));
    }
    const std::string name = "event of request " + std::to_string(e->uid);
    if (e->kind > RETORT_EVENT_DELTA) return name + " has kind " + std::to_string(e->kind);
    if (n_samples.count(e->uid) == 0) return name + ", which was never submitted";
    if (cancelled.count(e->uid) != 0) return name + " after it was cancelled";
    if (open.count(e->uid) == 0) return name + " after its last sample was done";
    if (!IsUtf8(ToView(e->text))) return name + " has a text that is not UTF-8";
    if (e->kind == RETORT_EVENT_ERROR) return WrongError(*e, name);
    if (e->sample >= n_samples.at(e->uid)) {
      return name + " is of sample " + std::to_string(e->sample) + ", it has " +
             std::to_string(n_samples.at(e->uid));
    }
    return e->kind == RETORT_EVENT_DONE ? WrongDone(*e, name) : "";
  }
  static std::string WrongError(const retort_event& e, const std::string& name) {
    if (e.status <= RETORT_OK || e.status > RETORT_UNAUTHENTICATED) {
      return name + ", an ERROR, has status " + StatusName(e.status);
    }
    if (e.text.len == 0) return name + ", an ERROR, has no text";
    return e.retry_after_ns < 0 ? name + " has a negative retry_after_ns" : "";
  }
  static std::string WrongDone(const retort_event& e, const std::string& name) {
    if (e.finish > RETORT_FINISH_ERROR) return name + " has finish " + std::to_string(e.finish);
    if (e.info.ptr != nullptr) {
      const std::string why = NotAnObject(ToView(e.info));
      if (!why.empty()) return name + " has info " + Quoted(ToView(e.info)) + ": " + why;
    }
    if (e.logp != nullptr && e.ids == nullptr) return name + " has logp without ids";
    for (uint64_t i = 0; e.logp != nullptr && i < e.n_ids; ++i) {
      if (!(e.logp[i] <= 1e-3F)) return name + " has logp " + std::to_string(e.logp[i]);
    }
    return "";
  }

  // The event is legal by itself: enters it.
  std::string Account(const retort_event& e) {
    if (e.kind == RETORT_EVENT_ERROR) {
      errors[e.uid] = std::string(ToView(e.text));
      open.erase(e.uid);
      return "";
    }
    Sample& sample = samples[{e.uid, e.sample}];
    const std::string name =
        "sample " + std::to_string(e.sample) + " of request " + std::to_string(e.uid);
    if (sample.done) return name + " got an event after DONE";
    if (e.kind == RETORT_EVENT_DELTA) {
      sample.deltas += ToView(e.text);
      ++sample.n_deltas;
      return "";
    }
    sample.done = true;
    sample.text = ToView(e.text);
    sample.finish = e.finish;
    if (--open[e.uid] == 0) open.erase(e.uid);
    return "";
  }

  Status Problem() {
    return problem.empty() ? OkStatus() : InvalidArgument(std::exchange(problem, ""));
  }
};

GeneratorProbe::GeneratorProbe(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GeneratorProbe::GeneratorProbe(GeneratorProbe&&) noexcept = default;
GeneratorProbe& GeneratorProbe::operator=(GeneratorProbe&&) noexcept = default;
GeneratorProbe::~GeneratorProbe() = default;

Result<GeneratorProbe> GeneratorProbe::Make(const Subject& subject, const CallKind& kind) {
  RETORT_ASSIGN_OR_RETURN(RawInstance instance, RawInstance::Create(subject, kind.growth));
  RETORT_ASSIGN_OR_RETURN(const auto* table,
                          instance.Table<retort_generator_v1>(RETORT_GENERATOR_INTERFACE));
  return GeneratorProbe(std::make_unique<Impl>(subject, kind, std::move(instance), table));
}

Result<uint64_t> GeneratorProbe::Submit(const std::vector<GeneratorRequest>& requests, size_t first,
                                        bool forget, size_t stride_extra) {
  auto raw = std::make_unique<RawRequests>(requests, first, stride_extra);
  ZonedArray<uint64_t> n_taken(1, 0);
  RawCall call(impl_->kind.growth, impl_->kind.flags);
  call.raw().key = {impl_->key.hi, impl_->key.lo};
  const retort_status status = impl_->table->submit(impl_->instance.get(), call.Begin(),
                                                    raw->n == 0 ? nullptr : raw->array->get(),
                                                    raw->array->stride(), raw->n, n_taken.data());
  RETORT_RETURN_IF_ERROR(call.End(status, "submit"));
  if (!n_taken.intact() || n_taken[0] > raw->n) {
    return InvalidArgument("submit took " + std::to_string(n_taken[0]) + " of " +
                           std::to_string(raw->n) + " requests");
  }
  if (!raw->array->untouched()) return InvalidArgument("submit wrote into a request");
  if (!forget) impl_->kept.push_back(std::move(raw));
  for (uint64_t i = 0; i < n_taken[0]; ++i) {
    const GeneratorRequest& r = requests[first + i];
    impl_->open[r.uid] = impl_->n_samples[r.uid] = r.n_samples;
  }
  return uint64_t{n_taken[0]};
}

Status GeneratorProbe::SubmitAll(const std::vector<GeneratorRequest>& requests,
                                 size_t stride_extra) {
  const Stopwatch watch;
  for (size_t first = 0; first < requests.size();) {
    RETORT_ASSIGN_OR_RETURN(const uint64_t n, Submit(requests, first, false, stride_extra));
    first += n;
    if (first < requests.size()) RETORT_RETURN_IF_ERROR(Poll(kPollMs));
    if (watch.Seconds() > kSecondsMax) {
      return InvalidArgument("submit took only " + std::to_string(first) + " of " +
                             std::to_string(requests.size()) + " requests in " +
                             FormatSeconds(kSecondsMax));
    }
  }
  return OkStatus();
}

Status GeneratorProbe::Poll(int64_t wait_ms) {
  RawCall call(impl_->kind.growth, impl_->kind.flags);
  return Poll(wait_ms, call, /*may_fail=*/false);
}

Status GeneratorProbe::Poll(int64_t wait_ms, RawCall& call, bool may_fail) {
  impl_->thread = pthread_self();
  call.raw().deadline_ns = RealClock().MonotonicNs() + wait_ms * 1'000'000;
  call.raw().key = {impl_->key.hi, impl_->key.lo};
  const retort_status status =
      impl_->table->poll(impl_->instance.get(), call.Begin(), impl_.get(), Impl::Take);
  // The deadline is no failure: either answer says that there was nothing.
  const bool fine = may_fail || status == RETORT_DEADLINE_EXCEEDED;
  RETORT_RETURN_IF_ERROR(fine ? call.EndFailed(status, "poll") : call.End(status, "poll"));
  return impl_->Problem();
}

Status GeneratorProbe::Finish() {
  const Stopwatch watch;
  while (!impl_->open.empty()) {
    RETORT_RETURN_IF_ERROR(Poll(kPollMs));
    if (watch.Seconds() > kSecondsMax && !impl_->open.empty()) {
      return InvalidArgument(std::to_string(impl_->open.size()) + " requests were not done after " +
                             FormatSeconds(kSecondsMax) + ", request " +
                             std::to_string(impl_->open.begin()->first) + " is one of them");
    }
  }
  return OkStatus();
}

Result<retort_status> GeneratorProbe::Cancel(uint64_t uid) {
  RawCall call(impl_->kind.growth, impl_->kind.flags);
  const retort_status status = impl_->table->cancel(impl_->instance.get(), call.Begin(), uid);
  RETORT_RETURN_IF_ERROR(call.EndFailed(status, "cancel"));
  impl_->cancelled.insert(uid);
  impl_->open.erase(uid);
  return status;
}

const std::map<std::pair<uint64_t, uint32_t>, GeneratorProbe::Sample>& GeneratorProbe::samples()
    const {
  return impl_->samples;
}
const std::map<uint64_t, std::string>& GeneratorProbe::errors() const { return impl_->errors; }
uint64_t GeneratorProbe::n_events() const { return impl_->n_events; }
RawInstance& GeneratorProbe::instance() { return impl_->instance; }

}  // namespace retort::host::check
