// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stages/own_samples.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/base/rng.h"
#include "host/pipeline/plan_memory.h"
#include "host/pipeline/sampling.h"

namespace retort::host {
namespace {

// Tokens before the first trained one.
int64_t PromptLength(const data::SftExample& example) {
  const auto begin = example.trained.begin();
  return std::find(begin, example.trained.end(), uint8_t{1}) - begin;
}

data::SftExample CutOut(const data::SftExample& example, const data::Piece& piece) {
  data::SftExample out = {.uid = example.uid, .ids = {}, .trained = {}, .weight = example.weight};
  out.ids.assign(example.ids.begin() + piece.begin, example.ids.begin() + piece.end);
  out.trained.assign(example.trained.begin() + piece.begin, example.trained.begin() + piece.end);
  return out;
}

void Append(const data::SftExample& document, engine::MicroBatch* batch) {
  const size_t n = document.ids.size();
  for (size_t t = 0; t < n; ++t) {
    const bool labelled = t + 1 < n && document.trained[t + 1] != 0;
    batch->ids.push_back(document.ids[t]);
    batch->positions.push_back(static_cast<int32_t>(t));
    batch->labels.push_back(labelled ? int64_t{document.ids[t + 1]} : int64_t{-100});
    batch->weight.push_back(labelled ? document.weight : 0.0F);
  }
  batch->cu_seqlens.push_back(static_cast<int32_t>(batch->ids.size()));
}

// In their order, as many as fit together.
std::vector<engine::MicroBatch> PackInOrder(const std::vector<data::SftExample>& documents,
                                            size_t most_tokens) {
  std::vector<engine::MicroBatch> batches;
  for (const data::SftExample& document : documents) {
    if (batches.empty() || batches.back().ids.size() + document.ids.size() > most_tokens) {
      batches.emplace_back();
      batches.back().cu_seqlens.push_back(0);
    }
    Append(document, &batches.back());
  }
  return batches;
}

}  // namespace

bool OwnSamples::IsDue(int64_t step) const {
  const RngKey key = Derive(Derive(run_.key(), "on_policy"), static_cast<uint64_t>(step));
  return Rng(key).Uniform() < run_.stage->distill.on_policy;
}

engine::GenerateRequest OwnSamples::RequestOf(size_t index, const data::SftExample& document,
                                              int64_t step) const {
  const int64_t prompt = PromptLength(document);
  const int64_t room = run_.stage->sft.max_length - prompt;
  engine::GenerateRequest request = {.uid = index, .ids = {}, .prefix = {}, .sampling = {}};
  request.ids.assign(document.ids.begin(), document.ids.begin() + prompt);
  const RngKey key = Derive(Derive(run_.key(), "own_samples"), static_cast<uint64_t>(step));
  request.sampling = SamplingParamsOf(run_.stage->distill.sampling, *student_.opened, key.lo);
  request.sampling.max_tokens =
      static_cast<int32_t>(std::min<int64_t>(request.sampling.max_tokens, room));
  request.sampling.min_tokens = std::min(request.sampling.min_tokens, request.sampling.max_tokens);
  return request;
}

Status OwnSamples::Generate(std::span<const engine::GenerateRequest> requests,
                            StageTrainer& trainer, std::vector<data::SftExample>* documents) {
  const SampleJob job = {
      .model = &student_, .adapter = trainer.adapter(), .decoding = &run_.stage->distill.decoding};
  RETORT_ASSIGN_OR_RETURN(engine::GenerateOptions options, OptionsOf(job));
  options.cancel = run_.options->cancel;
  std::string error;
  options.on_done = [&](const engine::Completion& completion) {
    if (completion.finish == engine::Finish::kError) error = completion.error;
    data::SftExample& document = (*documents)[completion.uid];
    const auto prompt = static_cast<size_t>(PromptLength(document));
    document.ids.resize(prompt);
    document.trained.resize(prompt);
    document.ids.insert(document.ids.end(), completion.ids.begin(), completion.ids.end());
    document.trained.resize(document.ids.size(), 1);
  };
  const Result<engine::GenerateStats> stats = trainer.model().Generate(requests, options);
  if (run_.cancelled()) return run_.CancelledStatus();
  RETORT_RETURN_IF_ERROR(stats.status());
  if (!error.empty()) return FailedPrecondition("a sample of the student: " + error);
  run_.numbers.Add("on_policy_steps", 1);
  AddStats(*stats, &run_.numbers);
  return OkStatus();
}

Result<std::vector<engine::MicroBatch>> OwnSamples::Draw(std::span<const data::PackedBatch> batches,
                                                         int64_t step, StageTrainer& trainer) {
  std::vector<data::SftExample> documents;
  auto most = static_cast<size_t>(MicroBatchTokens(run_.stage->sft));
  for (const data::PackedBatch& batch : batches) {
    most = std::max(most, batch.ids.size());
    for (const data::Piece& piece : batch.pieces) {
      documents.push_back(CutOut(examples_[static_cast<size_t>(piece.document)], piece));
    }
  }
  std::vector<engine::GenerateRequest> requests;
  for (size_t i = 0; i < documents.size(); ++i) {
    const int64_t prompt = PromptLength(documents[i]);
    if (prompt == 0 || prompt >= run_.stage->sft.max_length) continue;
    requests.push_back(RequestOf(i, documents[i], step));
  }
  if (!requests.empty()) RETORT_RETURN_IF_ERROR(Generate(requests, trainer, &documents));
  return PackInOrder(documents, most);
}

}  // namespace retort::host
