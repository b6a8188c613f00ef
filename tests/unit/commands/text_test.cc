// tokenize, logprob, generate on the small fixture models; ids and numbers themselves are held
// against transformers in tests/golden.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <set>

#include "tests/unit/commands/host_fixture.h"

namespace retort::host {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<int64_t> Ints(json::Value list) {
  std::vector<int64_t> out;
  for (size_t i = 0; i < list.size(); ++i) out.push_back(list[i].IntOr(-1));
  return out;
}

class TextCommands : public HostTest {
 protected:
  std::string Args(const std::string& more = "") const {
    return R"({"model": )" + Quote(Fixture("llama")) + more + "}";
  }
};

TEST_F(TextCommands, TokenizePassesOtherKeysOnInOrder) {
  const Ran ran = MustRun("tokenize", Args(),
                          "\xEF\xBB\xBF{\"id\": 7, \"text\": \"Grüße\", \"ids\": []}\r\n\n"
                          "{\"text\": \"\"}");
  ASSERT_EQ(ran.lines.size(), 2u);
  EXPECT_THAT(ran.lines[0], HasSubstr(R"({"id":7,"text":"Grüße","ids":[)"));
  EXPECT_EQ(ran.lines[1], R"({"text":"","ids":[]})");
}

TEST_F(TextCommands, DecodeUndoesEncode) {
  const Ran encoded = MustRun("tokenize", Args(), R"({"text": "Héllo,  wörld!\n"})");
  const Ran decoded = MustRun("tokenize", Args(R"(, "decode": true)"), encoded.lines[0] + "\n");
  EXPECT_EQ(decoded.Line(0).root()["text"].StringOr(""), "Héllo,  wörld!\n");
}

TEST_F(TextCommands, ChatRendersAndEncodesTheTemplate) {
  const std::string line = R"({"messages": [{"role": "user", "content": "Hi"}]})";
  const Ran ran = MustRun("tokenize", Args(R"(, "chat": true, "generation_prompt": true)"), line);
  const json::Document out = ran.Line(0);
  EXPECT_THAT(out.root()["text"].StringOr(""), AllOf(HasSubstr("<|im_start|>user\nHi<|im_end|>"),
                                                     testing::EndsWith("<|im_start|>assistant\n")));
  EXPECT_EQ(Ints(out.root()["ids"])[0], 1);  // <|im_start|> is one token
  ExpectFailure("tokenize", Args(), line, "use --chat");
  ExpectUsage("tokenize", Args(R"(, "chat": true, "chat_format": "none_such")"), "none_such");
}

TEST_F(TextCommands, ABadLineIsNamedByFileAndLine) {
  ExpectFailure("tokenize", Args(), "{\"text\": \"a\"}\n{\"text\": 5}\n", "standard input:2:");
  ExpectFailure("tokenize", Args(), "{\"text\": \"a\"}\n\n{\"text\":\n", "standard input:3:");
  ExpectFailure("tokenize", Args(), "[1]\n", "no JSON object");
  ExpectFailure("tokenize", Args(R"(, "decode": true)"), "{\"ids\": [1, -4]}\n", "\"ids\"[1]");
  ExpectFailure("tokenize", Args(R"(, "input": "/nowhere.jsonl")"), "", "/nowhere.jsonl");
}

TEST_F(TextCommands, LogprobCountsEveryTokenAfterTheFirst) {
  const Ran ran =
      MustRun("logprob", Args(),
              "{\"text\": \"one two three\", \"k\": 1}\n{\"ids\": [5]}\n{\"ids\": []}\n");
  const json::Document first = ran.Line(0);
  const size_t n = first.root()["ids"].size();
  ASSERT_GT(n, 3u);
  EXPECT_EQ(first.root()["logprob"].size(), n - 1);
  double sum = 0;
  for (size_t i = 0; i + 1 < n; ++i) sum += first.root()["logprob"][i].DoubleOr(0);
  EXPECT_NEAR(first.root()["sum"].DoubleOr(0), sum, 1e-6);  // floats printed to read back equal
  EXPECT_LT(sum, 0);
  EXPECT_EQ(ran.lines[1], R"({"ids":[5],"logprob":[],"sum":0.0})");
  EXPECT_EQ(ran.lines[2], R"({"ids":[],"logprob":[],"sum":0.0})");
}

TEST_F(TextCommands, LogprobOfACompletionIsTheTailOfTheWhole) {
  const Ran ran = MustRun("logprob", Args(), R"({"prompt": "one two", "completion": " three"})");
  const json::Document pair = ran.Line(0);
  const std::string ids = pair.root()["ids"].Dump();
  const Ran whole = MustRun("logprob", Args(), R"({"ids": )" + ids + "}");
  const json::Document all = whole.Line(0);
  const size_t counted = pair.root()["logprob"].size(), total = all.root()["logprob"].size();
  ASSERT_LT(counted, total);
  for (size_t i = 0; i < counted; ++i) {
    EXPECT_NEAR(pair.root()["logprob"][i].DoubleOr(0),
                all.root()["logprob"][total - counted + i].DoubleOr(1), 1e-5);
  }
}

TEST_F(TextCommands, LogprobRefusesWhatItCannotScore) {
  ExpectFailure("logprob", Args(), "{\"ids\": [1, 512]}\n",
                "outside the model's vocabulary of 512");
  ExpectFailure("logprob", Args(), "{\"prompt\": \"\", \"completion\": \"x\"}\n", "no token");
  ExpectFailure("logprob", Args(), "{\"question\": \"x\"}\n", "standard input:1: needs \"text\"");
}

constexpr const char* kPrompts =
    "{\"prompt\": \"one two\", \"answer\": \"3\"}\n{\"prompt\": \"a much longer prompt\"}\n"
    "{\"prompt\": \"x\", \"uid\": \"0000000000000063\"}\n";

TEST_F(TextCommands, GenerateWritesSamplesInTheOrderOfThePrompts) {
  const Ran ran =
      MustRun("generate",
              Args(R"(, "input": "-", "samples": 2, "max_tokens": 6, "seed": 3, "prefix": "so")"),
              kPrompts);
  ASSERT_EQ(ran.lines.size(), 6u);
  for (size_t i = 0; i < 6; ++i) {
    const json::Document line = ran.Line(i);
    const json::Value sample = line.root();
    EXPECT_EQ(sample["index"].IntOr(-1), static_cast<int64_t>(i % 2));
    EXPECT_EQ(sample["prompt"].StringOr(""),
              std::vector<std::string>({"one two", "a much longer prompt", "x"})[i / 2]);
    EXPECT_THAT(sample["completion"].StringOr(""), testing::StartsWith("so"));
    EXPECT_EQ(sample["logp"].size(), sample["completion_ids"].size());
    EXPECT_LE(sample["completion_ids"].size(), 6u + 2u);
    EXPECT_EQ(sample["seed"].IntOr(-1), 3);
    EXPECT_EQ(sample["model"].StringOr(""), Fixture("llama"));
  }
  EXPECT_THAT(ran.lines[0], HasSubstr(R"("answer":"3")"));
  EXPECT_EQ(ran.Line(4).root()["record_uid"].StringOr(""), "0000000000000063");
}

TEST_F(TextCommands, ASampleDoesNotDependOnWhatIsBesideIt) {
  const std::string options = R"(, "input": "-", "max_tokens": 12, "samples": 2)";
  const Ran together = MustRun("generate", Args(options), kPrompts);
  const Ran alone = MustRun("generate", Args(options + R"(, "max_batch": 1)"), kPrompts);
  ASSERT_EQ(together.lines.size(), alone.lines.size());
  for (size_t i = 0; i < together.lines.size(); ++i) {
    EXPECT_EQ(Ints(together.Line(i).root()["completion_ids"]),
              Ints(alone.Line(i).root()["completion_ids"]));
  }
}

TEST_F(TextCommands, GreedyIgnoresTheSeedAndAnotherSeedSamplesOtherwise) {
  const auto ids = [&](const std::string& options) {
    return Ints(MustRun("generate", Args(R"(, "prompt": "one two", "max_tokens": 12)" + options))
                    .Line(0)
                    .root()["completion_ids"]);
  };
  EXPECT_EQ(ids(R"(, "temperature": 0, "seed": 1)"), ids(R"(, "temperature": 0, "seed": 2)"));
  EXPECT_NE(ids(R"(, "seed": 1)"), ids(R"(, "seed": 2)"));
  EXPECT_EQ(ids(R"(, "seed": 1)"), ids(R"(, "seed": 1)"));
}

TEST_F(TextCommands, PenaltiesBiasAndCacheOptionsReachTheEngine) {
  const auto ids = [&](const std::string& options) {
    return Ints(
        MustRun("generate",
                Args(R"(, "prompt": "one two", "max_tokens": 12, "temperature": 0)" + options))
            .Line(0)
            .root()["completion_ids"]);
  };
  const auto plain = ids("");
  auto apart = ids(R"(, "presence_penalty": 900)");
  EXPECT_EQ(std::set(apart.begin(), apart.end()).size(), apart.size());
  EXPECT_EQ(ids(R"(, "logit_bias": ["9=900", "7=1000"])")[0], 7);
  const auto again = ids(R"(, "frequency_penalty": -900)");  // what was written is written again
  EXPECT_EQ(std::count(again.begin(), again.end(), again[0]), static_cast<int64_t>(again.size()));
  EXPECT_NE(ids(R"(, "repetition_penalty": 0.01)"), plain);
  EXPECT_EQ(ids(R"(, "kv_dtype": "f32", "kv_memory": 100000000, "prefill_chunk": 1)"), plain);
  EXPECT_EQ(ids(R"(, "kv_dtype": "bf16")")[0], plain[0]);
}

TEST_F(TextCommands, OnePromptStreamsItsTextToAPerson) {
  const std::string args = Args(R"(, "prompt": "one two", "max_tokens": 8, "seed": 5)");
  const std::string completion(MustRun("generate", args).Line(0).root()["completion"].StringOr(""));
  io_flags_ = RETORT_IO_STREAM;
  const Ran streamed = MustRun("generate", args);
  EXPECT_TRUE(streamed.lines.empty());
  EXPECT_EQ(streamed.text, completion + "\n");
}

TEST_F(TextCommands, GenerateStopsWhenNobodyReads) {
  lines_taken_ = 1;
  const Ran ran =
      Run("generate", Args(R"(, "input": "-", "samples": 8, "max_tokens": 50, "max_batch": 1)"),
          kPrompts);
  EXPECT_EQ(ran.status, RETORT_CANCELLED);
  EXPECT_EQ(ran.lines.size(), 1u);
}

TEST_F(TextCommands, GenerateRefusesContradictions) {
  ExpectUsage("generate", Args(), "either a prompt or an input");
  ExpectUsage("generate", Args(R"(, "prompt": "x", "input": "f")"), "either a prompt or an input");
  ExpectUsage("generate", Args(R"(, "prompt": "x", "min_tokens": 9, "max_tokens": 3)"),
              "min_tokens");
  for (const char* bias : {"7", "=2", "x=1", "7=much", "-1=2", "7=1e99"}) {
    ExpectUsage("generate",
                Args(R"(, "prompt": "x", "logit_bias": [")" + std::string(bias) + "\"]"),
                "is not a token id, =, and a number");
  }
  ExpectUsage("generate", Args(R"(, "prompt": "x", "kv_dtype": "f8")"), "f32, bf16 or int8");
  ExpectUsage("generate", Args(R"(, "prompt": "x", "prefill_chunk": 0)"), "prefill_chunk");
  ExpectFailure("generate", Args(R"(, "input": "-")"), "{\"prompt\": \"a\"}\n{\"x\": 1}\n",
                "standard input:2");
}

TEST_F(TextCommands, ChatMakesThePromptTheUsersMessage) {
  const Ran ran =
      MustRun("generate",
              Args(R"(, "prompt": "Hi", "chat": true, "system": "Be short.", "max_tokens": 2)"));
  EXPECT_THAT(ran.Line(0).root()["prompt"].StringOr(""),
              AllOf(HasSubstr("<|im_start|>system\nBe short.<|im_end|>"),
                    HasSubstr("<|im_start|>user\nHi<|im_end|>")));
}

}  // namespace
}  // namespace retort::host
