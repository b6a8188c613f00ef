// score and filter with the built-in plugins.
// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/unit/commands/host_fixture.h"

namespace retort::host {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

using ChainCommands = HostTest;

std::string ReadFile(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

constexpr const char* kSamples =
    R"({"prompt": "q", "completion": "so #### 5", "answer": "#### 5", "mine": 1})"
    "\n"
    R"({"prompt": "q", "completion": "it is 1,000", "answer": "999"})"
    "\n"
    R"({"prompt": "q", "completion": "no gold 5"})"
    "\n";

TEST_F(ChainCommands, ScoreAddsRewardsStatusesAndTheSum) {
  const Ran ran =
      MustRun("score", R"({"reward": ["{\"plugin\": \"number_match\", \"weight\": 2}", "format"]})",
              kSamples);
  ASSERT_EQ(ran.lines.size(), 3u);
  const json::Document right = ran.Line(0), wrong = ran.Line(1), without = ran.Line(2);
  EXPECT_EQ(right.root()["mine"].IntOr(0), 1);
  EXPECT_EQ(right.root()["rewards"]["number_match"].DoubleOr(-1), 1);
  EXPECT_EQ(right.root()["reward"].DoubleOr(-1), 2);
  EXPECT_EQ(wrong.root()["rewards"]["number_match"].DoubleOr(-1), 0);
  EXPECT_EQ(wrong.root()["status"]["number_match"].StringOr(""), "ok");
  EXPECT_TRUE(without.root()["rewards"]["number_match"].is_null());
  EXPECT_EQ(without.root()["status"]["number_match"].StringOr(""), "not_applicable");
  EXPECT_EQ(without.root()["reward"].DoubleOr(-1), 0);  // of `format` alone
}

TEST_F(ChainCommands, ScoreTakesItsOwnOutput) {
  const Ran once = MustRun("score", R"({"reward": ["number_match"]})", kSamples);
  std::string again;
  for (const std::string& line : once.lines) again += line + "\n";
  EXPECT_EQ(MustRun("score", R"({"reward": ["number_match"]})", again).lines, once.lines);
}

TEST_F(ChainCommands, WrongChainsAreTheCallersMistake) {
  ExpectUsage("score", R"({"reward": ["number_mtach"]})", "number_match");
  ExpectUsage("score", R"({"reward": ["format:{"]})", "format:{");
  ExpectUsage("score", R"({"reward": ["format:{\"tgas\": []}"]})", "tags");
  ExpectUsage("score", R"({"reward": ["{\"plugin\": \"format\", \"isolate\": 1}"]})", "isolate");
  ExpectUsage("filter", R"({"filter": ["reward_threshold"]})", "rewards");
}

TEST_F(ChainCommands, ABrokenLineIsTheFiles) {
  ExpectFailure("score", R"({"reward": ["format"]})",
                "{\"prompt\": \"q\", \"completion\": \"c\"}\n{\"prompt\":\n", "standard input:2:");
}

TEST_F(ChainCommands, FilterKeepsLinesAsTheyCameAndAuditsTheRest) {
  const std::string audit = std::filesystem::temp_directory_path() /
                            ("retort-audit-" + std::to_string(getpid()) + ".jsonl");
  const Ran ran =
      MustRun("filter",
              R"({"filter": ["{\"plugin\": \"reward_threshold\", \"rewards\": [\"number_match\"],)"
              R"( \"config\": {\"min\": 1}}"], "audit": )" +
                  Quote(audit) + "}",
              kSamples);
  EXPECT_THAT(ran.lines,
              ElementsAre(std::string(kSamples).substr(0, std::string(kSamples).find('\n'))));
  const std::string text = ReadFile(audit);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
  EXPECT_THAT(text, HasSubstr(R"("plugin":"reward_threshold","reason":")"));
  EXPECT_THAT(ran.messages.back(), HasSubstr("1 of 3 kept"));
  std::filesystem::remove(audit);
}

TEST_F(ChainCommands, FilterTakesRecordsAndCountsTokensWithATokenizer) {
  const std::string records =
      "{\"text\": \"short\"}\n{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}, "
      "{\"role\": \"assistant\", \"content\": \"a very long answer of many words indeed\"}]}\n";
  const std::string filter = R"({"filter": ["length:{\"max_tokens\": 5}"])";
  const Ran ran =
      MustRun("filter", filter + R"(, "tokenizer": )" + Quote(Fixture("llama")) + "}", records);
  EXPECT_THAT(ran.lines, ElementsAre("{\"text\": \"short\"}"));
  ExpectFailure("filter", filter + "}", records, "tokenizer");
}

TEST_F(ChainCommands, SelfVoteJudgesByTheAnswersOfAGroup) {
  std::string samples;
  for (const char* completion : {"is 4", "is 4", "is 5"}) {
    samples += R"({"prompt": "q", "record_uid": "00000000000000aa", "completion": ")" +
               std::string(completion) + R"(", "record": {"answer": "4"}})" + "\n";
  }
  const auto kept = [&](const std::string& config) {
    return MustRun("filter",
                   R"({"filter": ["{\"plugin\": \"self_vote\", \"rewards\": [\"number_match\"],)"
                   R"( \"config\": {)" +
                       config + R"(}}"]})",
                   samples)
        .lines;
  };
  EXPECT_THAT(kept(R"(\"threshold\": 0.6, \"pick\": \"all\")"),
              ElementsAre(HasSubstr("is 4"), HasSubstr("is 4")));
  EXPECT_THAT(kept(R"(\"threshold\": 0.6)"), ElementsAre(HasSubstr("is 4")));
  EXPECT_THAT(kept(R"(\"threshold\": 0.9)"), IsEmpty());
}

}  // namespace
}  // namespace retort::host
