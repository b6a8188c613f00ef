// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/config/references.h"

#include <algorithm>
#include <utility>

#include "core/io/filesystem.h"
#include "core/json/json.h"
#include "host/pipeline/config/read.h"

namespace retort::host {
namespace {

std::string DidYouMean(std::string_view word, const std::vector<std::string>& known) {
  const auto near = json::Nearest(word, known);
  return near ? "; did you mean '" + *near + "'?" : "";
}

template <class Map>
std::vector<std::string> KeysOf(const Map& map) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : map) keys.push_back(key);
  return keys;
}

bool LooksLikePath(std::string_view text) {
  return text.find('/') != std::string_view::npos || text.ends_with(".gguf") || text == "." ||
         text == "..";
}

}  // namespace

References::References(const Node& root, const PipelineConfig& config, std::string file_folder,
                       std::vector<std::string>* errors)
    : config_(config), file_folder_(std::move(file_folder)), errors_(errors) {
  if (const Node* stages = root.Find("stages")) {
    for (const Node& stage : stages->items) all_stages_.push_back(StringAt(stage, "name"));
  }
}

void References::Fail(const Node& node, const std::string& path, const std::string& rule) {
  errors_->push_back(node.where.Text() + ": " + path + ": " + rule);
}

bool References::CheckStage(const Node& node, const std::string& path, bool wants_model,
                            StageConfig* stage) {
  const std::string name = node.text.substr(1);
  const StageConfig* found = config_.FindStage(name);
  if (found == nullptr) {
    const bool later = std::count(all_stages_.begin(), all_stages_.end(), name) > 0;
    std::string rule = "'@" + name + "': there is no such stage" + DidYouMean(name, all_stages_);
    if (name == stage->name)
      rule = "'@" + name + "' is this stage itself";
    else if (later)
      rule = "'@" + name + "' comes later: a stage can use earlier ones only";
    Fail(node, path, rule);
    return false;
  }
  const bool gives_model = found->training() != nullptr;
  const bool gives_data = found->kind == StageKind::kGenerate || found->kind == StageKind::kFilter;
  if (wants_model ? !gives_model : !gives_data) {
    Fail(node, path,
         "'@" + name + "' is of kind " + std::string(StageKindName(found->kind)) +
             (wants_model ? ", which gives no model (a stage that trains does)"
                          : ", which gives no samples (generate and filter stages do)"));
    return false;
  }
  const auto& inputs = stage->inputs;
  if (std::count(inputs.begin(), inputs.end(), name) == 0) stage->inputs.push_back(name);
  return true;
}

ModelRef References::Model(const Node& node, const std::string& path, StageConfig* stage) {
  ModelRef ref = {.text = node.text};
  if (node.text.starts_with("@")) {
    if (CheckStage(node, path, true, stage)) ref.stage = node.text.substr(1);
    return ref;
  }
  if (const auto found = config_.models.find(node.text); found != config_.models.end()) {
    ref.model = found->second;
    return ref;
  }
  if (!LooksLikePath(node.text)) {
    std::vector<std::string> known = KeysOf(config_.models);
    for (const StageConfig& earlier : config_.stages) {
      if (earlier.training() != nullptr) known.push_back("@" + earlier.name);
    }
    Fail(node, path,
         "'" + node.text + "' is no name in models" + DidYouMean(node.text, known) +
             " (a path has a '/' in it or ends in .gguf; a stage is @name)");
    return ref;
  }
  const bool in_file = node.where.in_file && node.text[0] != '/';
  ref.model.path = io::Absolute(in_file ? io::Join(file_folder_, node.text) : node.text);
  ref.model.chat_format = "auto";
  return ref;
}

std::vector<DataRef> References::Data(const Node& list, const std::string& path,
                                      StageConfig* stage) {
  std::vector<DataRef> refs;
  for (const Node& item : list.items) {
    const Node* source = item.Find("data");
    if (source == nullptr) continue;  // reported by Validate
    DataRef ref = {.text = source->text,
                   .stage = "",
                   .weight = NumberAt(item, "weight", 1),
                   .limit = IntAt(item, "limit")};
    if (ref.text.starts_with("@")) {
      if (CheckStage(*source, path, false, stage)) ref.stage = ref.text.substr(1);
    } else if (config_.data.find(ref.text) == config_.data.end()) {
      std::vector<std::string> known = KeysOf(config_.data);
      for (const StageConfig& earlier : config_.stages) {
        if (earlier.kind != StageKind::kEval) known.push_back("@" + earlier.name);
      }
      Fail(*source, path,
           "'" + ref.text + "' is no name in data" + DidYouMean(ref.text, known) +
               " (a stage is @name)");
    }
    refs.push_back(std::move(ref));
  }
  return refs;
}

}  // namespace retort::host
