// A thread count's numbers are repeatable: the same run twice writes the same bytes, with one
// thread and with two.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <regex>
#include <string>

#include "tests/golden/program.h"

namespace retort::golden {
namespace {

constexpr const char* kPipeline = R"({
  "retort": 1, "name": "threads", "seed": 7,
  "models": {"m": "MODEL"},
  "data": {"q": {"path": "DATA", "map": {"prompt": "question", "completion": "<think>\n{answer}"}}},
  "stages": [
    {"name": "sft", "kind": "sft", "model": "m", "data": "q", "learning_rate": 1e-3,
     "max_steps": 6, "batch_tokens": 512, "max_length": 256, "micro_batch_tokens": 256,
     "logging_steps": 1, "save_steps": 0},
    {"name": "lora", "kind": "sft", "model": "@sft", "data": "q", "learning_rate": 1e-2,
     "max_steps": 4, "batch_tokens": 256, "max_length": 256, "lora": {"r": 4, "dropout": 0.1},
     "logging_steps": 1, "save_steps": 0},
    {"name": "cot", "kind": "generate", "model": "@lora", "data": "q", "samples": 3, "limit": 6,
     "prefix": "<think>\n", "max_batch": 4, "sampling": {"temperature": 0.9, "max_tokens": 60}},
  ],
})";

class ThreadsTest : public testing::TestWithParam<int> {};

TEST_P(ThreadsTest, TheSameRunWritesTheSameBytes) {
  const std::string threads = std::to_string(GetParam());
  const std::string folder = ScratchFolder("threads-" + threads);
  const std::string data =
      std::string(RETORT_SOURCE_DIR) + "/tests/fixtures/gsm8k/train_small.jsonl";
  const std::string text = std::regex_replace(kPipeline, std::regex("MODEL"), ModelPath("qwen2"));
  WriteText(folder + "/pipeline.json", std::regex_replace(text, std::regex("DATA"), data));
  for (const char* run : {"/a", "/b"}) {
    const Outcome done = RunRetort({"run", folder + "/pipeline.json", "--threads", threads, "--set",
                                    "output=" + folder + run});
    ASSERT_EQ(done.exit_code, 0) << done.err;
    const std::string info = ReadText(folder + run + "/run.json");
    EXPECT_TRUE(std::regex_search(info, std::regex("\"threads\": ?" + threads + "\\b"))) << info;
  }
  for (const char* file : {"/sft/checkpoint-6/model.safetensors",
                           "/lora/checkpoint-4/adapter_model.safetensors", "/cot/samples.jsonl"}) {
    const std::string once = ReadText(folder + "/a" + file);
    EXPECT_FALSE(once.empty()) << file;
    EXPECT_TRUE(once == ReadText(folder + "/b" + file)) << file;
  }
}

INSTANTIATE_TEST_SUITE_P(Counts, ThreadsTest, testing::Values(1, 2),
                         [](const auto& param) { return std::to_string(param.param); });

}  // namespace
}  // namespace retort::golden
