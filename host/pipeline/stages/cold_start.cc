// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stages/cold_start.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace retort::host {
namespace {

template <class T>
void Append(const std::vector<T>& from, std::vector<T>* to) {
  to->insert(to->end(), from.begin(), from.end());
}

void AppendDocuments(const engine::MicroBatch& from, engine::MicroBatch* to) {
  const auto begin = static_cast<int32_t>(to->ids.size());
  for (size_t s = 1; s < from.cu_seqlens.size(); ++s) {
    to->cu_seqlens.push_back(begin + from.cu_seqlens[s]);
  }
  Append(from.ids, &to->ids);
  Append(from.positions, &to->positions);
  Append(from.labels, &to->labels);
  Append(from.weight, &to->weight);
}

}  // namespace

int64_t ColdStartExamples(double ratio, int64_t completions) {
  const double examples = static_cast<double>(completions) * ratio / (1 - ratio);
  return std::max<int64_t>(1, std::llround(examples));
}

Result<ColdStart> ColdStart::Open(StageRun& run, const StageModel& model) {
  const GrpoStage& config = run.stage->grpo;
  const ColdStartOptions& options = *config.cold_start;
  const int64_t completions =
      config.prompts_per_step / config.steps_per_generation * config.num_generations;
  SftStage examples;
  examples.data = options.data;
  examples.limit = options.limit;
  examples.chat = config.chat;
  examples.max_length = options.max_length;
  examples.truncation = options.truncation;
  examples.train_on = options.train_on;
  examples.packing = "none";
  examples.per_device = 1;
  examples.accumulation = ColdStartExamples(options.ratio, completions);
  Result<std::unique_ptr<SftData>> data = LoadSftData(run, examples, model);
  if (!data.ok()) return data.status().WithContext("cold_start");
  ColdStart made;
  made.data_ = std::move(data).value();
  return made;
}

std::vector<engine::MicroBatch> ColdStart::Next(int64_t max_tokens) {
  std::vector<engine::MicroBatch> packed;
  for (engine::MicroBatch& one : ToMicroBatches(data_->loader->Next())) {
    const size_t used = packed.empty() ? 0 : packed.back().ids.size();
    if (!packed.empty() && static_cast<int64_t>(used + one.ids.size()) <= max_tokens) {
      AppendDocuments(one, &packed.back());
      continue;
    }
    one.losses = engine::kTokenLosses;
    packed.push_back(std::move(one));
  }
  return packed;
}

int64_t ColdStart::longest() const {
  size_t longest = 0;
  for (const data::SftExample& example : data_->build.examples) {
    longest = std::max(longest, example.ids.size());
  }
  return static_cast<int64_t>(longest);
}

}  // namespace retort::host
