// reward/format: open-r1's pattern by default, tags by config. Expected values of the pattern come
// from Python: bool(re.match(r"^<think>\n.*?\n</think>\n<answer>\n.*?\n</answer>$", text,
// re.DOTALL | re.MULTILINE)).
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/plugins/harness.h"

namespace retort::host {
namespace {

double Score(const PluginInstance& reward, const std::string& completion) {
  return ScoreAll(reward, {{completion, "", ""}}).score[0];
}

struct Case {
  const char* text;
  double score;
};

TEST(Format, DefaultPattern) {
  constexpr Case kCases[] = {
      {"<think>\na\n</think>\n<answer>\n4\n</answer>", 1},
      {"<think>\n\n</think>\n<answer>\n\n</answer>", 1},
      {"<think>\na\nb\n</think>\n<answer>\n4\n5\n</answer>", 1},
      {"<think>\na\n</think>\n<answer>\n4\n</answer>\nmore", 1},  // $ before a newline
      {"<think>\na\n</think>\n<answer>\n4\n</answer> more", 0},
      {"<think>\na\n</think>\n<answer>\n4\n</answer> x\n</answer>", 1},
      {"<think>\na\n</think>\n<answer>\n4</answer>", 0},
      {"<think>a</think><answer>4</answer>", 0},
      {" <think>\na\n</think>\n<answer>\n4\n</answer>", 0},
      {"x\n<think>\na\n</think>\n<answer>\n4\n</answer>", 0},
      {"<think>\na\n</think>\n\n<answer>\n4\n</answer>", 0},
      {"<think>\n</think>\n<answer>\n4\n</answer>", 0},
      {"<think>\na\n</think>\n<answer>\n</answer>", 0},
      {"<think>\n<think>\n</think>\n<answer>\n4\n</answer>", 1},
      {"<think>\na\n</think>\n<answer>\n</think>\n<answer>\n4\n</answer>", 1},
      {"", 0},
  };
  const PluginInstance reward = Make("reward", "format", "");
  for (const Case& c : kCases) EXPECT_EQ(Score(reward, c.text), c.score) << c.text;
}

TEST(Format, Tags) {
  constexpr Case kCases[] = {
      {"<a>x</a><b>y</b>", 1},
      {" <a>x</a>\n\t<b>y\nz</b>\n", 1},
      {"<a></a><b></b>", 1},
      {"<b>y</b><a>x</a>", 0},
      {"<a>x</a>", 0},
      {"<a>x</a><b>y</b>!", 0},
      {"so <a>x</a><b>y</b>", 0},
      {"<a>x</a> and <b>y</b>", 0},
      {"<a>x</a><b>y</b><b>y</b>", 0},
      {"<a>x<a></a><b>y</b>", 0},
      {"<a>x<b></a>y</b>", 0},
      {"", 0},
  };
  const PluginInstance reward =
      Make("reward", "format", R"({"tags": [["<a>", "</a>"], ["<b>", "</b>"]]})");
  for (const Case& c : kCases) EXPECT_EQ(Score(reward, c.text), c.score) << c.text;
}

TEST(Format, BadConfigsNameTheirKey) {
  using testing::HasSubstr;
  EXPECT_THAT(ConfigError("reward", "format", R"({"tags": []})"), HasSubstr("/tags: is empty"));
  EXPECT_THAT(ConfigError("reward", "format", R"({"tags": [["<a>"]]})"),
              HasSubstr("/tags/0: has 1 texts"));
  EXPECT_THAT(ConfigError("reward", "format", R"({"tags": [["<a>", ""]]})"),
              HasSubstr("/tags/0/1: a tag can't be empty"));
  EXPECT_THAT(ConfigError("reward", "format", R"({"tags": [["#", "#"]]})"), HasSubstr("differ"));
  EXPECT_THAT(ConfigError("reward", "format", R"({"tagz": []})"), HasSubstr("tags"));
}

}  // namespace
}  // namespace retort::host
