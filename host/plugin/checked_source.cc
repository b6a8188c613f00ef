// Sources: at most as many records as asked for, none after the end, some before it; each a JSON
// object with a uid of its own. A record that breaks a rule of its own is passed on as a failed
// one; a broken rule of the stream fails the call. SPDX-License-Identifier: Apache-2.0
#include <array>
#include <unordered_set>

#include "core/json/json.h"
#include "host/plugin/checked_call.h"

namespace retort::host {
namespace {

// Uids among the last this many records must differ. A repeat further away is found by the store
// that records go to, which is keyed by uid.
constexpr size_t kRemembered = 1U << 16;
constexpr json::ParseOptions kJsonLimits = {.max_bytes = uint64_t{64} << 20};

struct SourceState : KindState {
  std::array<uint64_t, kRemembered> ring{};
  std::unordered_set<uint64_t> seen;
  size_t next = 0;
  bool ended = false;

  // False: one of the last kRemembered records has it.
  bool Remember(uint64_t uid) {
    if (!seen.insert(uid).second) return false;
    if (seen.size() > kRemembered) seen.erase(ring[next]);
    ring[next] = uid;
    next = (next + 1) % kRemembered;
    return true;
  }
  void Forget() {
    seen.clear();
    next = 0;
    ended = false;
  }
};

SourceState& StateOf(CheckedInstance& self) {
  return static_cast<SourceState&>(*self.source_state);
}

// Between the plugin's records and the caller.
struct RecordRelay {
  CallRelay* relay;
  SourceState* state;
  uint64_t max_n;
  void* ctx;
  void (*on)(void*, const retort_record*);
  uint64_t n = 0;

  static void OnRecord(void* ctx, const retort_record* record) {
    RecordRelay& self = *static_cast<RecordRelay*>(ctx);
    self.relay->Run([&] { return self.Take(*record); });
  }

  Status Take(const retort_record& record) {
    if (state->ended) return Internal("a record came after the end");
    if (n == max_n) {
      return Internal("more records came than the " + std::to_string(max_n) + " asked for");
    }
    ++n;
    if (record.struct_size < sizeof(retort_record)) {
      return Internal("a record has struct_size " + std::to_string(record.struct_size) +
                      ", expected at least " + std::to_string(sizeof(retort_record)));
    }
    retort_record out = record;
    out.struct_size = sizeof(out);
    if (!state->Remember(record.uid)) {
      return Internal("uid " + std::to_string(record.uid) + " came twice; the second time for " +
                      std::string(ToView(record.origin)));
    }
    const Status fits = Check(record);
    std::string origin;
    if (!fits.ok()) {
      out.status = static_cast<retort_status>(fits.code());
      origin = std::string(ToView(record.origin)) + ": " + fits.message();
      out.origin = ToStr(origin);
    }
    on(ctx, &out);
    return OkStatus();
  }

  // The record alone.
  static Status Check(const retort_record& record) {
    if (record.status != RETORT_OK) {
      if (record.status < 0 || record.status > RETORT_UNAUTHENTICATED) {
        return {Code::kUnknown, "the source gave status " + std::to_string(record.status) +
                                    ", which does not exist"};
      }
      return OkStatus();
    }
    if (record.json.ptr == nullptr) return InvalidArgument("the source gave no JSON");
    RETORT_ASSIGN_OR_RETURN(const json::Document document,
                            json::Document::Parse(ToView(record.json), "record", kJsonLimits));
    if (!document.root().is_object()) return InvalidArgument("the record is not a JSON object");
    return OkStatus();
  }
};

Status CheckEnd(const RecordRelay& records, int32_t end) {
  if (end != 0 && end != 1) {
    return Internal("it set the end to " + std::to_string(end) + ", must be 0 or 1");
  }
  if (records.state->ended && end == 0) return Internal("after the end it says that there is more");
  if (records.n == 0 && end == 0) {
    return Internal("it gave neither a record nor the end: a source that waits must not return");
  }
  records.state->ended = end == 1;
  return OkStatus();
}

retort_status Next(retort_instance* handle, const retort_call* call, uint64_t max_n, void* ctx,
                   void (*on)(void*, const retort_record*), int32_t* end) {
  CheckedInstance& self = CheckedInstance::Of(handle);
  CallRelay relay(call);
  *end = 0;
  if (max_n == 0) return Report(call, Code::kInvalidArgument, "max_n must be at least 1");
  RecordRelay records{
      .relay = &relay, .state = &StateOf(self), .max_n = max_n, .ctx = ctx, .on = on};
  const retort_status status = RunGuarded(self, &relay, false, [&] {
    return self.in.source->next(self.inner, relay.call(), max_n, &records, RecordRelay::OnRecord,
                                end);
  });
  if (status != RETORT_OK) return status;
  return Verify(relay, [&] { return CheckEnd(records, *end); });
}

retort_status Save(retort_instance* handle, const retort_call* call, const retort_sink* sink) {
  return RunSave(handle, call, sink, [](auto& self, auto* inner_call, auto* out) {
    return self.in.source->save(self.inner, inner_call, out);
  });
}

retort_status Load(retort_instance* handle, const retort_call* call, const retort_reader* reader) {
  StateOf(CheckedInstance::Of(handle)).Forget();
  return RunLoad(handle, call, reader, [](auto& self, auto* inner_call, auto* in) {
    return self.in.source->load(self.inner, inner_call, in);
  });
}

}  // namespace

void WrapSource(CheckedInstance* self) {
  self->source_state = std::make_unique<SourceState>();
  retort_source_v1& out = self->out.source;
  out = *self->in.source;
  out.struct_size = sizeof(out);
  out.next = Next;
  out.save = Save;
  out.load = Load;
}

}  // namespace retort::host
