// SPDX-License-Identifier: Apache-2.0
#include "host/library/samples.h"

#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "core/base/hash.h"
#include "core/io/jsonl.h"
#include "core/json/json.h"
#include "host/commands/lines.h"
#include "host/library/edge.h"

namespace retort::host {
namespace {

constexpr std::array<const char*, 4> kFinish = {"stop", "length", "cancelled", "error"};

Status ReadText(retort_str text, const std::string& where, std::string& out) {
  RETORT_RETURN_IF_ERROR(CheckUtf8(ToView(text), where));
  out = ToView(text);
  return OkStatus();
}

// The record with `gold` as its answer; "{}" without either.
Result<std::string> RecordOf(const retort_sample& sample, const std::string& where) {
  json::ParseOptions limits;
  limits.max_bytes = io::kMaxLineBytes;
  const std::string_view text = sample.record.ptr == nullptr ? "{}" : ToView(sample.record);
  RETORT_ASSIGN_OR_RETURN(const json::Document record,
                          json::Document::Parse(text, where + ".record", limits));
  if (!record.root().is_object()) return InvalidArgument(where + ".record: must be a JSON object");
  if (sample.gold.ptr == nullptr) return std::string(text);
  std::string gold;
  RETORT_RETURN_IF_ERROR(ReadText(sample.gold, where + ".gold", gold));
  json::Writer out;
  out.BeginObject();
  CopyFields(record.root(), {"answer"}, out);
  return out.Field("answer", gold).EndObject().Take();
}

Status ReadIdsOf(const retort_sample& from, const std::string& where, data::Sample& out) {
  if ((from.prompt_ids == nullptr && from.n_prompt_ids > 0) ||
      (from.completion_ids == nullptr && from.n_completion_ids > 0)) {
    return InvalidArgument(where + ": NULL ids with a count that is not 0");
  }
  if (from.n_prompt_ids > 0) {
    out.prompt_ids.assign(from.prompt_ids, from.prompt_ids + from.n_prompt_ids);
  }
  if (from.n_completion_ids == 0) return OkStatus();
  out.completion_ids.assign(from.completion_ids, from.completion_ids + from.n_completion_ids);
  if (from.logp != nullptr) out.logp.assign(from.logp, from.logp + from.n_completion_ids);
  return OkStatus();
}

Result<data::Sample> ReadSample(const retort_sample& from, const std::string& where) {
  data::Sample out;
  RETORT_RETURN_IF_ERROR(ReadText(from.prompt, where + ".prompt", out.prompt));
  RETORT_RETURN_IF_ERROR(ReadText(from.completion, where + ".completion", out.completion));
  RETORT_ASSIGN_OR_RETURN(out.record, RecordOf(from, where));
  RETORT_RETURN_IF_ERROR(ReadIdsOf(from, where, out));
  if (from.finish >= kFinish.size()) {
    return Unimplemented(where + ".finish: " + std::to_string(from.finish) + " is not known");
  }
  out.finish = kFinish[from.finish];
  out.record_uid = from.record_uid;
  if (out.record_uid == 0) out.record_uid = XxHash64("group " + std::to_string(from.group));
  out.uid = from.uid;
  if (out.uid == 0) out.uid = XxHash64(out.completion, XxHash64(out.prompt, out.record_uid));
  return out;
}

}  // namespace

Result<std::vector<data::Sample>> ReadSamples(const retort_sample* samples, uint32_t stride,
                                              uint64_t n) {
  RETORT_RETURN_IF_ERROR(CheckArray(samples, n, stride, sizeof(retort_sample), "samples"));
  std::vector<data::Sample> out;
  for (uint64_t i = 0; i < n; ++i) {
    const std::string where = "samples[" + std::to_string(i) + "]";
    RETORT_ASSIGN_OR_RETURN(data::Sample sample, ReadSample(At(samples, stride, i), where));
    const bool same = !out.empty() && out.back().record_uid == sample.record_uid;
    sample.index = same ? out.back().index + 1 : 0;
    out.push_back(std::move(sample));
  }
  return out;
}

}  // namespace retort::host
