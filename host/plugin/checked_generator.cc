// Generators: every event is of a request under way and of one of its samples, each sample is done
// once, and what comes with it fits together. A broken rule fails the call, and with it all
// requests. SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/json/json.h"
#include "host/plugin/checked_call.h"

namespace retort::host {
namespace {

constexpr uint64_t kMaxIds = uint64_t{1} << 24;  // tokens of one sample
constexpr float kLogpSlack = 1e-3F;              // above 0, by rounding
constexpr json::ParseOptions kJsonLimits = {.max_bytes = uint64_t{64} << 20};

// FNV-1a over the text of the DELTAs: enough to see that DONE begins with it.
struct TextSoFar {
  uint64_t length = 0, hash = 0xCBF29CE484222325;
  void Add(std::string_view text) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3;
    length += text.size();
  }
};

struct RequestState {
  std::vector<bool> done;         // per sample
  std::vector<TextSoFar> so_far;  // per sample
  uint32_t n_open = 0;
};

struct GeneratorState : KindState {
  std::unordered_map<uint64_t, RequestState> under_way;
};

GeneratorState& StateOf(CheckedInstance& self) {
  return static_cast<GeneratorState&>(*self.generator_state);
}

Status CheckIds(const retort_event& e) {
  if (e.n_ids > kMaxIds) return Internal("it has " + std::to_string(e.n_ids) + " ids");
  if ((e.n_ids > 0) != (e.ids != nullptr) && e.n_ids > 0) return Internal("n_ids without ids");
  if (e.logp != nullptr && e.ids == nullptr) return Internal("logp without ids");
  const bool has_top = e.top_ids != nullptr;
  if (has_top != (e.top_logp != nullptr) || has_top != (e.top_k > 0)) {
    return Internal("top_ids, top_logp and top_k come together or not at all");
  }
  if (has_top && e.ids == nullptr) return Internal("top_ids without ids");
  for (uint64_t i = 0; i < e.n_ids; ++i) {
    if (e.ids[i] < 0) return Internal("id " + std::to_string(i) + " is negative");
    if (e.logp == nullptr || (std::isfinite(e.logp[i]) && e.logp[i] <= kLogpSlack)) continue;
    return Internal("logp " + std::to_string(i) + " is " + std::to_string(e.logp[i]) +
                    ": a token that was drawn has a finite one of at most 0");
  }
  return OkStatus();
}

Status CheckInfo(retort_str info) {
  if (info.ptr == nullptr) return OkStatus();
  const Result<json::Document> document = json::Document::Parse(ToView(info), "info", kJsonLimits);
  if (!document.ok()) return Internal(document.status().message());
  return document->root().is_object() ? OkStatus() : Internal("info is not a JSON object");
}

// Between the plugin's events and the caller.
struct EventRelay {
  CallRelay* relay;
  GeneratorState* state;
  void* ctx;
  void (*on)(void*, const retort_event*);

  static void OnEvent(void* ctx, const retort_event* event) {
    EventRelay& self = *static_cast<EventRelay*>(ctx);
    self.relay->Run([&]() -> Status {
      if (event->struct_size < sizeof(retort_event)) {
        return Internal("an event has struct_size " + std::to_string(event->struct_size) +
                        ", expected at least " + std::to_string(sizeof(retort_event)));
      }
      const Status status = self.Take(*event);
      if (status.ok()) return status;
      return status.WithContext("event of request " + std::to_string(event->uid) + ", sample " +
                                std::to_string(event->sample));
    });
  }

  Status Take(const retort_event& event) {
    const auto it = state->under_way.find(event.uid);
    if (it == state->under_way.end()) {
      return Internal("no such request is under way: it was never taken, or has ended");
    }
    RequestState& request = it->second;
    if (event.sample >= request.done.size()) {
      return Internal("the request has " + std::to_string(request.done.size()) + " samples");
    }
    switch (event.kind) {
      case RETORT_EVENT_DONE: RETORT_RETURN_IF_ERROR(TakeDone(event, request)); break;
      case RETORT_EVENT_DELTA: RETORT_RETURN_IF_ERROR(TakeDelta(event, request)); break;
      case RETORT_EVENT_ERROR: RETORT_RETURN_IF_ERROR(CheckError(event)); break;
      default: return Unimplemented("kind " + std::to_string(event.kind) + " does not exist");
    }
    if (event.kind == RETORT_EVENT_ERROR || request.n_open == 0) state->under_way.erase(it);
    retort_event out = event;
    out.struct_size = sizeof(out);
    on(ctx, &out);
    return OkStatus();
  }

  static Status TakeDone(const retort_event& event, RequestState& request) {
    if (request.done[event.sample]) return Internal("the sample is done already");
    if (event.finish > RETORT_FINISH_ERROR) {
      return Internal("finish " + std::to_string(event.finish) + " does not exist");
    }
    if (event.text.ptr == nullptr && event.text.len > 0) return Internal("text is NULL");
    RETORT_RETURN_IF_ERROR(CheckIds(event));
    RETORT_RETURN_IF_ERROR(CheckInfo(event.info));
    const TextSoFar& before = request.so_far[event.sample];
    TextSoFar beginning;
    beginning.Add(ToView(event.text).substr(0, before.length));
    if (beginning.length != before.length || beginning.hash != before.hash) {
      return Internal("the whole text doesn't begin with what came as DELTA");
    }
    request.done[event.sample] = true;
    --request.n_open;
    return OkStatus();
  }

  static Status TakeDelta(const retort_event& event, RequestState& request) {
    if (request.done[event.sample]) return Internal("new text of a sample that is done");
    RETORT_RETURN_IF_ERROR(CheckIds(event));
    request.so_far[event.sample].Add(ToView(event.text));
    return OkStatus();
  }

  static Status CheckError(const retort_event& event) {
    if (event.status <= RETORT_OK || event.status > RETORT_UNAUTHENTICATED) {
      return Internal("an ERROR has status " + std::to_string(event.status));
    }
    if (event.retry_after_ns < 0) return Internal("retry_after_ns is negative");
    return OkStatus();
  }
};

const retort_request& At(const retort_request* requests, uint64_t stride, uint64_t i) {
  return *reinterpret_cast<const retort_request*>(reinterpret_cast<const char*>(requests) +
                                                  i * stride);
}

// The caller's mistakes: the plugin never sees them.
Status CheckRequests(const GeneratorState& state, const retort_request* requests, uint64_t stride,
                     uint64_t n) {
  if (stride < sizeof(retort_request)) return InvalidArgument("the stride is too small");
  std::unordered_set<uint64_t> uids;
  for (uint64_t i = 0; i < n; ++i) {
    const retort_request& request = At(requests, stride, i);
    if (request.n_samples == 0) return InvalidArgument("a request asks for 0 samples");
    if (!uids.insert(request.uid).second || state.under_way.contains(request.uid)) {
      return AlreadyExists("request " + std::to_string(request.uid) + " is under way already");
    }
  }
  return OkStatus();
}

Status NoteTaken(GeneratorState& state, const retort_request* requests, uint64_t stride, uint64_t n,
                 uint64_t n_taken) {
  if (n_taken > n) {
    return Internal("submit took " + std::to_string(n_taken) + " of " + std::to_string(n) +
                    " requests");
  }
  if (n > 0 && n_taken == 0 && state.under_way.empty()) {
    return Internal("submit took no request though none is under way");
  }
  for (uint64_t i = 0; i < n_taken; ++i) {
    const retort_request& request = At(requests, stride, i);
    const size_t samples = request.n_samples;
    state.under_way[request.uid] = {std::vector<bool>(samples), std::vector<TextSoFar>(samples),
                                    request.n_samples};
  }
  return OkStatus();
}

retort_status Submit(retort_instance* handle, const retort_call* call,
                     const retort_request* requests, uint64_t stride, uint64_t n,
                     uint64_t* n_taken) {
  CheckedInstance& self = CheckedInstance::Of(handle);
  CallRelay relay(call);
  GeneratorState& state = StateOf(self);
  *n_taken = 0;
  const retort_status asked =
      Verify(relay, [&] { return CheckRequests(state, requests, stride, n); });
  if (asked != RETORT_OK) return asked;
  uint64_t taken = 0;
  const retort_status status = RunGuarded(self, &relay, false, [&] {
    return self.in.generator->submit(self.inner, relay.call(), requests, stride, n, &taken);
  });
  if (status != RETORT_OK) return status;
  const retort_status noted =
      Verify(relay, [&] { return NoteTaken(state, requests, stride, n, taken); });
  if (noted == RETORT_OK) *n_taken = taken;
  return noted;
}

retort_status Poll(retort_instance* handle, const retort_call* call, void* ctx,
                   void (*on)(void*, const retort_event*)) {
  CheckedInstance& self = CheckedInstance::Of(handle);
  CallRelay relay(call);
  EventRelay events{.relay = &relay, .state = &StateOf(self), .ctx = ctx, .on = on};
  const retort_status status = RunGuarded(self, &relay, false, [&] {
    return self.in.generator->poll(self.inner, relay.call(), &events, EventRelay::OnEvent);
  });
  if (status != RETORT_OK) StateOf(self).under_way.clear();
  return status;
}

retort_status Cancel(retort_instance* handle, const retort_call* call, uint64_t uid) {
  CheckedInstance& self = CheckedInstance::Of(handle);
  CallRelay relay(call);
  StateOf(self).under_way.erase(uid);
  return RunGuarded(self, &relay, false,
                    [&] { return self.in.generator->cancel(self.inner, relay.call(), uid); });
}

}  // namespace

void WrapGenerator(CheckedInstance* self) {
  self->generator_state = std::make_unique<GeneratorState>();
  retort_generator_v1& out = self->out.generator;
  out = *self->in.generator;
  out.struct_size = sizeof(out);
  out.submit = Submit;
  out.poll = Poll;
  out.cancel = Cancel;
}

}  // namespace retort::host
