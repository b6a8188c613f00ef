// source/addition and reward/arithmetic: what is right is right, what is marked wrong is found by
// the two rewards that the demo filters with, and a saved position goes on exactly.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "core/json/json.h"
#include "retort/abi/draft/source.h"
#include "tests/unit/plugins/harness.h"

namespace retort::host {
namespace {

struct Problem {
  uint64_t uid = 0;
  std::string json, prompt, completion, answer;
  bool wrong = false;
};

class Source {
 public:
  explicit Source(const std::string& config)
      : source_(Make("source", "addition", config)),
        table_(static_cast<const retort_source_v1*>(source_.interface(RETORT_SOURCE_INTERFACE))) {}

  std::vector<Problem> Next(uint64_t max_n) {
    std::vector<Problem> got;
    int32_t end = 0;
    EXPECT_EQ(table_->next(source_.get(), call_.Begin(), max_n, &got, Take, &end), RETORT_OK);
    return got;
  }
  std::string Save() {
    std::string bytes;
    const retort_sink sink = {&bytes, [](void* ctx, const void* data, uint64_t n) {
                                static_cast<std::string*>(ctx)->append(
                                    static_cast<const char*>(data), n);
                                return static_cast<int64_t>(n);
                              }};
    EXPECT_EQ(table_->save(source_.get(), call_.Begin(), &sink), RETORT_OK);
    return bytes;
  }
  Status Load(std::string state) {
    const retort_reader reader = {&state, [](void* ctx, void* out, uint64_t n) {
                                    auto& left = *static_cast<std::string*>(ctx);
                                    const auto give = std::min<uint64_t>(n, left.size());
                                    std::copy_n(left.data(), give, static_cast<char*>(out));
                                    left.erase(0, give);
                                    return static_cast<int64_t>(give);
                                  }};
    return call_.End(table_->load(source_.get(), call_.Begin(), &reader), "load");
  }

 private:
  static void Take(void* ctx, const retort_record* record) {
    const std::string json(ToView(record->json));
    const json::Document parsed = json::Document::Parse(json, "record").value();
    const json::Value root = parsed.root();
    static_cast<std::vector<Problem>*>(ctx)->push_back(
        {record->uid, json, std::string(root["prompt"].StringOr("")),
         std::string(root["completion"].StringOr("")), std::string(root["answer"].StringOr("")),
         root["wrong"].BoolOr(false)});
  }

  PluginInstance source_;
  const retort_source_v1* table_;
  PluginCall call_{"source addition"};
};

double ScoreOf(const PluginInstance& reward, const Problem& problem) {
  return ScoreAll(reward, {{problem.completion, problem.answer, ""}}).score[0];
}

TEST(Addition, EveryRightSolutionIsRightAndEveryWrongOneIsFound) {
  const PluginInstance result = Make("reward", "number_match", "");
  const PluginInstance steps = Make("reward", "arithmetic", R"({"whole": true})");
  size_t n_wrong = 0, hidden = 0;
  for (const char* digits : {"1", "3", "17"}) {
    Source source(R"({"n": 1000, "seed": 5, "wrong_share": 0.2, "digits": )" + std::string(digits) +
                  "}");
    for (const Problem& p : source.Next(2000)) {
      const size_t plus = p.prompt.find('+');
      const uint64_t a = std::stoull(p.prompt.substr(0, plus));
      const uint64_t b = std::stoull(p.prompt.substr(plus + 1));
      EXPECT_EQ(p.answer, std::to_string(a + b)) << p.json;
      EXPECT_EQ(std::to_string(a).size(), std::stoul(digits));
      const bool right_result = ScoreOf(result, p) == 1, right_steps = ScoreOf(steps, p) == 1;
      EXPECT_EQ(right_result && right_steps, !p.wrong) << p.json;
      n_wrong += p.wrong ? 1 : 0;
      hidden += right_result && !right_steps ? 1 : 0;
    }
  }
  EXPECT_GT(n_wrong, 500U) << "of 3,000, one in five";
  EXPECT_LT(n_wrong, 700U);
  EXPECT_GT(hidden, n_wrong / 5) << "a third has a wrong step behind a right result";
}

TEST(Addition, CarriesAreWrittenOut) {
  for (const Problem& p : Source(R"({"digits": 2, "n": 200})").Next(200)) {
    const int a = std::stoi(p.prompt), b = std::stoi(p.prompt.substr(3));
    const int ones = a % 10 + b % 10, carry = ones / 10;
    const std::string tens = std::to_string(a / 10) + "+" + std::to_string(b / 10) +
                             (carry > 0 ? "+1=" : "=") + std::to_string(a / 10 + b / 10 + carry);
    EXPECT_EQ(p.completion, std::to_string(a % 10) + "+" + std::to_string(b % 10) + "=" +
                                std::to_string(ones) + ";" + tens + "#" + std::to_string(a + b));
  }
}

TEST(Addition, FollowsFromTheSeedAndGoesOnFromAPosition) {
  constexpr const char* kConfig = R"({"n": 100, "seed": 3, "wrong_share": 0.5})";
  const std::vector<Problem> all = Source(kConfig).Next(1000);
  ASSERT_EQ(all.size(), 100U);
  std::set<uint64_t> uids;
  for (const Problem& p : all) uids.insert(p.uid);
  EXPECT_EQ(uids.size(), all.size());
  EXPECT_NE(all[0].json, Source(R"({"seed": 4})").Next(1)[0].json);
  Source first(kConfig), second(kConfig);
  first.Next(37);
  ASSERT_TRUE(second.Load(first.Save()).ok());
  const std::vector<Problem> rest = second.Next(1000);
  ASSERT_EQ(rest.size(), 63U);
  EXPECT_EQ(rest[0].json, all[37].json);
  for (const char* state : {"", "addition 1 ", "addition 1 101", "addition 1 5x", "jsonl 1 5"}) {
    EXPECT_EQ(second.Load(state).code(), Code::kDataLoss) << state;
  }
}

TEST(Addition, WrongConfigsAreRefused) {
  for (const char* config : {R"({"digits": 0})", R"({"digits": 18})", R"({"n": -1})",
                             R"({"wrong_share": 1.5})", R"({"seed": -1})", R"({"digit": 3})"}) {
    EXPECT_FALSE(ConfigError("source", "addition", config).empty()) << config;
  }
}

struct Case {
  const char* completion;
  double share;
  const char* info;
};

TEST(Arithmetic, SharesOfEquationsThatHold) {
  constexpr Case kCases[] = {
      {"7+6=13;4+8+1=13;3+5+1=9#933", 1, R"({"equations":3,"right":3})"},
      {"7+6=13;4+8+1=12;3+5+1=9#923", 2 / 3.0, R"({"equations":3,"right":2})"},
      {"2 + 3 * 4 = 14, and 10 - 12 = -2.", 1, R"({"equations":2,"right":2})"},
      {"2*3*4=25", 0, R"({"equations":1,"right":0})"},
      {"no steps, 5 = 5", 0, R"({"equations":0,"right":0})"},
      {"3+=4; 7+; 1+1=2", 1, R"({"equations":1,"right":1})"},
      {"", 0, R"({"equations":0,"right":0})"},
      {"9223372036854775807+1=-9223372036854775808", 0, R"({"equations":1,"right":0})"},
      {"99999999999999999999+0=99999999999999999999", 0, R"({"equations":1,"right":0})"},
  };
  const PluginInstance share = Make("reward", "arithmetic", "");
  const PluginInstance whole = Make("reward", "arithmetic", R"({"whole": true})");
  for (const Case& c : kCases) {
    const Scores s = ScoreAll(share, {{c.completion, "", ""}});
    EXPECT_EQ(s.status[0], RETORT_SCORE_OK);
    EXPECT_DOUBLE_EQ(s.score[0], c.share) << c.completion;
    EXPECT_EQ(s.info[0], c.info) << c.completion;
    EXPECT_EQ(ScoreAll(whole, {{c.completion, "", ""}}).score[0], c.share == 1 ? 1 : 0);
  }
}

TEST(Arithmetic, ManyDigitsTakeLinearTime) {
  const PluginInstance reward = Make("reward", "arithmetic", "");
  std::string sums;
  for (int i = 0; i < 1'000'000; ++i) sums += "1+";
  EXPECT_EQ(ScoreAll(reward, {{std::string(5'000'000, '8'), "", ""}, {sums, "", ""}}).score[0], 0);
}

}  // namespace
}  // namespace retort::host
