// A reward that a model gives: its value head's number for the whole text, or for each of its
// steps.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/data/sample.h"
#include "core/engine/engine.h"
#include "host/session/session.h"

namespace retort::host {

enum class StepReduce : uint8_t { kMin, kMean, kProduct };
Result<StepReduce> ParseStepReduce(std::string_view name);  // min, mean, product

struct ModelRewardOptions {
  std::string path = {};  // as Session::OpenModel takes it, and the next two
  std::string adapter = {}, chat_format = {};
  bool chat = true;                      // false: prompts are read verbatim
  std::string storage = "auto";          // of its weights in memory
  bool steps = false;                    // score each step of the completion
  StepReduce reduce = StepReduce::kMin;  // of the steps' scores; product: of their sigmoids
};

// The completion's steps, in order and without gaps: a step ends before a line that begins with
// "Step" and a number, and behind blank lines.
std::vector<std::string_view> SplitSteps(std::string_view completion);

class ModelReward {
 public:
  ModelReward(Session& session, ModelRewardOptions options)
      : session_(session), options_(std::move(options)) {}

  // Nothing: a sample without an end (cancelled, failed). The model is opened at the first call; it
  // reads texts with its own tokenizer and chat template, as in its training. Not to be called
  // while another thread uses the engine.
  Result<std::vector<std::optional<double>>> Score(std::span<const data::Sample> samples,
                                                   const engine::Cancel* cancel);

 private:
  struct Text {
    std::vector<int32_t> ids;
    std::vector<size_t> ends;  // numbers of ids up to which steps go
  };
  Status Open();
  Result<Text> Encode(const data::Sample& sample) const;
  Result<Text> EncodeSteps(const data::Sample& sample) const;
  double Reduce(std::span<const double> steps) const;

  Session& session_;
  ModelRewardOptions options_;
  OpenedModel* opened_ = nullptr;
  std::unique_ptr<engine::Model> weights_;
};

}  // namespace retort::host
