// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/plugin_files.h"

#include <algorithm>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/io/filesystem.h"
#include "core/json/json.h"
#include "core/json/schema.h"

namespace retort::host {
namespace {

class Anchor {
 public:
  Anchor(const PluginRegistry& plugins, PipelineConfig* config)
      : plugins_(plugins),
        config_(*config),
        folder_(std::filesystem::path(io::Absolute(config->file)).parent_path().string()) {}

  Status All() {
    for (auto& [name, data] : config_.data) {
      if (!data.source) continue;
      RETORT_RETURN_IF_ERROR(Use("data." + name + ".source", "source", &*data.source));
    }
    for (StageConfig& stage : config_.stages) RETORT_RETURN_IF_ERROR(Stage(&stage));
    return OkStatus();
  }

 private:
  Status Stage(StageConfig* stage) {
    const std::string where = "stages." + stage->name;
    std::vector<std::string>* files = &stage->plugin_files;
    if (stage->generate.generator) {
      PluginUse& use = stage->generate.generator->plugin;
      RETORT_RETURN_IF_ERROR(Use(where + ".generator", "generator", &use));
      files->insert(files->end(), use.files.begin(), use.files.end());
    }
    RETORT_RETURN_IF_ERROR(Chain("filter", files, &stage->filter.filters));
    for (EvalTask& task : stage->eval.tasks) {
      RETORT_RETURN_IF_ERROR(Chain("reward", files, &task.rewards));
    }
    RETORT_RETURN_IF_ERROR(Chain("reward", files, &stage->grpo.rewards));
    TrainingConfig* train = stage->training();
    if (train == nullptr) return OkStatus();
    if (train->evaluation.task) {
      RETORT_RETURN_IF_ERROR(Chain("reward", files, &train->evaluation.task->rewards));
    }
    for (LossEntry& loss : train->losses) {
      RETORT_RETURN_IF_ERROR(One(where + ".loss", "loss", loss.plugin, files, &loss.config));
    }
    return One(where + ".optimizer", "optimizer", train->optimizer, files,
               &train->optimizer_config);
  }

  Status Use(const std::string& where, const std::string& kind, PluginUse* use) {
    return One(where, kind, use->plugin, &use->files, &use->config);
  }

  // A chain is kept as text: entries whose config names no file stay as they are.
  Status Chain(const std::string& kind, std::vector<std::string>* files, ChainConfig* chain) {
    RETORT_ASSIGN_OR_RETURN(const json::Document entries,
                            json::Document::Parse(chain->json, chain->key_path));
    json::Writer out;
    RETORT_RETURN_IF_ERROR(Entries(entries.root(), kind, chain->key_path, files, &out));
    chain->json = out.Take();
    return OkStatus();
  }

  Status Entries(const json::Value& list, const std::string& kind, const std::string& where,
                 std::vector<std::string>* files, json::Writer* out) {
    out->BeginArray();
    for (size_t i = 0; i < list.size(); ++i) {
      const std::string here = where + "[" + std::to_string(i) + "]";
      if (!list[i].is_object()) {
        out->Copy(list[i]);
        continue;
      }
      RETORT_RETURN_IF_ERROR(Entry(list[i], kind, here, files, out));
    }
    out->EndArray();
    return OkStatus();
  }

  Status Entry(const json::Value& entry, const std::string& kind, const std::string& where,
               std::vector<std::string>* files, json::Writer* out) {
    out->BeginObject();
    for (size_t i = 0; i < entry.size(); ++i) {
      const std::string_view key = entry.key_at(i);
      const json::Value value = entry.value_at(i);
      out->Key(key);
      if (key == "rewards" && value.is_array()) {
        RETORT_RETURN_IF_ERROR(Entries(value, "reward", where + ".rewards", files, out));
      } else if (key == "config" && value.is_object()) {
        std::string config = value.Dump();
        const std::string id(entry["plugin"].StringOr(""));
        RETORT_RETURN_IF_ERROR(One(where, kind, id, files, &config));
        out->Raw(config);
      } else {
        out->Copy(value);
      }
    }
    out->EndObject();
    return OkStatus();
  }

  Status One(const std::string& where, const std::string& kind, std::string_view id,
             std::vector<std::string>* files, std::string* config) {
    if (id.starts_with(kind + "/")) id.remove_prefix(kind.size() + 1);
    const Result<const PluginInfo*> info = plugins_.Find(kind, id);
    if (!info.ok()) return OkStatus();
    const Result<std::string> resolved = plugins_.ResolveConfig(**info, *config);
    if (!resolved.ok()) return OkStatus();
    RETORT_ASSIGN_OR_RETURN(std::vector<json::MarkedValue> marked,
                            json::FindMarked((*info)->config_schema, *resolved, "file"));
    std::erase_if(marked, [](const json::MarkedValue& m) { return m.value.empty(); });
    for (json::MarkedValue& file : marked) {
      file.value = (std::filesystem::path(folder_) / file.value).lexically_normal().string();
      if (!io::RealFileSystem().Exists(file.value)) {
        return InvalidArgument(config_.file + ": " + where + ".config: " + file.pointer +
                               ": there is no file " + file.value +
                               " (relative paths start at the pipeline file's folder)");
      }
      files->push_back(file.value);
    }
    if (marked.empty()) return OkStatus();
    RETORT_ASSIGN_OR_RETURN(*config, json::ReplaceStrings(*resolved, marked));
    return OkStatus();
  }

  const PluginRegistry& plugins_;
  PipelineConfig& config_;
  std::string folder_;
};

}  // namespace

Status AnchorPluginFiles(const PluginRegistry& plugins, PipelineConfig* config) {
  return Anchor(plugins, config).All();
}

}  // namespace retort::host
