// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/makings.h"

#include <algorithm>

#include "core/base/hash.h"
#include "core/io/filesystem.h"
#include "host/pipeline/stage_models.h"

namespace retort::host {

Status MakingsReader::AddModel(const ModelRef& ref, NamedHashes* inputs) {
  if (!ref.stage.empty()) return OkStatus();  // among the stage's inputs
  RETORT_ASSIGN_OR_RETURN(const OpenedModel* opened, OpenConfigured(session_, ref.model));
  const std::string& path = opened->base_path();
  if (files_.count(path) == 0) {
    RETORT_ASSIGN_OR_RETURN(files_[path], opened->source->Fingerprint());
  }
  inputs->emplace_back("model:" + ref.text, files_[path]);
  if (!opened->adapter) return OkStatus();
  return AddFiles("adapter:" + ref.text, model::AdapterFiles(opened->adapter->folder), inputs);
}

Status MakingsReader::AddData(const std::vector<DataRef>& refs, NamedHashes* inputs) {
  for (const DataRef& ref : refs) {
    if (!ref.stage.empty()) continue;
    const DataConfig& entry = config_.data.at(ref.text);
    if (entry.source) {
      RETORT_RETURN_IF_ERROR(AddFiles("data:" + ref.text, entry.source->files, inputs));
      continue;
    }
    const std::string& path = entry.path;
    if (files_.count(path) == 0) {
      RETORT_ASSIGN_OR_RETURN(const io::FileDigest digest, io::HashFile(path));
      files_[path] = digest.hash;
    }
    inputs->emplace_back("data:" + ref.text, files_[path]);
  }
  return OkStatus();
}

// Files that plugin configs name, under the file's name: a moved file is the same file.
Status MakingsReader::AddFiles(const std::string& what, const std::vector<std::string>& paths,
                               NamedHashes* inputs) {
  for (const std::string& path : paths) {
    if (files_.count(path) == 0) {
      RETORT_ASSIGN_OR_RETURN(const io::FileDigest digest, io::HashFile(path));
      files_[path] = digest.hash;
    }
    inputs->emplace_back(what + ":" + path.substr(path.rfind('/') + 1), files_[path]);
  }
  return OkStatus();
}

Status MakingsReader::AddPlugin(const std::string& kind, const std::string& id,
                                NamedHashes* plugins) {
  RETORT_ASSIGN_OR_RETURN(const PluginInfo* info, session_.plugins().Find(kind, id));
  plugins->emplace_back(kind + "/" + id, info->hash);
  return OkStatus();
}

Result<StageMakings> MakingsReader::Of(const StageConfig& stage) {
  StageMakings makings = {.kind = std::string(StageKindName(stage.kind)),
                          .config_hash = HashHex(stage.resolved)};
  NamedHashes& inputs = makings.inputs;
  for (const std::string& name : stage.inputs) {
    const std::string folder = io::Join(config_.output, name);
    RETORT_ASSIGN_OR_RETURN(const auto manifest, ReadStageManifest(io::RealFileSystem(), folder));
    if (!manifest || !manifest->finished) {
      return FailedPrecondition("stage " + stage.name + " needs '@" + name +
                                "', which has not finished in " + config_.output);
    }
    inputs.emplace_back("stage:" + name, manifest->ArtifactHash());
  }
  for (const std::vector<DataRef>* refs : stage.DataLists()) {
    RETORT_RETURN_IF_ERROR(AddData(*refs, &inputs));
  }
  RETORT_RETURN_IF_ERROR(AddFiles("file", stage.plugin_files, &inputs));
  for (const auto& refs : {stage.Models(), stage.RewardModels()}) {
    for (const ModelRef* ref : refs) RETORT_RETURN_IF_ERROR(AddModel(*ref, &inputs));
  }
  if (stage.filter.tokenizer) RETORT_RETURN_IF_ERROR(AddModel(*stage.filter.tokenizer, &inputs));
  for (const auto& [kind, id] : stage.plugins) {
    RETORT_RETURN_IF_ERROR(AddPlugin(kind, id, &makings.plugins));
  }
  for (const PlannedModel& model : plan_.Find(stage.name)->models) {
    RETORT_RETURN_IF_ERROR(AddPlugin("family", model.family, &makings.plugins));
  }
  for (NamedHashes* hashes : {&makings.inputs, &makings.plugins}) {
    std::sort(hashes->begin(), hashes->end());
    hashes->erase(std::unique(hashes->begin(), hashes->end()), hashes->end());
  }
  return makings;
}

}  // namespace retort::host
