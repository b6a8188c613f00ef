// Models as stages see them: a reference of the config, or a stage's last checkpoint, opened with
// its tokenizer and the way prompts are made for it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "core/base/status.h"
#include "core/data/prompt.h"
#include "core/engine/engine.h"
#include "host/pipeline/config/config.h"
#include "host/pipeline/run_folder.h"
#include "host/session/session.h"

namespace retort::host {

struct StageModel {
  std::string label = {};         // as the config names it
  OpenedModel* opened = nullptr;  // lives as long as the session
  std::string storage = "auto";   // of its weights, as the config says
};

// The path of the model that `ref` stands for; of a stage's: its last checkpoint, if it finished.
Result<std::string> ModelPath(const ModelRef& ref, const std::string& run_path);
// "auto", or the format named for the model that a chain of stages started from.
std::string ChatFormatOf(const ModelRef& ref, const PipelineConfig& config);

// The storage named for a model; for a stage with `lora`, that of the base it trained beside.
std::string StorageOf(const ModelRef& ref, const PipelineConfig& config);

// The model of an entry of the config, not of a stage.
Result<OpenedModel*> OpenConfigured(Session& session, const ModelConfig& model);

Result<StageModel> OpenStageModel(Session& session, const PipelineConfig& config,
                                  const ModelRef& ref, const std::string& run_path);

// How records become prompts for this model. Errors: no tokenizer; a template that is unknown; a
// system text although prompts are verbatim.
Result<data::PromptOptions> PromptOptionsFor(const StageModel& model, const ChatOptions& chat);

}  // namespace retort::host
