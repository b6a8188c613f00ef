// Records of every format, `map`, uids, bad lines.
// SPDX-License-Identifier: Apache-2.0
#include "core/data/record.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "core/base/hash.h"

namespace retort::data {
namespace {

using text::Message;

std::string Talk(const std::vector<Message>& messages) {
  std::string out;
  for (const Message& m : messages) {
    out += m.role + "=" + m.content + (m.reasoning.empty() ? "" : " {" + m.reasoning + "}") + ";";
  }
  return out;
}

Record Parse(std::string_view line, const RecordOptions& options = {}) {
  auto record = ParseRecord(line, "f.jsonl:7", options);
  EXPECT_TRUE(record.ok()) << record.status().ToString();
  return record.ok() ? std::move(record).value() : Record();
}

void ExpectBad(std::string_view line, std::string_view rule, const RecordOptions& options = {}) {
  const auto record = ParseRecord(line, "f.jsonl:7", options);
  ASSERT_FALSE(record.ok()) << line;
  EXPECT_NE(record.status().message().find(rule), std::string::npos) << record.status().message();
  EXPECT_NE(record.status().message().find("f.jsonl:7"), std::string::npos)
      << record.status().message();
}

TEST(RecordFormat, AutoGoesByTheColumns) {
  EXPECT_EQ(Parse(R"({"text":"hi"})").text, "hi");
  EXPECT_EQ(Talk(Parse(R"({"messages":[{"role":"user","content":"a"}]})").messages), "user=a;");
  const Record prompt = Parse(R"({"prompt":"a","completion":"b","answer":"4"})");
  EXPECT_EQ(prompt.prompt, "a");
  EXPECT_EQ(prompt.completion, "b");
  EXPECT_EQ(prompt.TextOf("answer"), "4");
  EXPECT_EQ(Talk(Parse(R"({"problem":"p","solution":"s"})").messages), "user=p;");
  ExpectBad(R"({"question":"q"})", "no format fits its columns (question)");
}

TEST(RecordFormat, Prompts) {
  const Record lists =
      Parse(R"({"prompt":[{"role":"user","content":"a"}],)"
            R"("completion":[{"role":"assistant","content":"b","reasoning_content":"r"}]})");
  EXPECT_EQ(Talk(lists.messages), "user=a;assistant=b {r};");
  EXPECT_FALSE(lists.prompt.has_value());
  ExpectBad(R"({"prompt":"a","completion":[]})", "both be strings or both lists");
  ExpectBad(R"({"prompt":3})", "'prompt' is not a string");
  EXPECT_EQ(Parse(R"({"prompt":"a","chosen":"b","rejected":"c"})").prompt, "a");
  ExpectBad(R"({"prompt":"a","chosen":"b"})", "rejected", {.format = "preference"});
}

TEST(RecordFormat, Alpaca) {
  EXPECT_EQ(Talk(Parse(R"({"instruction":"i","input":"x","output":"o","system":"s",)"
                       R"("history":[["q","a"]]})")
                     .messages),
            "system=s;user=q;assistant=a;user=i\nx;assistant=o;");
  EXPECT_EQ(Talk(Parse(R"({"instruction":"i","input":"","output":"o"})").messages),
            "user=i;assistant=o;");
  ExpectBad(R"({"instruction":"i","history":[["q"]]})", "history[0]");
}

TEST(RecordFormat, ShareGpt) {
  EXPECT_EQ(Talk(Parse(R"({"conversations":[{"from":"system","value":"s"},)"
                       R"({"from":"human","value":"h"},{"from":"gpt","value":"g"}]})")
                     .messages),
            "system=s;user=h;assistant=g;");
  ExpectBad(R"({"conversations":[{"from":"robot","value":"x"}]})", "conversations[0]");
}

TEST(RecordFormat, Stratos) {
  const std::string line =
      R"({"system":"s","conversations":[{"from":"user","value":"u"},{"from":"assistant","value":)"
      R"("<|begin_of_thought|>\n\nT\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\nS\n\n)"
      R"(<|end_of_solution|>"}]})";
  EXPECT_EQ(Talk(Parse(line, {.format = "stratos"}).messages), "system=s;user=u;assistant=S {T};");
}

TEST(RecordFormat, OpenR1) {
  const Record record = Parse(
      R"({"problem":"p","solution":"s","answer":"4","generations":["g0","g1"],)"
      R"("finish_reasons":["stop","length"],)"
      R"("verification_info":{"language":"python","test_cases":[{"input":"1","output":"2"}]}})");
  EXPECT_EQ(Talk(record.messages), "user=p;");
  ASSERT_EQ(record.generations.size(), 2U);
  EXPECT_EQ(record.generations[1].completion, "g1");
  EXPECT_EQ(record.generations[1].finish, "length");
  EXPECT_EQ(record.TextOf("tests"), R"([{"input":"1","output":"2"}])");
}

TEST(RecordFormat, Verl) {
  const Record record =
      Parse(R"({"prompt":[{"role":"user","content":"q"}],"reward_model":{"ground_truth":"72"}})");
  EXPECT_EQ(Talk(record.messages), "user=q;");
  EXPECT_EQ(record.TextOf("answer"), "72");
}

TEST(RecordFormat, BrokenMessagesNameTheIndex) {
  ExpectBad(R"({"messages":[{"role":"user","content":"a"},{"role":"user"}]})", "[1]: 'content'");
  ExpectBad(R"({"messages":[{"content":"a"}]})", "[0]: 'role'");
  ExpectBad(R"({"messages":[]})", "no message");
  ExpectBad(R"({"messages":"x"})", "list of messages");
}

TEST(RecordMap, ColumnsAndTemplates) {
  const RecordOptions options{.map = {{"prompt", "question"},
                                      {"completion", "<think>\n{solution}\n</think>\n{{{n}}}"},
                                      {"answer", "answer"}}};
  const Record record =
      Parse(R"({"question":"q","solution":"s \"x\"","n":12,"answer":4,"other":null})", options);
  EXPECT_EQ(record.prompt, "q");
  EXPECT_EQ(record.completion, "<think>\ns \"x\"\n</think>\n{12}");
  EXPECT_EQ(record.TextOf("answer"), "4");
  EXPECT_EQ(record.TextOf("question"), "q");  // kept
  EXPECT_EQ(record.TextOf("other"), std::nullopt);
  ExpectBad(R"({"question":"q","solutions":"s","n":1,"answer":4})", "did you mean 'solutions'",
            options);
  ExpectBad(R"({"question":"q","solution":null,"n":1,"answer":4})", "'solution' is null", options);
}

TEST(RecordMap, BrokenTemplatesAreRefusedAtOnce) {
  for (const char* source : {"{", "a}", "{}", "{a", "x {b}}"}) {
    const Status status = CheckRecordOptions({.map = {{"prompt", source}}});
    ASSERT_FALSE(status.ok()) << source;
    EXPECT_NE(status.message().find("map.prompt"), std::string::npos);
  }
  EXPECT_TRUE(CheckRecordOptions({.map = {{"prompt", "{{}} {a}"}}}).ok());
}

TEST(RecordUid, OfTheLineOrTheUser) {
  const std::string line = R"({"text":"a"})";
  EXPECT_EQ(Parse(line).uid, XxHash64(line));
  EXPECT_EQ(Parse(R"({"uid":"x1","text":"a"})").uid, XxHash64("x1"));
  EXPECT_EQ(Parse(R"({"uid":17,"text":"a"})").uid, XxHash64("17"));
  EXPECT_EQ(Parse(R"({"uid":"00000000000000ff","text":"a"})").uid, 255U);
  EXPECT_EQ(Parse(R"({"id":"x1","text":"a"})", {.map = {{"uid", "id"}}}).uid, XxHash64("x1"));
  ExpectBad(R"({"uid":1.5,"text":"a"})", "uid must be");
}

TEST(RecordUid, RepeatedLinesGetUidsOfTheirOwn) {
  const auto set = ParseRecords("{\"text\":\"a\"}\n{\"text\":\"a\"}\n{\"text\":\"a\"}\n", "f", {});
  ASSERT_TRUE(set.ok());
  ASSERT_EQ(set->records.size(), 3U);
  EXPECT_EQ(set->records[0].uid, XxHash64("{\"text\":\"a\"}"));
  EXPECT_NE(set->records[0].uid, set->records[1].uid);
  EXPECT_NE(set->records[1].uid, set->records[2].uid);
  const auto same =
      ParseRecords("{\"uid\":1,\"text\":\"a\"}\n{\"uid\":1,\"text\":\"b\"}\n", "f", {});
  EXPECT_NE(same.status().message().find("f:2: uid 1 is already"), std::string::npos);
}

TEST(RecordSet, BomCrlfEmptyLinesNoFinalNewline) {
  const auto set = ParseRecords("\xEF\xBB\xBF{\"text\":\"a\"}\r\n\r\n \n{\"text\":\"b\"}", "f", {});
  ASSERT_TRUE(set.ok()) << set.status().ToString();
  ASSERT_EQ(set->records.size(), 2U);
  EXPECT_EQ(set->records[0].uid, XxHash64("{\"text\":\"a\"}"));
  EXPECT_EQ(set->records[1].where, "f:4");
}

TEST(RecordSet, ABadLineNamesFileAndLine) {
  for (const char* bad : {"{\"text\":", "[1]", "{\"text\":\"\xFF\"}", "{\"text\":\"a\"} x", "{}",
                          "{\"text\":\"a\",\"text\":\"b\"}"}) {
    const auto set = ParseRecords("{\"text\":\"a\"}\n" + std::string(bad) + "\n", "data.jsonl", {});
    ASSERT_FALSE(set.ok()) << bad;
    EXPECT_NE(set.status().message().find("data.jsonl:2"), std::string::npos)
        << set.status().message();
  }
}

TEST(RecordSet, BadLinesWithinTheShareAreQuarantined) {
  std::string text;
  for (int i = 0; i < 10; ++i) text += i == 4 ? "broken\n" : "{\"text\":\"a\"}\n";
  const auto set = ParseRecords(text, "f", {.max_bad_lines = 0.1});
  ASSERT_TRUE(set.ok()) << set.status().ToString();
  EXPECT_EQ(set->records.size(), 9U);
  ASSERT_EQ(set->bad_lines.size(), 1U);
  EXPECT_EQ(set->bad_lines[0].line, 5);
  const auto over = ParseRecords(text + "broken\n", "f", {.max_bad_lines = 0.1});
  ASSERT_FALSE(over.ok());
  EXPECT_NE(over.status().message().find("2 of 11 lines"), std::string::npos);
  EXPECT_NE(over.status().message().find("f:5"), std::string::npos);
}

TEST(RecordSet, LimitCountsGoodRecords) {
  const auto set = ParseRecords("{\"text\":\"a\"}\n{\"text\":\"b\"}\nbroken\n", "f", {.limit = 2});
  ASSERT_TRUE(set.ok());
  EXPECT_EQ(set->records.size(), 2U);
}

TEST(RecordSet, FilesReadAsTextsDo) {
  const std::string path = testing::TempDir() + "/record_test.jsonl";
  std::ofstream(path) << "{\"text\":\"a\"}\nbroken\n{\"text\":\"c\"}\n";
  const auto set = ReadRecords(path, {.max_bad_lines = 0.5});
  ASSERT_TRUE(set.ok()) << set.status().ToString();
  EXPECT_EQ(set->records.size(), 2U);
  EXPECT_EQ(set->bad_lines.size(), 1U);
  const auto strict = ReadRecords(path, {});
  EXPECT_NE(strict.status().message().find(path + ":2"), std::string::npos);
  EXPECT_FALSE(ReadRecords(path + ".missing", {}).ok());
  std::remove(path.c_str());
}

TEST(RecordOptionsCheck, NamesTheKey) {
  EXPECT_NE(CheckRecordOptions({.format = "alpacca"}).message().find("did you mean 'alpaca'"),
            std::string::npos);
  EXPECT_FALSE(CheckRecordOptions({.max_bad_lines = 2}).ok());
}

TEST(RecordJson, KeepsColumnsAndWritesTheUid) {
  const Record record = Parse(R"({"b":[1,2.50],"text":"a","uid":"00000000000000ff"})");
  EXPECT_EQ(record.Json(), R"({"uid":"00000000000000ff","b":[1,2.50],"text":"a"})");
}

}  // namespace
}  // namespace retort::data
