// SPDX-License-Identifier: Apache-2.0
#include "core/generate/generator.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "tests/unit/generate/tiny_model.h"

namespace retort::generate {
namespace {

using engine::Completion;
using engine::Finish;
using engine::GenerateOptions;
using engine::GenerateRequest;
using testing::HasSubstr;

GenerateOptions Slots(int32_t n) {
  GenerateOptions options;
  options.max_batch = n;
  return options;
}
GenerateOptions Context(int64_t tokens) {
  GenerateOptions options;
  options.max_context = tokens;
  return options;
}

void ExpectSame(const Completion& a, const Completion& b) {
  EXPECT_EQ(a.ids, b.ids);
  EXPECT_EQ(a.logp, b.logp);  // to the bit
  EXPECT_EQ(a.finish, b.finish);
}

// log p of each completion id from a forward pass without a cache (LibTorch's or the plain
// attention, other GEMMs): the independent road to the same numbers.
void ExpectEqualsFullForward(TinyModel& model, const GenerateRequest& request,
                             const Completion& done) {
  std::vector<int32_t> ids = request.ids;
  ids.insert(ids.end(), done.ids.begin(), done.ids.end());
  const std::vector<float> logits = model.FullLogits(ids);
  const auto vocab = static_cast<size_t>(model.graph().vocab());
  for (size_t t = 0; t < done.ids.size(); ++t) {
    const float* row = logits.data() + (request.ids.size() + t - 1) * vocab;
    const float* best = std::max_element(row, row + vocab);
    double sum = 0;
    for (size_t c = 0; c < vocab; ++c) sum += std::exp(double(row[c]) - double(*best));
    const int32_t id = done.ids[t];
    const double logp = double(row[id]) - double(*best) - std::log(sum);
    EXPECT_NEAR(double(done.logp[t]), logp, 2e-4) << t;
    if (request.sampling.temperature == 0) {
      EXPECT_EQ(best - row, id) << t;
    }
  }
}

TEST(Generate, GreedyDecodingEqualsTheForwardPassRunAgain) {
  TinyModel model;
  const std::vector<GenerateRequest> requests = {Request(1, 9, 40, 0), Request(2, 1, 30, 0),
                                                 Request(3, 70, 25, 0)};
  const auto out = model.Run(requests);
  ASSERT_EQ(out.done.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(out.done[i].finish, Finish::kLength);
    EXPECT_EQ(int32_t(out.done[i].ids.size()), requests[i].sampling.max_tokens);
    ExpectEqualsFullForward(model, requests[i], out.done[i]);
  }
}

TEST(Generate, SlidingWindowsDecodeAsTheForwardPass) {
  TinyModel model({.window = 8});
  const GenerateRequest request = Request(1, 21, 80, 0);
  ExpectEqualsFullForward(model, request, model.Run({&request, 1}).done[0]);
}

TEST(Generate, APromptLongerThanAPrefillChunkDecodesAsTheForwardPass) {
  TinyModel model;
  const GenerateRequest request = Request(1, 1100, 6, 1);
  ExpectEqualsFullForward(model, request, model.Run({&request, 1}).done[0]);
}

TEST(Generate, ABatchGivesTheSameBitsAsEachRequestAlone) {
  TinyModel model;
  std::vector<GenerateRequest> requests;
  for (uint64_t uid = 0; uid < 8; ++uid) {
    requests.push_back(
        Request(uid, 3 + int64_t(uid * 9), 10 + int32_t(uid * 5), uid % 2 ? 0.8 : 0));
  }
  const auto together = model.Run(requests, Slots(8));
  const auto few = model.Run(requests, Slots(3));
  for (size_t i = 0; i < requests.size(); ++i) {
    const auto alone = model.Run({&requests[i], 1}, Slots(1));
    ExpectSame(together.done[i], alone.done[0]);
    ExpectSame(few.done[i], alone.done[0]);
  }
}

TEST(Generate, SamplesOfAPromptShareOnePrefill) {
  TinyModel model;
  std::vector<GenerateRequest> requests = {Request(5, 33, 12, 1), Request(6, 20, 12, 1)};
  requests[0].n_samples = 7;
  requests[1].n_samples = 2;
  const auto shared = model.Run(requests, Slots(3));
  EXPECT_EQ(shared.stats.prompt_tokens, 33 + 20);
  EXPECT_EQ(shared.stats.completion_tokens, 9 * 12);
  const auto one_by_one = model.Run(requests, Slots(1));
  ASSERT_EQ(shared.done.size(), 9u);
  for (size_t i = 0; i < 9; ++i) ExpectSame(shared.done[i], one_by_one.done[i]);
  EXPECT_NE(shared.done[0].ids, shared.done[1].ids);  // each index has its own numbers
}

TEST(Generate, TokensDependOnSeedUidAndIndexAlone) {
  TinyModel model;
  std::vector<GenerateRequest> requests = {Request(1, 10, 20, 1), Request(2, 10, 20, 1)};
  requests[1].ids = requests[0].ids;
  const auto first = model.Run(requests), again = model.Run(requests);
  ExpectSame(first.done[0], again.done[0]);
  EXPECT_NE(first.done[0].ids, first.done[1].ids);
  std::swap(requests[0], requests[1]);
  ExpectSame(model.Run(requests).done[0], first.done[0]);
  for (auto& r : requests) r.sampling.seed = 9;
  EXPECT_NE(model.Run(requests).done[0].ids, first.done[0].ids);
}

TEST(Generate, ARequestThatCanNeverFitIsRefusedWithTheNumbersAndOthersGoOn) {
  TinyModel model;
  std::vector<GenerateRequest> requests = {Request(1, 10, 20, 0), Request(2, 90, 20, 0),
                                           Request(3, 5, 20, 0)};
  requests[1].n_samples = 2;
  const auto out = model.Run(requests, Context(64));
  ASSERT_EQ(out.done.size(), 4u);
  for (size_t i : {1u, 2u}) {
    EXPECT_EQ(out.done[i].finish, Finish::kError);
    EXPECT_THAT(out.done[i].error, HasSubstr("90 tokens"));
    EXPECT_THAT(out.done[i].error, HasSubstr("need 110"));
    EXPECT_THAT(out.done[i].error, HasSubstr("64"));
  }
  EXPECT_EQ(out.done[0].ids.size(), 20u);
  EXPECT_EQ(out.done[3].ids.size(), 20u);
}

TEST(Generate, AStopIdEndsASampleAndStaysItsLastId) {
  TinyModel model;
  GenerateRequest request = Request(1, 10, 40, 0);
  const auto free_run = model.Run({&request, 1}).done[0];
  const int32_t stop = free_run.ids[7];
  const auto first = std::find(free_run.ids.begin(), free_run.ids.end(), stop);
  request.sampling.stop_ids = {stop};
  const auto stopped = model.Run({&request, 1}).done[0];
  EXPECT_EQ(stopped.finish, Finish::kStop);
  EXPECT_EQ(stopped.ids, std::vector<int32_t>(free_run.ids.begin(), first + 1));
}

TEST(Generate, StopIdsAreNotDrawnBeforeMinTokens) {
  TinyModel model;
  GenerateRequest request = Request(1, 10, 40, 0);
  const auto free_run = model.Run({&request, 1}).done[0];
  request.sampling.stop_ids = {free_run.ids[0], free_run.ids[3], free_run.ids[5]};
  request.sampling.min_tokens = 25;
  for (double temperature : {0.0, 1.0}) {
    request.sampling.temperature = temperature;
    const auto done = model.Run({&request, 1}).done[0];
    ASSERT_GE(done.ids.size(), 25u);
    for (size_t t = 0; t < 25; ++t) {
      EXPECT_EQ(std::count(request.sampling.stop_ids.begin(), request.sampling.stop_ids.end(),
                           done.ids[t]),
                0);
    }
    request.sampling.temperature = 0;
    ExpectEqualsFullForward(model, Request(1, 10, 40, 1), done);  // logp ignores the ban
  }
}

TEST(Generate, AForcedPrefixStartsEveryCompletion) {
  TinyModel model;
  GenerateRequest request = Request(1, 10, 12, 0);
  request.prefix = {4, 8, 15};
  request.n_samples = 2;
  const auto out = model.Run({&request, 1});
  for (const Completion& done : out.done) {
    EXPECT_EQ(std::vector<int32_t>(done.ids.begin(), done.ids.begin() + 3), request.prefix);
    EXPECT_EQ(done.ids.size(), 12u);
    EXPECT_EQ(done.logp[2], 0);
  }
  GenerateRequest joined = request;  // the same tokens as part of the prompt
  joined.ids.insert(joined.ids.end(), {4, 8, 15});
  joined.prefix.clear();
  joined.sampling.max_tokens = 9;
  const auto plain = model.Run({&joined, 1}).done[0];
  EXPECT_EQ(std::vector<int32_t>(out.done[0].ids.begin() + 3, out.done[0].ids.end()), plain.ids);
}

TEST(Generate, CancelReportsEverySampleOnce) {
  TinyModel model;
  std::vector<GenerateRequest> requests = {Request(1, 10, 30, 1), Request(2, 10, 30, 1),
                                           Request(3, 10, 30, 1)};
  requests[1].n_samples = 2;
  engine::Cancel cancel = 0;
  GenerateOptions options = Slots(2);
  options.cancel = &cancel;
  options.on_progress = [&](int64_t tokens) { cancel = tokens >= 12; };
  const auto out = model.Run(requests, options);
  ASSERT_EQ(out.done.size(), 4u);
  for (const Completion& done : out.done) EXPECT_EQ(done.finish, Finish::kCancelled);
  EXPECT_EQ(out.done[0].ids.size(), 6u);
  EXPECT_TRUE(out.done[3].ids.empty());
}

TEST(Generate, NoRequestsIsNoWork) {
  TinyModel model;
  EXPECT_TRUE(model.Run({}).done.empty());
}

TEST(Generate, LogitsThatAreNotFiniteAreAnError) {
  TinyModel model;
  for (size_t i = 0; i < model.graph().params.size(); ++i) {
    if (model.graph().params[i].name.find("norm") != std::string::npos) {
      model.Param(i)[0] = NAN;
    }
  }
  const GenerateRequest request = Request(1, 10, 5, 1);
  const auto done = model.Run({&request, 1}).done[0];
  EXPECT_EQ(done.finish, Finish::kError);
  EXPECT_THAT(done.error, HasSubstr("not finite"));
}

struct BadRequest {
  const char* rule;
  void (*spoil)(GenerateRequest&, GenerateOptions&);
};

TEST(GenerateCheck, WrongParametersAreNamed) {
  TinyModel model;
  const BadRequest cases[] = {
      {"temperature", [](auto& r, auto&) { r.sampling.temperature = -1; }},
      {"temperature", [](auto& r, auto&) { r.sampling.temperature = NAN; }},
      {"top_p", [](auto& r, auto&) { r.sampling.top_p = 0; }},
      {"top_p", [](auto& r, auto&) { r.sampling.top_p = 1.5; }},
      {"top_k", [](auto& r, auto&) { r.sampling.top_k = -2; }},
      {"max_tokens", [](auto& r, auto&) { r.sampling.max_tokens = 0; }},
      {"min_tokens", [](auto& r, auto&) { r.sampling.min_tokens = 99; }},
      {"no tokens", [](auto& r, auto&) { r.ids.clear(); }},
      {"n_samples", [](auto& r, auto&) { r.n_samples = 0; }},
      {"prefix", [](auto& r, auto&) { r.prefix.assign(20, 1); }},
      {"prompt id 131", [](auto& r, auto&) { r.ids[3] = 131; }},
      {"prefix id -1", [](auto& r, auto&) { r.prefix = {-1}; }},
      {"stop id 500", [](auto& r, auto&) { r.sampling.stop_ids = {500}; }},
      {"tokenizer", [](auto& r, auto&) { r.sampling.stop = {"x"}; }},
      {"max_batch", [](auto&, auto& o) { o.max_batch = 0; }},
      {"max_context", [](auto&, auto& o) { o.max_context = -1; }},
      {"tokenizer", [](auto&, auto& o) { o.on_text = [](auto, auto, auto) {}; }},
  };
  for (const BadRequest& bad : cases) {
    GenerateRequest request = Request(77, 10, 20, 1);
    GenerateOptions options;
    bad.spoil(request, options);
    const auto result = Generate(model.inference(), model.graph(), {&request, 1}, options, 1);
    ASSERT_FALSE(result.ok()) << bad.rule;
    EXPECT_EQ(result.status().code(), Code::kInvalidArgument);
    EXPECT_THAT(result.status().message(), HasSubstr(bad.rule));
  }
}

TEST(GenerateCheck, ACacheThatCannotBeIsRefusedWithItsSize) {
  TinyModel model;
  GenerateRequest request = Request(1, 4, 2000000000, 1);
  request.n_samples = 1000000;
  const auto result = Generate(model.inference(), model.graph(), {&request, 1}, Slots(1000000), 1);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.status().code(), Code::kResourceExhausted);
  EXPECT_THAT(result.status().message(), HasSubstr("2000000004 tokens"));
}

}  // namespace
}  // namespace retort::generate
