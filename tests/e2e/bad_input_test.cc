// Wrong input to the program: the exit code says whose fault it is (2: what the user wrote, 1: a
// model or data file), the message names the file and what is wrong with it.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/golden/program.h"

namespace retort::golden {
namespace {
namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

constexpr int kFailed = 1, kUsage = 2;

// A copy of a fixture that a test may spoil.
std::string CopyOf(const std::string& model, const std::string& name) {
  const std::string folder = ScratchFolder(name);
  for (const auto& entry : fs::directory_iterator(ModelPath(model))) {
    fs::copy_file(entry.path(), fs::path(folder) / entry.path().filename());
  }
  return folder;
}

void ReplaceIn(const std::string& path, const std::string& from, const std::string& to) {
  std::string text = ReadText(path);
  const size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << path << " has no " << from;
  WriteText(path, text.replace(at, from.size(), to));
}

Outcome Logprob(const std::string& model) {
  return RunRetort({"logprob", model}, "{\"text\": \"two and two\"}\n");
}

TEST(BadModel, UnspoiledCopyIsFine) {
  const Outcome run = Logprob(CopyOf("qwen3", "copy"));
  EXPECT_EQ(run.exit_code, 0) << run.err;
}

TEST(BadModel, TruncatedSafetensorsIsNamedWithItsSize) {
  const std::string folder = CopyOf("qwen3", "truncated");
  fs::resize_file(folder + "/model.safetensors", 100'000);
  const Outcome run = Logprob(folder);
  EXPECT_EQ(run.exit_code, kFailed);
  EXPECT_THAT(run.err, AllOf(HasSubstr("model.safetensors"), HasSubstr("bytes")));
}

TEST(BadModel, TruncatedShardIsNamed) {
  const std::string folder = CopyOf("llama", "truncated_shard");
  fs::resize_file(folder + "/model-00002-of-00002.safetensors", 5);
  const Outcome run = Logprob(folder);
  EXPECT_EQ(run.exit_code, kFailed);
  EXPECT_THAT(run.err, HasSubstr("model-00002-of-00002.safetensors"));
}

TEST(BadModel, MissingShardIsNamed) {
  const std::string folder = CopyOf("llama", "missing_shard");
  fs::remove(folder + "/model-00002-of-00002.safetensors");
  const Outcome run = Logprob(folder);
  EXPECT_EQ(run.exit_code, kFailed);
  EXPECT_THAT(run.err, HasSubstr("model-00002-of-00002.safetensors"));
}

TEST(BadModel, TruncatedGgufIsNamed) {
  const std::string path = ScratchFolder("gguf") + "/cut.gguf";
  fs::copy_file(ModelPath("smollm2"), path);
  for (const uintmax_t size : {90'000'000U, 500'000U, 20U, 3U}) {
    fs::resize_file(path, size);
    const Outcome run = Logprob(path);
    EXPECT_EQ(run.exit_code, kFailed) << size;
    EXPECT_THAT(run.err, HasSubstr("cut.gguf")) << size;
  }
}

TEST(BadModel, MissingTensorIsNamed) {
  const std::string folder = CopyOf("qwen3", "missing_tensor");
  ReplaceIn(folder + "/model.safetensors", "\"model.norm.weight\"", "\"model.nurm.weight\"");
  const Outcome run = Logprob(folder);
  EXPECT_EQ(run.exit_code, kFailed);
  EXPECT_THAT(run.err, HasSubstr("model.norm.weight"));
}

TEST(BadModel, ShapeThatDoesNotFitTheConfigIsNamed) {
  const std::string folder = CopyOf("qwen3", "wrong_shape");
  ReplaceIn(folder + "/config.json", "\"intermediate_size\": 64", "\"intermediate_size\": 65");
  const Outcome run = Logprob(folder);
  EXPECT_EQ(run.exit_code, kFailed);
  EXPECT_THAT(run.err, AllOf(HasSubstr("mlp"), HasSubstr("65")));
}

TEST(BadModel, UnknownFamilyIsNamed) {
  const std::string folder = CopyOf("qwen3", "unknown_family");
  ReplaceIn(folder + "/config.json", "\"model_type\": \"qwen3\"", "\"model_type\": \"quven\"");
  const Outcome run = Logprob(folder);
  EXPECT_EQ(run.exit_code, kFailed);
  EXPECT_THAT(run.err, HasSubstr("quven"));
}

TEST(BadModel, PathThatIsNoModelSaysWhatIsThere) {
  const Outcome run = Logprob(ScratchFolder("empty"));
  EXPECT_EQ(run.exit_code, kFailed);
  EXPECT_THAT(run.err, HasSubstr("empty"));
}

TEST(BadData, BrokenLineIsNamedByFileAndLine) {
  const std::string path = ScratchFolder("lines") + "/bad.jsonl";
  WriteText(path, "{\"text\": \"fine\"}\n{\"text\": \"cut of\n");
  const Outcome run = RunRetort({"logprob", ModelPath("qwen3"), "--input", path});
  EXPECT_EQ(run.exit_code, kFailed);
  EXPECT_THAT(run.err, HasSubstr("bad.jsonl:2"));
}

class BadPipeline : public testing::Test {
 protected:
  // Runs a one-stage pipeline with `text` in place of the stage's keys.
  Outcome Run(const std::string& keys, const std::string& head = "") {
    const std::string folder = ScratchFolder("pipeline");
    WriteText(folder + "/data.jsonl", "{\"prompt\": \"one\", \"completion\": \"two\"}\n");
    WriteText(folder + "/pipeline.json",
              "{\"retort\": 1, \"name\": \"bad\"," + head + "\n \"models\": {\"m\": \"" +
                  ModelPath("qwen3") +
                  "\"},\n \"data\": {\"d\": \"data.jsonl\"},\n \"stages\": [{\"name\": \"s\", " +
                  keys + "}]}\n");
    return RunRetort({"run", folder + "/pipeline.json", "--set", "output=" + folder + "/run"});
  }
};

TEST_F(BadPipeline, WrongKeyIsNamedByPositionWithTheNearestOne) {
  const Outcome run =
      Run("\"kind\": \"sft\", \"model\": \"m\", \"data\": \"d\",\n"
          " \"learning_rat\": 1e-4");
  EXPECT_EQ(run.exit_code, kUsage);
  EXPECT_THAT(run.err, AllOf(HasSubstr("pipeline.json:5:2"), HasSubstr("learning_rat"),
                             HasSubstr("learning_rate")));
}

TEST_F(BadPipeline, ForeignKeyIsAnsweredWithOurs) {
  const Outcome run = Run(
      "\"kind\": \"sft\", \"model\": \"m\", \"data\": \"d\", \"gradient_accumulation_steps\": 4");
  EXPECT_EQ(run.exit_code, kUsage);
  EXPECT_THAT(run.err, HasSubstr("batch.accumulation"));
}

TEST_F(BadPipeline, UnknownPluginIsNamedWithTheNearestOne) {
  const Outcome run = Run(
      "\"kind\": \"filter\", \"data\": \"d\", \"filters\": [{\"plugin\": \"lenght\", \"config\": "
      "{\"max_chars\": 9}}]");
  EXPECT_EQ(run.exit_code, kUsage);
  EXPECT_THAT(run.err, AllOf(HasSubstr("lenght"), HasSubstr("length")));
}

TEST_F(BadPipeline, WrongPluginConfigIsNamed) {
  const Outcome run = Run(
      "\"kind\": \"filter\", \"data\": \"d\", \"filters\": [{\"plugin\": \"length\", \"config\": "
      "{\"max_char\": 9}}]");
  EXPECT_EQ(run.exit_code, kUsage);
  EXPECT_THAT(run.err, AllOf(HasSubstr("max_char"), HasSubstr("max_chars")));
}

TEST_F(BadPipeline, ReferenceToNoStageIsNamed) {
  const Outcome run = Run("\"kind\": \"sft\", \"model\": \"m\", \"data\": \"@cleen\"");
  EXPECT_EQ(run.exit_code, kUsage);
  EXPECT_THAT(run.err, HasSubstr("cleen"));
}

TEST_F(BadPipeline, LibraryWithoutTheEntrySymbolIsNamed) {
  const Outcome run = Run("\"kind\": \"sft\", \"model\": \"m\", \"data\": \"d\"",
                          " \"plugins\": [\"" RETORT_NO_PLUGIN "\"],");
  EXPECT_EQ(run.exit_code, kFailed);
  EXPECT_THAT(run.err, AllOf(HasSubstr("libretort.so"), HasSubstr("retort_plugin_entry")));
}

TEST_F(BadPipeline, LibraryOfAnotherAbiVersionIsNamedWithBothVersions) {
  const Outcome run = Run("\"kind\": \"sft\", \"model\": \"m\", \"data\": \"d\"",
                          " \"plugins\": [\"" RETORT_OTHER_ABI "\"],");
  EXPECT_EQ(run.exit_code, kFailed);
  EXPECT_THAT(run.err, AllOf(HasSubstr("major.so"), HasSubstr("retort_plugin_entry_v1"),
                             HasSubstr("retort_plugin_entry_v2")));
}

TEST(BadCommandLine, UnknownOptionAndCommandAreUsageErrors) {
  EXPECT_EQ(RunRetort({"generate", ModelPath("qwen3"), "--temprature", "1"}).exit_code, kUsage);
  const Outcome run = RunRetort({"generat"});
  EXPECT_EQ(run.exit_code, kUsage);
  EXPECT_THAT(run.err, HasSubstr("generate"));
}

}  // namespace
}  // namespace retort::golden
