// SPDX-License-Identifier: Apache-2.0
#include "core/data/sample.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "core/base/hash.h"
#include "core/io/jsonl.h"

namespace retort::data {
namespace {

constexpr uint64_t kMaxLineBytes = uint64_t{16} << 20;
constexpr std::array<std::string_view, 16> kKeys = {
    "uid",    "record_uid", "index", "prompt", "completion", "prompt_ids", "completion_ids",
    "logp",   "finish",     "model", "seed",   "n_prefix",   "tokenizer",  "messages",
    "record", "rewards"};

bool IsOurKey(std::string_view key) {
  return std::find(kKeys.begin(), kKeys.end(), key) != kKeys.end();
}

class LineReader {
 public:
  LineReader(const json::Value& root, std::string_view where) : root_(root), where_(where) {}

  Status Text(const char* key, bool required, std::string* out) {
    const json::Value value = Get(key);
    if (!value) return required ? Bad(key, "is missing") : OkStatus();
    if (!value.is_string()) return Bad(key, "must be a string");
    *out = std::string(value.StringOr(""));
    return OkStatus();
  }
  template <class T>
  Status Integer(const char* key, T* out) {
    const json::Value value = Get(key);
    if (!value) return OkStatus();
    if constexpr (std::is_same_v<T, uint64_t>) {
      const auto number = value.AsUint();
      if (!number.ok()) return Bad(key, "must be an integer from 0");
      *out = *number;
    } else {
      const auto number = value.AsInt();
      if (!number.ok() || *number < 0 || *number > std::numeric_limits<T>::max()) {
        return Bad(key, "must be an integer from 0");
      }
      *out = static_cast<T>(*number);
    }
    return OkStatus();
  }
  Status Uid(const char* key, uint64_t* out) {
    const json::Value value = Get(key);
    if (!value) return OkStatus();
    const auto uid = UidFromHex(value.StringOr(""));
    *out = uid ? *uid : XxHash64(value.is_string() ? value.StringOr("") : value.Dump());
    return OkStatus();
  }
  Status Ids(const char* key, std::vector<int32_t>* out) {
    const json::Value value = Get(key);
    if (!value) return OkStatus();
    if (!value.is_array()) return Bad(key, "must be a list of token ids");
    out->reserve(value.size());
    for (size_t i = 0; i < value.size(); ++i) {
      const auto id = value[i].AsInt();
      if (!id.ok() || *id < 0 || *id > std::numeric_limits<int32_t>::max()) {
        return Bad(key, "holds " + value[i].Dump() + ", which is no token id");
      }
      out->push_back(static_cast<int32_t>(*id));
    }
    return OkStatus();
  }
  Status Floats(const char* key, std::vector<float>* out) {
    const json::Value value = Get(key);
    if (!value) return OkStatus();
    if (!value.is_array()) return Bad(key, "must be a list of numbers");
    out->reserve(value.size());
    for (size_t i = 0; i < value.size(); ++i) {
      const auto number = value[i].AsDouble();
      if (!number.ok()) return Bad(key, "holds " + value[i].Dump() + ", which is no number");
      out->push_back(static_cast<float>(*number));
    }
    return OkStatus();
  }
  Status Rewards(std::vector<RewardScore>* out) {
    const json::Value value = Get("rewards");
    if (!value) return OkStatus();
    if (!value.is_object()) return Bad("rewards", "must be an object of numbers");
    for (size_t i = 0; i < value.size(); ++i) {
      const json::Value score = value.value_at(i);
      const auto number = score.AsDouble();
      if (!score.is_null() && !number.ok()) return Bad("rewards", "must hold numbers or null");
      out->push_back({std::string(value.key_at(i)),
                      number.ok() ? std::optional<double>(*number) : std::nullopt});
    }
    return OkStatus();
  }
  Status Finish(std::string* out) {
    RETORT_RETURN_IF_ERROR(Text("finish", false, out));
    for (const char* known : {"stop", "length", "cancelled", "error"}) {
      if (*out == known) return OkStatus();
    }
    return Bad("finish", "is '" + *out + "'; known: stop, length, cancelled, error");
  }
  // The record's columns, and the keys that are nobody's.
  Status Rest(Sample* sample) {
    const json::Value record = Get("record");
    if (record && !record.is_object()) return Bad("record", "must be an object");
    json::Writer made;
    made.BeginObject();
    for (size_t i = 0; i < root_.size(); ++i) {
      const std::string_view key = root_.key_at(i);
      if (IsOurKey(key)) continue;
      if (record) {
        sample->extra.push_back({std::string(key), root_.value_at(i).Dump()});
      } else {
        made.Key(key).Copy(root_.value_at(i));
      }
    }
    made.EndObject();
    sample->record = record ? record.Dump() : made.Take();
    return OkStatus();
  }
  json::Value Get(const char* key) const {
    const json::Value value = root_[key];
    return value.is_null() ? json::Value() : value;
  }

 private:
  Status Bad(std::string_view key, const std::string& message) const {
    return InvalidArgument(std::string(where_) + ": '" + std::string(key) + "' " + message);
  }
  json::Value root_;
  std::string_view where_;
};

void WriteIds(const char* key, const std::vector<int32_t>& ids, json::Writer* writer) {
  writer->Key(key).BeginArray();
  for (int32_t id : ids) writer->Int(id);
  writer->EndArray();
}

}  // namespace

uint64_t SampleUid(uint64_t record_uid, int32_t index) {
  return XxHash64(UidToHex(record_uid) + "/" + std::to_string(index));
}

std::string SampleToJson(const Sample& s) {
  json::Writer w;
  w.BeginObject();
  w.Field("uid", UidToHex(s.uid)).Field("record_uid", UidToHex(s.record_uid));
  w.Field("index", s.index).Field("prompt", s.prompt).Field("completion", s.completion);
  WriteIds("prompt_ids", s.prompt_ids, &w);
  WriteIds("completion_ids", s.completion_ids, &w);
  w.Key("logp").BeginArray();
  for (float logp : s.logp) w.Float(logp);
  w.EndArray();
  w.Field("finish", s.finish).Field("model", s.model).Field("seed", s.seed);
  if (s.n_prefix > 0) w.Field("n_prefix", s.n_prefix);
  if (!s.tokenizer.empty()) w.Field("tokenizer", s.tokenizer);
  if (!s.messages.empty()) WriteMessages(s.messages, &w.Key("messages"));
  w.Key("record").Raw(s.record);
  w.Key("rewards").BeginObject();
  for (const RewardScore& reward : s.rewards) {
    w.Key(reward.name);
    reward.value ? w.Double(*reward.value) : w.Null();
  }
  w.EndObject();
  for (const Column& column : s.extra) w.Key(column.name).Raw(column.json);
  return w.EndObject().Take();
}

Result<Sample> SampleFromJson(std::string_view line, std::string_view where) {
  RETORT_ASSIGN_OR_RETURN(const json::Document document,
                          json::Document::Parse(line, where, {.max_bytes = kMaxLineBytes}));
  if (!document.root().is_object()) {
    return InvalidArgument(std::string(where) + ": the line is not a JSON object");
  }
  LineReader reader(document.root(), where);
  Sample s;
  s.uid = XxHash64(line);
  RETORT_RETURN_IF_ERROR(reader.Uid("uid", &s.uid));
  s.record_uid = s.uid;
  RETORT_RETURN_IF_ERROR(reader.Uid("record_uid", &s.record_uid));
  RETORT_RETURN_IF_ERROR(reader.Integer("index", &s.index));
  RETORT_RETURN_IF_ERROR(reader.Text("prompt", true, &s.prompt));
  RETORT_RETURN_IF_ERROR(reader.Text("completion", true, &s.completion));
  RETORT_RETURN_IF_ERROR(reader.Ids("prompt_ids", &s.prompt_ids));
  RETORT_RETURN_IF_ERROR(reader.Ids("completion_ids", &s.completion_ids));
  RETORT_RETURN_IF_ERROR(reader.Floats("logp", &s.logp));
  RETORT_RETURN_IF_ERROR(reader.Finish(&s.finish));
  RETORT_RETURN_IF_ERROR(reader.Text("model", false, &s.model));
  RETORT_RETURN_IF_ERROR(reader.Integer("seed", &s.seed));
  RETORT_RETURN_IF_ERROR(reader.Integer("n_prefix", &s.n_prefix));
  RETORT_RETURN_IF_ERROR(reader.Text("tokenizer", false, &s.tokenizer));
  if (const json::Value messages = reader.Get("messages")) {
    RETORT_ASSIGN_OR_RETURN(s.messages,
                            ReadMessages(messages, std::string(where) + ": 'messages'"));
  }
  RETORT_RETURN_IF_ERROR(reader.Rewards(&s.rewards));
  RETORT_RETURN_IF_ERROR(reader.Rest(&s));
  if (!s.logp.empty() && s.logp.size() != s.completion_ids.size()) {
    return InvalidArgument(std::string(where) + ": 'logp' has " + std::to_string(s.logp.size()) +
                           " entries, 'completion_ids' " + std::to_string(s.completion_ids.size()));
  }
  return s;
}

bool IsSampleLine(const json::Value& object) {
  return object.is_object() && object["record_uid"].is_string() && object["completion"].is_string();
}

Result<std::vector<Sample>> ReadSamples(const std::string& path) {
  RETORT_ASSIGN_OR_RETURN(auto reader, io::JsonlReader::Open(path));
  std::vector<Sample> samples;
  while (true) {
    RETORT_ASSIGN_OR_RETURN(const auto line, reader.NextLine());
    if (!line) return samples;
    RETORT_ASSIGN_OR_RETURN(Sample sample, SampleFromJson(*line, reader.where()));
    samples.push_back(std::move(sample));
  }
}

}  // namespace retort::data
