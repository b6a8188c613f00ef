// Sample lines: what is written reads back equal, and what is wrong is named.
// SPDX-License-Identifier: Apache-2.0
#include "core/data/sample.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <string>

namespace retort::data {
namespace {

Sample Full() {
  Sample s;
  s.uid = 0xFEDCBA9876543210;
  s.record_uid = 0xFF;
  s.index = 3;
  s.prompt = "<|im_start|>user\nq\n";
  s.completion = "a \"b\" 한 😀";
  s.prompt_ids = {1, 2, 3};
  s.completion_ids = {4, 5};
  s.logp = {-0.1F, -12.345678F};
  s.finish = "length";
  s.model = "teacher";
  s.seed = 18446744073709551615U;
  s.n_prefix = 1;
  s.tokenizer = "abc";
  s.messages = {{"user", "q", ""}};
  s.record = R"({"answer":"4","n":1.50})";
  s.rewards = {{"math", 0.5}, {"format", std::nullopt}};
  s.extra = {{"note", R"({"x":1})"}};
  return s;
}

TEST(Sample, ALineHasTheKeysOfTheDocs) {
  EXPECT_EQ(SampleToJson(Full()),
            R"({"uid":"fedcba9876543210","record_uid":"00000000000000ff","index":3,)"
            "\"prompt\":\"<|im_start|>user\\nq\\n\",\"completion\":\"a \\\"b\\\" 한 😀\","
            R"("prompt_ids":[1,2,3],"completion_ids":[4,5],"logp":[-0.1,-12.345678],)"
            R"("finish":"length","model":"teacher","seed":18446744073709551615,"n_prefix":1,)"
            R"("tokenizer":"abc","messages":[{"role":"user","content":"q"}],)"
            R"("record":{"answer":"4","n":1.50},"rewards":{"math":0.5,"format":null},)"
            R"("note":{"x":1}})");
}

TEST(Sample, ReadsBackEqual) {
  const Sample s = Full();
  const auto back = SampleFromJson(SampleToJson(s), "f:1");
  ASSERT_TRUE(back.ok()) << back.status().ToString();
  EXPECT_EQ(back->uid, s.uid);
  EXPECT_EQ(back->record_uid, s.record_uid);
  EXPECT_EQ(back->completion, s.completion);
  EXPECT_EQ(back->completion_ids, s.completion_ids);
  EXPECT_EQ(back->logp, s.logp);
  EXPECT_EQ(back->seed, s.seed);
  EXPECT_EQ(back->rewards.size(), 2U);
  EXPECT_EQ(back->rewards[1].value, std::nullopt);
  EXPECT_EQ(SampleToJson(*back), SampleToJson(s));
}

TEST(Sample, AMinimalLineIsMadeWhole) {
  const auto s = SampleFromJson(R"({"prompt":"p","completion":"c","answer":"4","id":9})", "f:1");
  ASSERT_TRUE(s.ok()) << s.status().ToString();
  EXPECT_EQ(s->record, R"({"answer":"4","id":9})");
  EXPECT_EQ(s->record_uid, s->uid);
  EXPECT_NE(s->uid, 0U);
  EXPECT_TRUE(s->extra.empty());
}

TEST(Sample, WrongLinesAreNamed) {
  const auto fails = [](std::string_view line, std::string_view rule) {
    const auto s = SampleFromJson(line, "f.jsonl:3");
    ASSERT_FALSE(s.ok()) << line;
    EXPECT_NE(s.status().message().find(rule), std::string::npos) << s.status().message();
    EXPECT_NE(s.status().message().find("f.jsonl:3"), std::string::npos);
  };
  fails("[]", "not a JSON object");
  fails(R"({"completion":"c"})", "'prompt' is missing");
  fails(R"({"prompt":"p","completion":3})", "'completion' must be a string");
  fails(R"({"prompt":"p","completion":"c","prompt_ids":[-1]})", "-1");
  fails(R"({"prompt":"p","completion":"c","prompt_ids":[3000000000]})", "no token id");
  fails(R"({"prompt":"p","completion":"c","finish":"done"})", "'done'");
  fails(R"({"prompt":"p","completion":"c","index":-2})", "'index'");
  fails(R"({"prompt":"p","completion":"c","rewards":{"m":"1"}})", "'rewards'");
  fails(R"({"prompt":"p","completion":"c","record":[]})", "'record'");
  fails(R"({"prompt":"p","completion":"c","completion_ids":[1,2],"logp":[0.5]})", "'logp' has 1");
}

TEST(Sample, UidsOfARecordsSamplesDiffer) {
  EXPECT_NE(SampleUid(1, 0), SampleUid(1, 1));
  EXPECT_NE(SampleUid(1, 0), SampleUid(2, 0));
  EXPECT_EQ(SampleUid(1, 0), SampleUid(1, 0));
}

TEST(Sample, IsTellableFromARecord) {
  const auto is = [](std::string_view line) {
    const auto document = json::Document::Parse(line, "t");
    return IsSampleLine(document->root());
  };
  EXPECT_TRUE(is(SampleToJson(Full())));
  EXPECT_FALSE(is(R"({"prompt":"p","completion":"c"})"));
  EXPECT_FALSE(is("[]"));
}

TEST(Sample, FilesStopAtTheFirstBadLine) {
  const std::string path = testing::TempDir() + "/sample_test.jsonl";
  std::ofstream(path) << SampleToJson(Full()) << "\n" << SampleToJson(Full()) << "\n";
  EXPECT_EQ(ReadSamples(path)->size(), 2U);
  std::ofstream(path) << SampleToJson(Full()) << "\n{\"prompt\":1}\n";
  EXPECT_NE(ReadSamples(path).status().message().find(path + ":2"), std::string::npos);
  std::remove(path.c_str());
}

}  // namespace
}  // namespace retort::data
