// Penalties and bias over a whole completion: greedy tokens against a naive loop over full forward
// passes.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "tests/unit/generate/tiny_model.h"

namespace retort::generate {
namespace {

using engine::Completion;
using engine::GenerateRequest;
using engine::SamplingParams;

// The next greedy token after `ids`, of which the first n_prompt are the prompt.
int32_t NaiveNext(TinyModel& model, const std::vector<int32_t>& ids, size_t n_prompt,
                  const SamplingParams& s) {
  const std::vector<float> logits = model.FullLogits(ids);
  std::vector<double> row(logits.end() - model.graph().vocab(), logits.end());
  for (const auto& [id, bias] : s.logit_bias) row[size_t(id)] += double(bias);
  for (int32_t id : std::set<int32_t>(ids.begin(), ids.end())) {
    double& z = row[size_t(id)];
    z = z > 0 ? z / s.repetition_penalty : z * s.repetition_penalty;
  }
  std::map<int32_t, int> counts;
  for (size_t t = n_prompt; t < ids.size(); ++t) ++counts[ids[t]];
  for (const auto& [id, n] : counts) {
    row[size_t(id)] -= s.frequency_penalty * n + s.presence_penalty;
  }
  return static_cast<int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

TEST(Penalties, GreedyTokensEqualANaiveLoop) {
  TinyModel model;
  std::vector<SamplingParams> cases(6);
  cases[0].repetition_penalty = 1.4;
  cases[1].presence_penalty = 2;
  cases[2].frequency_penalty = 0.7;
  cases[3].frequency_penalty = -0.5;
  cases[4].logit_bias = {{3, 1.5F}, {77, -2.0F}};
  cases[5] = {.repetition_penalty = 1.2, .presence_penalty = 0.5, .frequency_penalty = 0.3};
  cases[5].logit_bias = {{9, 1.0F}};
  std::vector<GenerateRequest> requests;
  for (const SamplingParams& s : cases) {
    requests.push_back(Request(requests.size(), 20, 40, 0));
    const SamplingParams plain = requests.back().sampling;
    requests.back().sampling = s;
    requests.back().sampling.max_tokens = plain.max_tokens;
    requests.back().sampling.temperature = 0;
    requests.back().prefix = {4, 8};
  }
  const auto together = model.Run(requests, {.max_batch = 4});
  for (size_t i = 0; i < cases.size(); ++i) {
    SCOPED_TRACE(i);
    std::vector<int32_t> ids = requests[i].ids;
    ids.insert(ids.end(), {4, 8});
    while (ids.size() < 60) ids.push_back(NaiveNext(model, ids, 20, cases[i]));
    EXPECT_EQ(together.done[i].ids, std::vector<int32_t>(ids.begin() + 20, ids.end()));
    GenerateRequest plain = requests[i];
    plain.sampling = {.temperature = 0, .max_tokens = 40};
    EXPECT_NE(model.Run({&plain, 1}).done[0].ids, together.done[i].ids);  // it did something
  }
}

TEST(Penalties, CountOfTheCompletionOnly) {
  TinyModel model;
  GenerateRequest request = Request(1, 100, 60, 0);
  request.sampling.presence_penalty = 1000;
  const Completion done = model.Run({&request, 1}).done[0];
  EXPECT_EQ(std::set<int32_t>(done.ids.begin(), done.ids.end()).size(), 60u);
  // 100 ids of the prompt are most of the vocabulary: they could be written all the same.
  EXPECT_TRUE(std::any_of(done.ids.begin(), done.ids.end(), [&](int32_t id) {
    return std::count(request.ids.begin(), request.ids.end(), id) > 0;
  }));
}

}  // namespace
}  // namespace retort::generate
