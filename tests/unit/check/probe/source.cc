// Sources of 40 records that break the rules of sources.
// SPDX-License-Identifier: Apache-2.0
#include "probe.h"

namespace probe {
namespace {

constexpr uint64_t kRecords = 40;

struct Source : Instance {
  explicit Source(const std::string& id) : Instance(id), created(n_created) {}
  const void* Table(std::string_view id) override {
    static const retort_source_v1 kTable = {sizeof(retort_source_v1), 0, Next, Save, Load};
    return id == RETORT_SOURCE_INTERFACE ? &kTable : nullptr;
  }
  static Source& Self(retort_instance* raw) { return static_cast<Source&>(Of(raw)); }

  void Give(uint64_t max_n, void* ctx, void (*on)(void* ctx, const retort_record*)) const {
    uint64_t uid = 100 + at;
    if (Is("source.uids")) uid = 100;
    if (Is("source.sizes") && max_n == 1) uid += 1000;
    if (Is("source.again") && max_n == 100) uid += 1000 * static_cast<uint64_t>(created);
    const std::string json = "{\"n\": " + std::to_string(at) + "}";
    const std::string origin = "probe:" + std::to_string(at);
    const retort_record record = {
        sizeof(record), RETORT_OK, uid, {json.data(), json.size()}, {origin.data(), origin.size()}};
    on(ctx, &record);
  }
  static retort_status Next(retort_instance* raw, const retort_call* call, uint64_t max_n,
                            void* ctx, void (*on)(void* ctx, const retort_record*), int32_t* end) {
    Source& self = Self(raw);
    const uint64_t total = self.Is("source.records") ? 0 : kRecords;
    if (self.Is("source.cancel") && Cancelled(call)) self.at += 3;
    if (Cancelled(call)) return RETORT_CANCELLED;
    if (self.at >= total && self.Is("source.end") && self.ended) self.Give(max_n, ctx, on);
    uint64_t n = 0;
    for (; n < max_n && self.at < total; ++n, ++self.at) self.Give(max_n, ctx, on);
    if (max_n == 0 && self.Is("source.none")) ++self.at;
    self.has_read = self.has_read || n > 0;
    self.ended = self.at >= total;
    if (self.ended) *end = 1;
    return RETORT_OK;
  }
  static retort_status Save(retort_instance* raw, const retort_call* call,
                            const retort_sink* sink) {
    const bool ok = WriteAll(sink, Pack(Self(raw).at), Self(raw).Is("source.short_io"));
    return ok ? RETORT_OK : Fail(call, RETORT_ABORTED, "the sink failed");
  }
  static retort_status Load(retort_instance* raw, const retort_call* call,
                            const retort_reader* reader) {
    Source& self = Self(raw);
    uint64_t at = 0;
    const bool good = Unpack(ReadAll(reader), &at) && at <= kRecords;
    if (!good && !self.Is("source.bad_state")) return Fail(call, RETORT_DATA_LOSS, "no state");
    if (self.Is("source.resume") && self.has_read) return RETORT_OK;  // only a fresh one goes back
    self.at = good ? at : 0;
    self.ended = false;
    return RETORT_OK;
  }

  int created;
  uint64_t at = 0;
  bool has_read = false, ended = false;
};

}  // namespace

Instance* NewSource(const std::string& id) { return new Source(id); }

}  // namespace probe
