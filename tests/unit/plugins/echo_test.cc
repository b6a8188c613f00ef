// generator/echo: events by the contract, limits, failures, cancellation.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "retort/abi/draft/generator.h"
#include "tests/unit/plugins/harness.h"

namespace retort::host {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kHello =
    R"([{"role": "user", "content": "no"}, {"role": "user", "content": "one two  three"}])";

class Generator {
 public:
  explicit Generator(const std::string& config)
      : generator_(Make("generator", "echo", config)),
        table_(static_cast<const retort_generator_v1*>(
            generator_.interface(RETORT_GENERATOR_INTERFACE))) {}

  uint64_t Submit(const std::vector<uint64_t>& uids, const std::string& messages = kHello,
                  const std::string& params = "{}", uint32_t n_samples = 1) {
    std::vector<retort_request> requests;
    for (const uint64_t uid : uids) {
      requests.push_back({uid, ToStr(messages), ToStr(params), nullptr, 0, n_samples});
    }
    uint64_t n_taken = 0;
    const Status status =
        call_.End(table_->submit(generator_.get(), call_.Begin(), requests.data(),
                                 sizeof(retort_request), requests.size(), &n_taken),
                  "submit");
    EXPECT_TRUE(status.ok()) << status.ToString();
    return n_taken;
  }
  // "uid.sample kind text finish" per event.
  std::vector<std::string> Poll() {
    std::vector<std::string> got;
    const auto on = [](void* ctx, const retort_event* e) {
      static constexpr const char* kKinds[] = {"DONE", "ERROR", "DELTA"};
      static_cast<std::vector<std::string>*>(ctx)->push_back(
          std::to_string(e->uid) + "." + std::to_string(e->sample) + " " + kKinds[e->kind] + " " +
          std::string(ToView(e->text)) + " " +
          std::to_string(e->kind == RETORT_EVENT_ERROR ? static_cast<uint32_t>(e->status)
                                                       : e->finish));
    };
    const Status status =
        call_.End(table_->poll(generator_.get(), call_.Begin(), &got, on), "poll");
    EXPECT_TRUE(status.ok()) << status.ToString();
    return got;
  }
  void Cancel(uint64_t uid) {
    EXPECT_EQ(table_->cancel(generator_.get(), call_.Begin(), uid), RETORT_OK);
  }

 private:
  PluginInstance generator_;
  const retort_generator_v1* table_;
  PluginCall call_{"generator echo"};
};

TEST(Echo, AnswersWithTheLastUserMessage) {
  Generator echo("");
  EXPECT_EQ(echo.Submit({5, 9}), 2U);
  EXPECT_THAT(echo.Poll(), ElementsAre("5.0 DONE one two  three 0", "9.0 DONE one two  three 0"));
  EXPECT_TRUE(echo.Poll().empty());
}

TEST(Echo, TemplateSamplesAndParts) {
  Generator echo(R"({"template": "<{sample}é{prompt}>", "chunk_bytes": 3})");
  echo.Submit({5}, R"([{"role": "user", "content": "ab"}])", "{}", 2);
  EXPECT_THAT(echo.Poll(), ElementsAre("5.0 DELTA <0é 0", "5.0 DELTA ab> 0", "5.0 DONE <0éab> 0",
                                       "5.1 DELTA <1é 0", "5.1 DELTA ab> 0", "5.1 DONE <1éab> 0"));
}

TEST(Echo, PromptIsNotATemplate) {
  Generator echo("");
  echo.Submit({1}, R"([{"role": "user", "content": "{sample} {prompt}"}])");
  EXPECT_THAT(echo.Poll(), ElementsAre("1.0 DONE {sample} {prompt} 0"));
}

TEST(Echo, MaxTokensCountsWords) {
  for (const auto& [limit, expected] : {std::pair{"1", "1.0 DONE one 1"},
                                        {"2", "1.0 DONE one two 1"},
                                        {"3", "1.0 DONE one two  three 0"},
                                        {"9", "1.0 DONE one two  three 0"}}) {
    Generator echo("");
    echo.Submit({1}, kHello, std::string(R"({"max_tokens": )") + limit + "}");
    EXPECT_THAT(echo.Poll(), ElementsAre(expected));
  }
}

TEST(Echo, StopsAtTheFirstStopText) {
  Generator echo("");
  echo.Submit({1}, kHello, R"({"stop": ["thr", " two", ""]})");
  EXPECT_THAT(echo.Poll(), ElementsAre("1.0 DONE one 0"));
}

TEST(Echo, QueueIsBounded) {
  Generator echo(R"({"max_queue": 2})");
  EXPECT_EQ(echo.Submit({1, 2, 3}), 2U);
  EXPECT_EQ(echo.Submit({3}), 0U);
  EXPECT_EQ(echo.Poll().size(), 2U);
  EXPECT_EQ(echo.Submit({3}), 1U);
}

TEST(Echo, CancelledRequestsGiveNothing) {
  Generator echo("");
  echo.Submit({1, 2});
  echo.Cancel(1);
  echo.Cancel(77);
  EXPECT_THAT(echo.Poll(), ElementsAre("2.0 DONE one two  three 0"));
}

TEST(Echo, RequestThatCannotBeAnsweredGetsAnError) {
  Generator echo("");
  EXPECT_EQ(echo.Submit({1}, R"([{"role": "system", "content": "x"}])"), 1U);
  EXPECT_THAT(echo.Poll(), ElementsAre(HasSubstr("1.0 ERROR no message of the user")));
  EXPECT_EQ(echo.Submit({1}, "not json"), 1U);
  EXPECT_THAT(echo.Poll(), ElementsAre(HasSubstr("1.0 ERROR")));
  echo.Submit({1}, "not json");
  echo.Cancel(1);
  EXPECT_TRUE(echo.Poll().empty());
}

TEST(Echo, FailsOnPurpose) {
  Generator always(R"({"fail_on": "two"})");
  for (int i = 0; i < 3; ++i) {
    always.Submit({1});
    EXPECT_THAT(always.Poll(), ElementsAre("1.0 ERROR the prompt has \"two\" in it 14"));
  }
  Generator twice(R"({"fail_on": "two", "fail_times": 2})");
  std::vector<std::string> last;
  for (int i = 0; i < 3; ++i) {
    twice.Submit({1});
    last = twice.Poll();
  }
  EXPECT_THAT(last, ElementsAre("1.0 DONE one two  three 0"));
}

}  // namespace
}  // namespace retort::host
