// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stage_rewards.h"

#include <string_view>

#include "host/pipeline/stage_models.h"

namespace retort::host {
namespace {

// Whether the model that `ref` stands for was trained on texts without their chat template.
bool ReadsVerbatim(const ModelRef& ref, const PipelineConfig& config) {
  const StageConfig* stage = ref.stage.empty() ? nullptr : config.FindStage(ref.stage);
  return stage != nullptr && stage->kind == StageKind::kRewardModel && !stage->sft.chat.enabled;
}

class EntryWriter {
 public:
  EntryWriter(const ChainConfig& chain, const PipelineConfig& config, const std::string& run_path)
      : chain_(chain), config_(config), run_path_(run_path) {}

  Status Entries(const json::Value& entries) {
    writer_.BeginArray();
    for (size_t i = 0; i < entries.size(); ++i) RETORT_RETURN_IF_ERROR(Entry(entries[i]));
    writer_.EndArray();
    return OkStatus();
  }
  std::string Take() { return writer_.Take(); }

 private:
  Status Entry(const json::Value& entry) {
    const bool by_model = static_cast<bool>(entry["model"]);
    writer_.BeginObject();
    for (size_t k = 0; k < entry.size(); ++k) {
      const std::string key(entry.key_at(k));
      if (by_model && key == "config") continue;  // the default of every entry; a plugin's
      writer_.Key(key);
      if (key == "rewards") {
        RETORT_RETURN_IF_ERROR(Entries(entry[key]));
      } else if (key == "model") {
        RETORT_RETURN_IF_ERROR(Model(std::string(entry[key].StringOr(""))));
      } else {
        writer_.Copy(entry.value_at(k));
      }
    }
    if (by_model && !entry["name"]) {
      const std::string_view text = entry["model"].StringOr("");
      writer_.Field("name", text.substr(text.find_last_of("/@") + 1));
    }
    writer_.EndObject();
    return OkStatus();
  }

  Status Model(const std::string& text) {
    const auto found = chain_.models.find(text);
    if (found == chain_.models.end()) return Internal(chain_.key_path + ": unread model " + text);
    const ModelRef& ref = found->second;
    std::string path = ref.text;
    if (!run_path_.empty()) {
      RETORT_ASSIGN_OR_RETURN(path, ModelPath(ref, run_path_));
    }
    writer_.BeginObject().Field("path", path);
    writer_.Field("adapter", ref.model.adapter).Field("chat_format", ChatFormatOf(ref, config_));
    writer_.Field("chat", !ReadsVerbatim(ref, config_));
    writer_.Field("storage", StorageOf(ref, config_)).EndObject();
    return OkStatus();
  }

  const ChainConfig& chain_;
  const PipelineConfig& config_;
  const std::string& run_path_;
  json::Writer writer_;
};

}  // namespace

Result<json::Document> ChainEntriesOf(const ChainConfig& chain, const PipelineConfig& config,
                                      const std::string& run_path) {
  Result<json::Document> entries = json::Document::Parse(chain.json, chain.key_path);
  if (!entries.ok() || chain.models.empty()) return entries;
  EntryWriter writer(chain, config, run_path);
  RETORT_RETURN_IF_ERROR(writer.Entries(entries->root()));
  return json::Document::Parse(writer.Take(), chain.key_path);
}

}  // namespace retort::host
