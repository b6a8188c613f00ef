// reward/number_match: the rule of numerics, on cases and on answers in the style of GSM8K.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/plugins/harness.h"

namespace retort::host {
namespace {

struct Case {
  const char* completion;
  const char* gold;
  double score;
  const char* answer;  // as reported; NULL: none
};

// Completion, gold, score, reported answer. The first eight are GSM8K's kind of answers.
constexpr Case kCases[] = {
    {"Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nAltogether 48+24 = 72 clips.\n#### 72",
     "Natalia sold 48/2 = 24 clips in May.\n#### 72", 1, "72"},
    {"She earns 12/60 = $0.2 a minute, so 0.2 x 50 = $10.", "#### 10", 1, "10"},
    {"He needs $5 more. The answer is 6", "#### 5", 0, "6"},
    {"He writes 624 pages a year", "... #### 624", 1, "624"},
    {"The flowers cost $3,600 in all.", "#### 3600", 1, "3600"},
    {"The total is 1,234,567.00 dollars", "#### 1,234,567", 1, "1234567"},
    {"His balance is -15", "#### -15", 1, "-15"},
    {"I can't tell.", "#### 4", 0, nullptr},
    // Decimals are compared exactly, whatever their length.
    {"0.50", "#### .5", 0, "0.5"},  // the rule's pattern reads ".5" as 5
    {"0.50", "#### 0.5", 1, "0.5"},
    {"007", "#### 7", 1, "7"},
    {"+7", "#### 7", 1, "7"},
    {"-0", "#### 0", 1, "0"},
    {"-0.00", "#### 0", 1, "0"},
    {"9007199254740993", "#### 9007199254740992", 0, "9007199254740993"},
    {"0.1000000000000000000000000001", "#### 0.1", 0, "0.1000000000000000000000000001"},
    // The last match of the pattern, as Python's re finds it.
    {"72.", "#### 72", 1, "72"},
    {"72, and that is it", "#### 72", 1, "72"},
    {"first 5, then 3-4", "#### -4", 1, "-4"},
    {"1.2.3", "#### 3", 1, "3"},
    {"1,2,3", "#### 123", 1, "123"},
    {"5 --7", "#### -7", 1, "-7"},
    {"\xC3\xA9 12 \xFF", "#### 12", 1, "12"},
    // A gold without a mark: its last number.
    {"it is 8", "of 4 and 4 makes 8", 1, "8"},
};

TEST(NumberMatch, Cases) {
  const PluginInstance reward = Make("reward", "number_match", "");
  for (const Case& c : kCases) {
    const Scores s = ScoreAll(reward, {{c.completion, c.gold, ""}});
    EXPECT_EQ(s.status[0], RETORT_SCORE_OK) << c.completion;
    EXPECT_EQ(s.score[0], c.score) << c.completion;
    const std::string info = c.answer == nullptr ? R"({"answer":null})"
                                                 : "{\"answer\":\"" + std::string(c.answer) + "\"}";
    EXPECT_EQ(s.info[0], info) << c.completion;
  }
}

TEST(NumberMatch, NoGoldIsNoVerdict) {
  const PluginInstance reward = Make("reward", "number_match", "");
  const Scores s = ScoreAll(reward, {{"7", "", ""},
                                     {"7", "#### none", ""},
                                     {"7", "", R"({"question": "?"})"},
                                     {"7", "", R"({"answer": null})"}});
  EXPECT_THAT(s.status, testing::Each(RETORT_SCORE_NOT_APPLICABLE));
}

TEST(NumberMatch, GoldFromTheRecord) {
  const PluginInstance by_default = Make("reward", "number_match", "");
  const Scores s = ScoreAll(by_default, {{"so 12", "", R"({"answer": "5+7 = 12\n#### 12"})"},
                                         {"so 12", "", R"({"answer": 12.0})"},
                                         {"so 12", "#### 13", R"({"answer": "12"})"}});
  EXPECT_THAT(s.score, testing::ElementsAre(1, 1, 0)) << "a sample's own gold comes first";
  const PluginInstance other = Make("reward", "number_match", R"({"gold": "solution"})");
  EXPECT_EQ(ScoreAll(other, {{"12", "", R"({"solution": "12", "answer": "1"})"}}).score[0], 1);
}

TEST(NumberMatch, BrokenRecordIsThatSamplesError) {
  const PluginInstance reward = Make("reward", "number_match", "");
  const Scores s = ScoreAll(reward, {{"1", "", "{"}, {"1", "#### 1", ""}});
  EXPECT_THAT(s.status, testing::ElementsAre(RETORT_SCORE_ERROR, RETORT_SCORE_OK));
  EXPECT_THAT(s.info[0], testing::HasSubstr("error"));
}

TEST(NumberMatch, AnswerClasses) {
  const PluginInstance reward = Make("reward", "number_match", "");
  const auto* table =
      static_cast<const retort_answer_v1*>(reward.interface(RETORT_ANSWER_INTERFACE));
  ASSERT_NE(table, nullptr);
  const std::vector<TestSample> samples = {{"a 7", "", ""},   {"none", "", ""}, {"b 7.0", "", ""},
                                           {"1,000", "", ""}, {"1000", "", ""}, {"nope", "", ""}};
  const std::vector<retort_sample> raw = ToRaw(samples);
  std::vector<int64_t> first(raw.size());
  PluginCall call("reward number_match");
  ASSERT_EQ(table->classes(reward.get(), call.Begin(), raw.data(), sizeof(retort_sample),
                           raw.size(), first.data()),
            RETORT_OK);
  EXPECT_THAT(first, testing::ElementsAre(0, -1, 0, 3, 3, -1));
}

TEST(NumberMatch, ManyDigitsTakeLinearTime) {
  const PluginInstance reward = Make("reward", "number_match", "");
  const std::string digits(10'000'000, '8'), signs(1'000'000, '-');
  EXPECT_EQ(ScoreAll(reward, {{digits, "#### 8", ""}, {signs, "#### 8", ""}}).score[0], 0);
}

}  // namespace
}  // namespace retort::host
