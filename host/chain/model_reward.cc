// SPDX-License-Identifier: Apache-2.0
#include "host/chain/model_reward.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/data/sft_example.h"
#include "core/graph/value_head.h"

namespace retort::host {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// "Step 3", "step 12: …", "**Step 2**", "### Step 1"
bool StartsStep(std::string_view line) {
  const size_t word = line.find_first_not_of("#* \t");
  if (word == std::string_view::npos) return false;
  line.remove_prefix(word);
  if (!line.starts_with("Step ") && !line.starts_with("step ")) return false;
  return line.size() > 5 && IsDigit(line[5]);
}

bool IsBlank(std::string_view line) {
  return line.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

std::string_view LineAt(std::string_view text, size_t begin) {
  const size_t end = text.find('\n', begin);
  return text.substr(begin, end == std::string_view::npos ? end : end + 1 - begin);
}

}  // namespace

Result<StepReduce> ParseStepReduce(std::string_view name) {
  if (name == "min") return StepReduce::kMin;
  if (name == "mean") return StepReduce::kMean;
  if (name == "product") return StepReduce::kProduct;
  return InvalidArgument("\"" + std::string(name) + "\" is unknown (known: min, mean, product)");
}

std::vector<std::string_view> SplitSteps(std::string_view text) {
  std::vector<std::string_view> steps;
  size_t begin = 0;
  bool has_words = false, after_blank = false;  // of the step at hand
  for (size_t at = 0; at < text.size();) {
    const std::string_view line = LineAt(text, at);
    const bool blank = IsBlank(line);
    if (has_words && !blank && (after_blank || StartsStep(line))) {
      steps.push_back(text.substr(begin, at - begin));
      begin = at;
      has_words = false;
    }
    has_words = has_words || !blank;
    after_blank = blank;
    at += line.size();
  }
  if (begin < text.size()) steps.push_back(text.substr(begin));
  return steps;
}

Status ModelReward::Open() {
  if (weights_ != nullptr) return OkStatus();
  RETORT_ASSIGN_OR_RETURN(
      opened_, session_.OpenModel(options_.path, options_.chat_format, options_.adapter));
  if (opened_->tokenizer == nullptr) {
    return FailedPrecondition("model " + options_.path + " has no tokenizer.json");
  }
  RETORT_ASSIGN_OR_RETURN(std::unique_ptr<engine::Model> weights,
                          session_.LoadModel(*opened_, options_.storage));
  RETORT_RETURN_IF_ERROR(
      graph::CheckHasValueHead(weights->graph()).WithContext("model " + options_.path));
  weights_ = std::move(weights);
  return OkStatus();
}

Result<ModelReward::Text> ModelReward::Encode(const data::Sample& sample) const {
  data::SftOptions options;
  options.prompt = {.tokenizer = opened_->tokenizer.get(),
                    .chat = options_.chat && opened_->chat ? &*opened_->chat : nullptr,
                    .system = {}};
  options.max_length = std::numeric_limits<int64_t>::max();
  data::SftBuild build;
  RETORT_RETURN_IF_ERROR(data::AddSample(sample, options, &build));
  Text text;
  if (build.examples.empty()) return text;
  text.ids = std::move(build.examples.front().ids);
  text.ends = {text.ids.size()};
  return text;
}

// Steps are encoded one by one behind the prompt, so that each ends where a token does.
Result<ModelReward::Text> ModelReward::EncodeSteps(const data::Sample& sample) const {
  const std::vector<std::string_view> steps = SplitSteps(sample.completion);
  RETORT_ASSIGN_OR_RETURN(Text text, Encode(sample));
  if (text.ids.empty() || steps.empty()) return text;
  data::Sample part = sample;
  part.tokenizer.clear();  // its ids are of the whole
  part.finish = "length";  // no end of turn behind a step
  part.completion = std::string(steps[0]);
  RETORT_ASSIGN_OR_RETURN(text, Encode(part));
  for (size_t i = 1; i < steps.size(); ++i) {
    RETORT_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                            opened_->tokenizer->Encode(steps[i], {.add_special_tokens = false}));
    text.ids.insert(text.ids.end(), ids.begin(), ids.end());
    text.ends.push_back(text.ids.size());
  }
  return text;
}

double ModelReward::Reduce(std::span<const double> steps) const {
  double least = steps[0], sum = 0, product = 1;
  for (const double score : steps) {
    least = std::min(least, score);
    sum += score;
    product *= 1 / (1 + std::exp(-score));
  }
  if (options_.reduce == StepReduce::kMin) return least;
  return options_.reduce == StepReduce::kMean ? sum / static_cast<double>(steps.size()) : product;
}

Result<std::vector<std::optional<double>>> ModelReward::Score(std::span<const data::Sample> samples,
                                                              const engine::Cancel* cancel) {
  RETORT_RETURN_IF_ERROR(Open());
  std::vector<Text> texts;
  std::vector<engine::ScoreRequest> requests;
  std::vector<size_t> scored;  // samples that requests are of
  for (size_t i = 0; i < samples.size(); ++i) {
    RETORT_ASSIGN_OR_RETURN(Text text,
                            options_.steps ? EncodeSteps(samples[i]) : Encode(samples[i]));
    texts.push_back(std::move(text));
    if (!texts.back().ids.empty()) scored.push_back(i);
  }
  for (const size_t i : scored) {
    requests.push_back({.ids = texts[i].ids,
                        .adapter = opened_->adapter_index(),
                        .want_logp = false,
                        .want_values = true});
  }
  RETORT_ASSIGN_OR_RETURN(const std::vector<engine::ScoreResult> results,
                          weights_->Score(requests, 0, cancel, {}));
  std::vector<std::optional<double>> scores(samples.size());
  for (size_t r = 0; r < results.size(); ++r) {
    const Text& text = texts[scored[r]];
    std::vector<double> steps;
    for (const size_t end : text.ends) {
      const bool last = end == text.ids.size();
      const float value = last ? results[r].last_value : results[r].values[end - 1];
      steps.push_back(static_cast<double>(value));
    }
    scores[scored[r]] = Reduce(steps);
  }
  return scores;
}

}  // namespace retort::host
