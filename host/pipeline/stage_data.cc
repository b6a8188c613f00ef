// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stage_data.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "core/io/filesystem.h"
#include "host/pipeline/source_records.h"

namespace retort::host {

std::string DataPath(const PipelineConfig& config, const DataRef& ref,
                     const std::string& run_path) {
  if (ref.stage.empty()) return config.data.at(ref.text).path;
  const bool filtered = config.FindStage(ref.stage)->kind == StageKind::kFilter;
  return io::Join(io::Join(run_path, ref.stage), filtered ? "kept.jsonl" : "samples.jsonl");
}

namespace {

Result<data::RecordSet> ReadEntry(Session& session, const std::string& name,
                                  const DataConfig& entry, const data::RecordOptions& options) {
  if (!entry.source) return data::ReadRecords(entry.path, options);
  return ReadSource(session, *entry.source, name, options);
}

Result<StageData> LoadEntry(Session& session, const PipelineConfig& config, const DataRef& ref,
                            const std::string& run_path) {
  StageData data = {.name = ref.text,
                    .weight = ref.weight,
                    .is_samples = !ref.stage.empty(),
                    .records = {},
                    .samples = {}};
  if (data.is_samples) {
    const std::string path = DataPath(config, ref, run_path);
    RETORT_ASSIGN_OR_RETURN(data.samples, data::ReadSamples(path));
    if (ref.limit > 0 && data.samples.size() > static_cast<size_t>(ref.limit)) {
      data.samples.resize(static_cast<size_t>(ref.limit));
    }
    return data;
  }
  const DataConfig& source = config.data.at(ref.text);
  int64_t limit = source.limit > 0 ? source.limit : -1;
  if (ref.limit > 0) limit = limit < 0 ? ref.limit : std::min(limit, ref.limit);
  const data::RecordOptions options = {.format = source.format,
                                       .map = source.map,
                                       .limit = limit,
                                       .max_bad_lines = source.max_bad_lines};
  Result<data::RecordSet> set = ReadEntry(session, ref.text, source, options);
  if (!set.ok()) return set.status().WithContext("data '" + ref.text + "'");
  data.records = std::move(set->records);
  data.bad_lines = static_cast<int64_t>(set->bad_lines.size());
  return data;
}

}  // namespace

Result<std::vector<StageData>> LoadData(Session& session, const PipelineConfig& config,
                                        const std::vector<DataRef>& refs, int64_t limit,
                                        const std::string& run_path) {
  std::vector<StageData> all;
  size_t left = limit > 0 ? static_cast<size_t>(limit) : SIZE_MAX;
  for (const DataRef& ref : refs) {
    RETORT_ASSIGN_OR_RETURN(StageData data, LoadEntry(session, config, ref, run_path));
    if (data.records.size() > left) data.records.resize(left);
    if (data.samples.size() > left) data.samples.resize(left);
    left -= data.size();
    all.push_back(std::move(data));
  }
  return all;
}

Result<std::vector<data::Record>> AsRecords(const std::vector<StageData>& all) {
  std::vector<data::Record> out;
  std::unordered_set<uint64_t> seen;
  for (const StageData& data : all) {
    for (const data::Record& record : data.records) {
      if (!seen.insert(record.uid).second) {
        return FailedPrecondition(record.where + ": uid " + data::UidToHex(record.uid) +
                                  " occurs a second time in the stage's data (is a file listed "
                                  "twice?)");
      }
      out.push_back(record);
    }
    for (const data::Sample& sample : data.samples) {
      if (!seen.insert(sample.record_uid).second) continue;
      const std::string where = data.name + ", sample " + data::UidToHex(sample.uid);
      RETORT_ASSIGN_OR_RETURN(data::Record record, data::ParseRecord(sample.record, where, {}));
      record.uid = sample.record_uid;
      out.push_back(std::move(record));
    }
  }
  return out;
}

namespace {

// The record's own text, before any model's template: what a prompt is made of later.
Result<data::Sample> AnswerOf(const data::Record& record) {
  data::Sample sample;
  sample.record_uid = record.uid;
  sample.record = record.Json();
  sample.messages = record.messages;
  if (record.completion) {
    sample.completion = *record.completion;
  } else if (!sample.messages.empty() && sample.messages.back().role == "assistant") {
    const text::Message last = std::move(sample.messages.back());
    sample.messages.pop_back();
    sample.completion = last.reasoning.empty()
                            ? last.content
                            : "<think>\n" + last.reasoning + "\n</think>\n\n" + last.content;
  } else {
    return FailedPrecondition(record.where +
                              ": a filter needs something to judge: the record has "
                              "no completion, assistant turn or generations (map one)");
  }
  if (record.prompt) {
    sample.prompt = *record.prompt;
    if (sample.messages.empty()) sample.messages.push_back({"user", *record.prompt, ""});
  } else if (!sample.messages.empty()) {
    sample.prompt = sample.messages.back().content;
  }
  return sample;
}

Status AddAnswers(const data::Record& record, std::vector<data::Sample>* out) {
  if (record.generations.empty()) {
    RETORT_ASSIGN_OR_RETURN(data::Sample sample, AnswerOf(record));
    sample.uid = data::SampleUid(record.uid, 0);
    out->push_back(std::move(sample));
    return OkStatus();
  }
  int32_t index = 0;
  for (const data::Generation& generation : record.generations) {
    data::Record one = record;
    one.completion = generation.completion;
    RETORT_ASSIGN_OR_RETURN(data::Sample sample, AnswerOf(one));
    sample.index = index;
    sample.uid = data::SampleUid(record.uid, index++);
    if (!generation.finish.empty()) sample.finish = generation.finish;
    out->push_back(std::move(sample));
  }
  return OkStatus();
}

}  // namespace

Result<std::vector<data::Sample>> AsSamples(std::vector<StageData> all) {
  std::vector<data::Sample> out;
  for (StageData& data : all) {
    for (data::Sample& sample : data.samples) out.push_back(std::move(sample));
    for (const data::Record& record : data.records) {
      RETORT_RETURN_IF_ERROR(AddAnswers(record, &out));
    }
  }
  return out;
}

}  // namespace retort::host
