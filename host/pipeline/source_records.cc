// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/source_records.h"

#include <algorithm>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "core/base/hash.h"
#include "core/base/plugin_call.h"
#include "host/library/guard.h"
#include "retort/abi/draft/source.h"

namespace retort::host {
namespace {

constexpr uint64_t kRecordsPerCall = 256;

class SourceReader {
 public:
  SourceReader(const std::string& name, const data::RecordOptions& options)
      : name_(name), options_(options) {}

  static void OnRecord(void* ctx, const retort_record* record) {
    SourceReader& self = *static_cast<SourceReader*>(ctx);
    const Status taken = Guard([&]() -> Status {
      self.Take(*record);
      return OkStatus();
    });
    if (!taken.ok()) self.status_ = taken;
  }

  // Read to the end, to the limit, or to an error.
  bool done() const { return !status_.ok() || full(); }

  Result<data::RecordSet> Finish() {
    RETORT_RETURN_IF_ERROR(status_);
    const auto bad = static_cast<double>(set_.bad_lines.size());
    if (bad > options_.max_bad_lines * static_cast<double>(set_.lines)) {
      return InvalidArgument(
          std::to_string(set_.bad_lines.size()) + " of " + std::to_string(set_.lines) +
          " records are bad, more than the share max_bad_lines " +
          std::to_string(options_.max_bad_lines) + "; the first: " + first_bad_.message());
    }
    return std::move(set_);
  }

 private:
  bool full() const {
    return options_.limit >= 0 && static_cast<int64_t>(set_.records.size()) >= options_.limit;
  }

  void Take(const retort_record& raw) {
    if (done()) return;
    ++set_.lines;
    std::string where(ToView(raw.origin));
    if (where.empty()) where = name_ + ", record " + std::to_string(set_.lines);
    if (raw.status != RETORT_OK) {
      return Quarantine(Status(ToCode(raw.status), where + ": the source could not read it"));
    }
    Result<data::Record> record = data::ParseRecord(ToView(raw.json), where, options_);
    if (!record.ok()) return Quarantine(record.status());
    // The plugin's uids are unique within the source; with its name they are unique in the run.
    record->uid = XxHash64(name_, raw.uid);
    if (!uids_.insert(record->uid).second) {
      return Quarantine(InvalidArgument(where + ": its uid is that of an earlier record"));
    }
    set_.records.push_back(std::move(*record));
  }

  void Quarantine(const Status& status) {
    if (first_bad_.ok()) first_bad_ = status;
    if (options_.max_bad_lines <= 0) status_ = status;
    set_.bad_lines.push_back({set_.lines, status.message()});
  }

  const std::string& name_;
  const data::RecordOptions& options_;
  data::RecordSet set_;
  std::unordered_set<uint64_t> uids_;
  Status first_bad_, status_;
};

}  // namespace

Result<data::RecordSet> ReadSource(Session& session, const PluginUse& use, const std::string& name,
                                   const data::RecordOptions& options) {
  RETORT_RETURN_IF_ERROR(data::CheckRecordOptions(options));
  RETORT_RETURN_IF_ERROR(session.EnsurePlugins());
  RETORT_ASSIGN_OR_RETURN(
      const PluginInstance source,
      session.CreatePlugin("source", use.plugin, use.config, retort_key{},
                           {.isolate = use.isolate, .timeout_ms = use.timeout_ms}));
  const auto* table =
      static_cast<const retort_source_v1*>(source.interface(RETORT_SOURCE_INTERFACE));
  if (table == nullptr) {
    return FailedPrecondition("plugin source/" + use.plugin + " has no " RETORT_SOURCE_INTERFACE);
  }
  SourceReader reader(name, options);
  PluginCall call(source.name());
  int32_t end = 0;
  while (end == 0 && !reader.done()) {
    uint64_t n = kRecordsPerCall;
    if (options.limit >= 0) n = std::min<uint64_t>(n, static_cast<uint64_t>(options.limit) + 1);
    RETORT_RETURN_IF_ERROR(
        call.End(table->next(source.get(), call.Begin(), n, &reader, SourceReader::OnRecord, &end),
                 "read records"));
  }
  return reader.Finish();
}

}  // namespace retort::host
