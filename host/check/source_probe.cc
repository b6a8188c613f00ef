// SPDX-License-Identifier: Apache-2.0
#include "host/check/source_probe.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "core/base/plugin_call.h"
#include "host/check/texts.h"

namespace retort::host::check {
namespace {

struct RecordTaker {
  pthread_t thread = pthread_self();
  uint64_t max_n = 0, n = 0;
  std::vector<SourceRecord>* records = nullptr;
  std::string problem;

  static void Take(void* ctx, const retort_record* record) {
    auto& self = *static_cast<RecordTaker*>(ctx);
    ++self.n;
    const std::string why = self.Wrong(record);
    if (!why.empty()) {
      if (self.problem.empty()) self.problem = why;
      return;
    }
    self.records->push_back({record->uid, record->status, std::string(ToView(record->json)),
                             std::string(ToView(record->origin))});
  }

  std::string Wrong(const retort_record* record) const {
    if (pthread_equal(thread, pthread_self()) == 0) return "on was called from another thread";
    if (n > max_n) return "on was called more than max_n = " + std::to_string(max_n) + " times";
    if (record == nullptr) return "on got a NULL record";
    if (record->struct_size < sizeof(retort_record)) {
      return "a record has struct_size " + std::to_string(record->struct_size) +
             ", expected at least " + std::to_string(sizeof(retort_record));
    }
    const std::string name = "record " + std::to_string(record->uid);
    if (record->status < RETORT_OK || record->status > RETORT_UNAUTHENTICATED) {
      return name + " has status " + StatusName(record->status);
    }
    if (!IsUtf8(ToView(record->origin))) return name + " has an origin that is not UTF-8";
    if (record->status != RETORT_OK) return "";
    const std::string why = NotAnObject(ToView(record->json));
    return why.empty() ? ""
                       : name + " with status OK is " + Quoted(ToView(record->json)) + ": " + why;
  }
};

}  // namespace

SourceProbe::SourceProbe(const Subject& subject, const CallKind& kind, RawInstance instance,
                         const retort_source_v1* table)
    : key_(RootKey(subject.seed, "check")),
      kind_(kind),
      instance_(std::move(instance)),
      table_(table) {}

Result<SourceProbe> SourceProbe::Make(const Subject& subject, const CallKind& kind) {
  RETORT_ASSIGN_OR_RETURN(RawInstance instance, RawInstance::Create(subject, kind.growth));
  RETORT_ASSIGN_OR_RETURN(const auto* table,
                          instance.Table<retort_source_v1>(RETORT_SOURCE_INTERFACE));
  return SourceProbe(subject, kind, std::move(instance), table);
}

Status SourceProbe::Next(uint64_t max_n, std::vector<SourceRecord>* records) {
  RawCall call(kind_.growth, kind_.flags);
  return Next(max_n, records, call, /*may_fail=*/false);
}

Status SourceProbe::Next(uint64_t max_n, std::vector<SourceRecord>* records, RawCall& call,
                         bool may_fail) {
  RecordTaker taker;
  taker.max_n = max_n;
  taker.records = records;
  ZonedArray<int32_t> end(1, at_end_ ? 1 : 0);
  call.raw().key = {key_.hi, key_.lo};
  returned_ =
      table_->next(instance_.get(), call.Begin(), max_n, &taker, RecordTaker::Take, end.data());
  RETORT_RETURN_IF_ERROR(may_fail ? call.EndFailed(returned_, "next")
                                  : call.End(returned_, "next"));
  if (!taker.problem.empty()) return InvalidArgument(taker.problem);
  if (!end.intact() || end[0] < 0 || end[0] > 1) {
    return InvalidArgument("next left *end at " + std::to_string(end[0]) + "; expected 0 or 1");
  }
  if (at_end_ && taker.n > 0) return InvalidArgument("next gave a record after the end");
  if (at_end_ && end[0] == 0) return InvalidArgument("next took back the end");
  at_end_ = end[0] == 1;
  return OkStatus();
}

Result<std::vector<SourceRecord>> SourceProbe::Read(uint64_t max_n, size_t most) {
  constexpr int kIdleCalls = 100;
  std::vector<SourceRecord> records;
  int n_idle = 0;
  while (!at_end_ && records.size() < most) {
    const size_t before = records.size();
    RETORT_RETURN_IF_ERROR(Next(std::min<uint64_t>(max_n, most - before), &records));
    n_idle = records.size() == before ? n_idle + 1 : 0;
    if (n_idle > kIdleCalls) {
      return InvalidArgument(std::to_string(kIdleCalls) +
                             " calls of next in a row gave neither a record nor the end");
    }
  }
  return records;
}

Result<std::string> SourceProbe::Save(uint64_t max_step) {
  ByteSink sink(max_step);
  const retort_sink raw = sink.get();
  RawCall call(kind_.growth, kind_.flags);
  RETORT_RETURN_IF_ERROR(call.End(table_->save(instance_.get(), call.Begin(), &raw), "save"));
  return sink.bytes();
}

Status SourceProbe::Load(const std::string& state, uint64_t max_step) {
  ByteReader reader(state, max_step);
  const retort_reader raw = reader.get();
  RawCall call(kind_.growth, kind_.flags);
  at_end_ = false;
  return call.End(table_->load(instance_.get(), call.Begin(), &raw), "load");
}

Result<retort_status> SourceProbe::TryLoad(const std::string& state) {
  ByteReader reader(state);
  const retort_reader raw = reader.get();
  RawCall call(kind_.growth, kind_.flags);
  const retort_status status = table_->load(instance_.get(), call.Begin(), &raw);
  RETORT_RETURN_IF_ERROR(call.EndFailed(status, "load"));
  return status;
}

std::string Difference(const std::vector<SourceRecord>& a, const std::vector<SourceRecord>& b,
                       bool whole) {
  const size_t n = whole ? std::max(a.size(), b.size()) : b.size();
  for (size_t i = 0; i < n; ++i) {
    if (i >= a.size() || i >= b.size()) {
      return "there were " + std::to_string(a.size()) + " records, then " +
             std::to_string(b.size());
    }
    if (a[i] == b[i]) continue;
    return "record " + std::to_string(i) + " was " + std::to_string(a[i].uid) + " " +
           Quoted(a[i].json) + ", then " + std::to_string(b[i].uid) + " " + Quoted(b[i].json);
  }
  return "";
}

}  // namespace retort::host::check
