// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stage_models.h"

#include "host/pipeline/artifact.h"

namespace retort::host {

Result<std::string> ModelPath(const ModelRef& ref, const std::string& run_path) {
  if (ref.stage.empty()) return ref.model.path;
  io::FileSystem& fs = io::RealFileSystem();
  const std::string folder = io::Join(run_path, ref.stage);
  RETORT_ASSIGN_OR_RETURN(const auto manifest, ReadStageManifest(fs, folder));
  if (!manifest || !manifest->finished || manifest->files.empty()) {
    return FailedPrecondition("model '@" + ref.stage + "': the stage has not finished in " +
                              run_path + "; run it first");
  }
  // An sft stage's files all lie in its last checkpoint.
  const std::string& name = manifest->files.front().name;
  return io::Join(folder, name.substr(0, name.find('/')));
}

std::string ChatFormatOf(const ModelRef& ref, const PipelineConfig& config) {
  if (ref.stage.empty()) return ref.model.chat_format;
  const StageConfig* stage = config.FindStage(ref.stage);  // earlier ones only: this ends
  return stage != nullptr ? ChatFormatOf(stage->training()->model, config) : "auto";
}

std::string StorageOf(const ModelRef& ref, const PipelineConfig& config) {
  if (ref.stage.empty()) return ref.model.storage;
  const StageConfig* stage = config.FindStage(ref.stage);
  if (stage == nullptr || !stage->training()->lora) return "auto";
  return StorageOf(stage->training()->model, config);
}

Result<OpenedModel*> OpenConfigured(Session& session, const ModelConfig& model) {
  if (model.blueprint) return session.OpenModel(*model.blueprint, model.path, model.chat_format);
  return session.OpenModel(model.path, model.chat_format, model.adapter);
}

Result<StageModel> OpenStageModel(Session& session, const PipelineConfig& config,
                                  const ModelRef& ref, const std::string& run_path) {
  RETORT_ASSIGN_OR_RETURN(const std::string path, ModelPath(ref, run_path));
  Result<OpenedModel*> opened = ref.stage.empty()
                                    ? OpenConfigured(session, ref.model)
                                    : session.OpenModel(path, ChatFormatOf(ref, config));
  if (!opened.ok()) return opened.status().WithContext("model '" + ref.text + "'");
  return StageModel{.label = ref.text, .opened = *opened, .storage = StorageOf(ref, config)};
}

Result<data::PromptOptions> PromptOptionsFor(const StageModel& model, const ChatOptions& chat) {
  const OpenedModel& opened = *model.opened;
  if (opened.tokenizer == nullptr) {
    return FailedPrecondition("model '" + model.label + "' (" + opened.path +
                              ") has no tokenizer.json");
  }
  data::PromptOptions options = {
      .tokenizer = opened.tokenizer.get(), .chat = nullptr, .system = chat.system};
  if (chat.enabled && opened.chat) options.chat = &*opened.chat;
  const bool has_template = !opened.source->chat_template().empty();
  if (chat.enabled && !opened.chat && has_template) {
    return opened.chat_status.WithContext("model '" + model.label + "'");
  }
  if (options.chat == nullptr && !chat.system.empty()) {
    return FailedPrecondition("chat.system is set, but model '" + model.label +
                              "' has no chat template (set its chat_format, or leave it out)");
  }
  return options;
}

}  // namespace retort::host
