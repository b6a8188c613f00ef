// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stage.h"

#include <utility>

#include "core/json/json.h"

namespace retort::host {

double StageNumbers::Get(std::string_view name) const {
  const auto found = values_.find(std::string(name));
  return found != values_.end() ? found->second : 0;
}

std::string StageNumbers::ToJson() const {
  json::Writer writer;
  writer.BeginObject();
  for (const auto& [name, value] : values_) writer.Field(name, value);
  writer.EndObject();
  return writer.Take();
}

StageNumbers StageNumbers::FromJson(std::string_view json) {
  StageNumbers numbers;
  const Result<json::Document> document = json::Document::Parse(json, "numbers");
  if (!document.ok()) return numbers;
  const json::Value root = document->root();
  for (size_t i = 0; i < root.size(); ++i) {
    if (root.value_at(i).is_number()) numbers.Set(root.key_at(i), root.value_at(i).DoubleOr(0));
  }
  return numbers;
}

void StageRun::Emit(RunEvent event) {
  if (!options->on_event) return;
  event.stage = stage->name;
  options->on_event(event);
}

void StageRun::Resumed(const std::string& text) {
  Emit({.kind = RunEvent::Kind::kStageResumed, .text = text});
  const auto fill = [&](json::Writer& writer) { writer.Field("text", text); };
  (void)folder->AppendEvent("stage_resumed", stage->name, fill);  // a log line, not the result
}

void StageRun::Warn(const std::string& text) {
  Emit({.kind = RunEvent::Kind::kWarning, .text = text});
  const auto fill = [&](json::Writer& writer) { writer.Field("text", text); };
  (void)folder->AppendEvent("warning", stage->name, fill);
}

void StageRun::NoteWeights(const std::string& label, const engine::Model& weights) {
  const auto fill = [&](json::Writer& writer) {
    writer.Field("model", label).Field("bytes", weights.weight_bytes()).Key("kept").BeginObject();
    for (const model::StorageReport::Part& part : weights.storage().parts) {
      writer.Field(DTypeName(part.dtype), part.bytes);
    }
    writer.EndObject().Key("notes").BeginArray();
    for (const std::string& note : weights.storage().notes) writer.String(note);
    writer.EndArray();
  };
  (void)folder->AppendEvent("weights", stage->name, fill);
}

}  // namespace retort::host
