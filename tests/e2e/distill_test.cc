// Distillation as a user runs it: a teacher beside the student or cached, with another padding of
// its vocabulary, on the student's own samples; stopped, killed and gone on.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <regex>
#include <string>
#include <vector>

#include "core/io/safetensors.h"
#include "tests/golden/program.h"

namespace retort::golden {
namespace {
namespace fs = std::filesystem;
using testing::AllOf;
using testing::Each;
using testing::Gt;
using testing::HasSubstr;
using testing::Not;

// The same student and data four times: beside the teacher; with all of its vocabulary cached; with
// a few entries; on its own samples. Then another student, which finds the third one's cache.
constexpr const char* kPipeline = R"({
  "retort": 1, "name": "distill", "seed": 3,
  "models": {"student": "STUDENT", "teacher": "TEACHER"},
  "data": {"refs": {"path": "DATA", "map": {"prompt": "question", "completion": "answer"}}},
  "stages": [
    {"name": "beside", "kind": "distill", "model": "student", "teacher": "teacher", COMMON},
    {"name": "cached", "kind": "distill", "model": "student", "teacher": "teacher",
     "teacher_top_k": 640, COMMON},
    {"name": "few", "kind": "distill", "model": "student", "teacher": "teacher",
     "teacher_top_k": 16, COMMON},
    {"name": "own", "kind": "distill", "model": "student", "teacher": "teacher", "on_policy": 0.5,
     "loss": [{"plugin": "kd", "config": {"divergence": "jsd", "temperature": 0.9,
                                          "t_squared": false}}],
     "sampling": {"temperature": 0.9, "max_tokens": 24}, COMMON},
    {"name": "other", "kind": "distill", "model": "@beside", "teacher": "teacher",
     "teacher_top_k": 16, COMMON},
  ],
})";
constexpr const char* kCommon =
    R"("data": "refs", "learning_rate": 3e-3, "max_steps": 12, "batch_tokens": 1024,
       "max_length": 512, "logging_steps": 1, "save_steps": 5, "shuffle": false)";

class DistillTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = ScratchFolder(std::string("distill_") +
                            testing::UnitTest::GetInstance()->current_test_info()->name());
    Write(ModelPath("qwen3"));
  }
  void Write(const std::string& teacher) const {
    std::string text = std::regex_replace(kPipeline, std::regex("COMMON"), kCommon);
    text = std::regex_replace(text, std::regex("STUDENT"), ModelPath("qwen2"));
    text = std::regex_replace(text, std::regex("TEACHER"), teacher);
    const std::string data =
        std::string(RETORT_SOURCE_DIR) + "/tests/fixtures/gsm8k/train_small.jsonl";
    WriteText(folder_ + "/pipeline.json", std::regex_replace(text, std::regex("DATA"), data));
  }
  std::string Out(const std::string& run) const { return folder_ + "/" + run; }
  std::vector<std::string> Arguments(const std::string& run,
                                     const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words = {"run", folder_ + "/pipeline.json", "--set",
                                      "output=" + Out(run)};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  void MustRun(const std::string& run, const std::vector<std::string>& more = {}) const {
    const Outcome outcome = RunRetort(Arguments(run, more));
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  }
  // A number of each of a stage's lines of metrics.
  std::vector<double> Metric(const std::string& run, const std::string& stage,
                             const char* name) const {
    std::vector<double> values;
    for (const json::Document& line : ReadLines(Out(run) + "/metrics.jsonl")) {
      if (line.root()["stage"].StringOr("") != stage) continue;
      values.push_back(line.root()[name].DoubleOr(std::nan("")));
    }
    return values;
  }
  double Number(const std::string& run, const std::string& stage, const char* name) const {
    const std::string path = Out(run) + "/" + stage + "/manifest.json";
    const auto manifest = json::Document::Parse(ReadText(path), path);
    return manifest->root()["numbers"][name].DoubleOr(-1);
  }
  void ExpectNear(const std::vector<double>& a, const std::vector<double>& b, double relative) {
    ASSERT_EQ(a.size(), b.size());
    ASSERT_GE(a.size(), 12U);
    for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], relative * std::abs(b[i])) << i;
  }

  std::string folder_;
};

TEST_F(DistillTest, LossesFallAndACacheIsAsGoodAsItsEntries) {
  MustRun("run");
  const std::vector<double> loss = Metric("run", "beside", "loss");
  ASSERT_EQ(loss.size(), 12U);
  EXPECT_LT(loss.back(), 0.9 * loss.front());
  // Each loss by its name, by weight the whole.
  const std::vector<double> kd = Metric("run", "beside", "kd"),
                            sft = Metric("run", "beside", "sft");
  for (size_t i = 0; i < loss.size(); ++i) {
    EXPECT_NEAR(0.7 * kd[i] + 0.3 * sft[i], loss[i], 1e-5 * loss[i]);
  }
  EXPECT_LT(kd.back(), kd.front());
  EXPECT_THAT(Metric("run", "beside", "kd/divergence"), Each(Gt(0)));
  // All entries: what f16 rounds away. Few: the tokens beyond them count as one, which can only
  // bring the distributions nearer.
  ExpectNear(Metric("run", "cached", "loss"), loss, 1e-3);
  const double few = Metric("run", "few", "kd").front();
  EXPECT_LT(few, kd.front());
  EXPECT_GT(few, 0);
  EXPECT_NEAR(Metric("run", "few", "sft").front(), sft.front(), 1e-6);
  // The second student wrote nothing.
  EXPECT_GT(Number("run", "few", "teacher_tokens"), 0);
  EXPECT_EQ(Number("run", "other", "teacher_tokens"), -1);
  EXPECT_EQ(Number("run", "other", "teacher_cache_rows"),
            Number("run", "few", "teacher_cache_rows"));
  // Per row 2 + 2 bytes an entry and 4 of the rest; beside them the header, offsets and keys.
  EXPECT_NEAR(Number("run", "few", "teacher_cache_bytes_per_token"), 16 * 4 + 4, 2);
  EXPECT_GT(Number("run", "own", "on_policy_steps"), 0);
  EXPECT_LT(Number("run", "own", "on_policy_steps"), 12);
}

// Enough examples for three shards, short ones.
TEST_F(DistillTest, CacheGoesOnAtTheShardThatIsMissing) {
  std::string lines;
  for (int i = 0; i < 2200; ++i) {
    lines += R"({"question": ")" + std::to_string(i) + R"(", "answer": ")" + std::to_string(i % 7) +
             "\"}\n";
  }
  const std::string data = folder_ + "/many.jsonl";
  WriteText(data, lines);
  const std::vector<std::string> more = {"--only", "few",
                                         "--set",  "data.refs.path=" + data,
                                         "--set",  "stages.few.teacher_cache=" + Out("rows")};
  MustRun("whole", more);
  const std::string shards[] = {"rows-00000.safetensors", "rows-00001.safetensors",
                                "rows-00002.safetensors"};
  std::vector<std::string> before;
  for (const std::string& name : shards) before.push_back(ReadText(Out("rows") + "/" + name));
  EXPECT_FALSE(fs::exists(Out("rows") + "/rows-00003.safetensors"));

  // Killed while the cache was made: the shards that are there stay.
  fs::remove_all(Out("rows"));
  setenv("RETORT_FAULT", "teacher.shard:2", 1);
  EXPECT_EQ(RunRetort(Arguments("again", more)).exit_code, 128 + SIGKILL);
  unsetenv("RETORT_FAULT");
  const auto written = fs::last_write_time(Out("rows") + "/" + shards[1]);
  EXPECT_FALSE(fs::exists(Out("rows") + "/" + shards[2]));
  MustRun("again", more);
  EXPECT_EQ(fs::last_write_time(Out("rows") + "/" + shards[1]), written);
  EXPECT_TRUE(ReadText(Out("whole") + "/few/checkpoint-12/model.safetensors") ==
              ReadText(Out("again") + "/few/checkpoint-12/model.safetensors"));
  // A damaged one is made anew.
  WriteText(Out("rows") + "/" + shards[1], before[1].substr(0, before[1].size() / 2));
  const Outcome third = RunRetort(Arguments("third", more));
  ASSERT_EQ(third.exit_code, 0) << third.err;
  EXPECT_THAT(third.err,
              AllOf(HasSubstr(shards[1]), HasSubstr("made anew"), Not(HasSubstr(shards[2] + ":"))));
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(ReadText(Out("rows") + "/" + shards[i]) == before[i]) << i;
  }
}

TEST_F(DistillTest, CacheOfAnotherTemperatureOrTeacherIsRefused) {
  const std::vector<std::string> only = {"--only", "few", "--set",
                                         "stages.few.teacher_cache=" + Out("rows")};
  MustRun("run", only);
  std::vector<std::string> words = Arguments("other", only);
  words.insert(
      words.end(),
      {"--set", "stages.few.loss=[{\"plugin\": \"kd\", \"config\": {\"temperature\": 2}}]"});
  const Outcome temperature = RunRetort(words);
  EXPECT_EQ(temperature.exit_code, 1);
  EXPECT_THAT(temperature.err, AllOf(HasSubstr("temperature: 3"), HasSubstr("teacher_cache")));
  words = Arguments("other", only);
  words.insert(words.end(), {"--set", "models.teacher.path=" + ModelPath("llama")});
  const Outcome teacher = RunRetort(words);
  EXPECT_EQ(teacher.exit_code, 1);
  EXPECT_THAT(teacher.err, HasSubstr("teacher: "));
}

// The fixture with rows of padding that it finds likely.
std::string PaddedTeacher(const std::string& folder) {
  fs::copy(ModelPath("qwen3"), folder);
  fs::permissions(folder, fs::perms::owner_all);
  const std::string weights = folder + "/model.safetensors";
  const io::Safetensors file = io::Safetensors::Open(weights).value();
  std::vector<io::SafetensorsItem> items;
  std::vector<float> embedding;
  for (const io::SafetensorsEntry& entry : file.entries()) {
    auto* bytes = const_cast<char*>(file.bytes(entry).data());
    TensorView view = TensorView::Contiguous(bytes, DType::kF32, entry.shape);
    if (entry.name == "model.embed_tokens.weight") {
      const int64_t width = entry.shape[1];
      embedding.assign(view.as<float>(), view.as<float>() + view.numel());
      for (int64_t i = 0; i < 64 * width; ++i) {
        embedding.push_back(embedding[static_cast<size_t>(i + 100 * width)]);
      }
      view = TensorView::Contiguous(embedding.data(), DType::kF32, {576, width});
    }
    items.push_back({entry.name, view, DType::kF32});
  }
  EXPECT_TRUE(io::WriteSafetensors(io::RealFileSystem(), weights, items).ok());
  const std::string config =
      std::regex_replace(ReadText(folder + "/config.json"), std::regex(R"("vocab_size": 512)"),
                         R"("vocab_size": 576)");
  WriteText(folder + "/config.json", config);
  return folder;
}

TEST_F(DistillTest, PaddingOfTheTeachersVocabularyChangesNothing) {
  MustRun("plain", {"--only", "beside"});
  MustRun("plain", {"--only", "cached"});
  Write(PaddedTeacher(folder_ + "/padded"));
  MustRun("padded", {"--only", "beside"});
  MustRun("padded", {"--only", "cached"});
  ExpectNear(Metric("padded", "beside", "loss"), Metric("plain", "beside", "loss"), 1e-5);
  ExpectNear(Metric("padded", "cached", "loss"), Metric("plain", "cached", "loss"), 1e-3);
}

TEST_F(DistillTest, PlanRefusesWhatCanNotWork) {
  const auto error = [&](const std::vector<std::string>& more) {
    std::vector<std::string> words = {"plan", folder_ + "/pipeline.json"};
    for (const std::string& set : more) words.insert(words.end(), {"--set", set});
    const Outcome outcome = RunRetort(words);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.out;
    return outcome.err;
  };
  const std::string folder = folder_ + "/foreign";
  fs::copy(ModelPath("qwen3"), folder);
  const std::string path = folder + "/tokenizer.json";
  const std::string text =
      std::regex_replace(ReadText(path), std::regex(R"(<\|endoftext\|>)"), "<|endofwords|>");
  WriteText(path, text);
  EXPECT_THAT(error({"models.teacher.path=" + folder}),
              AllOf(HasSubstr("another tokenizer"), HasSubstr("let the teacher write text"),
                    HasSubstr("stages.beside.teacher")));
  EXPECT_THAT(error({"stages.beside.loss=[\"sft\"]"}), HasSubstr("no loss of this stage looks"));
  EXPECT_THAT(error({"stages.own.loss=[\"kd\", \"sft\"]"}), HasSubstr("own samples"));
  EXPECT_THAT(error({"stages.few.loss=[{\"plugin\": \"kd\", \"config\": {\"temperature\": -1}}]"}),
              HasSubstr("temperature"));
}

// What `retort plan` tells whoever has a teacher with another tokenizer to do: its text trains the
// student as any text does, although the samples have ids too, which are the teacher's.
TEST_F(DistillTest, AnotherTokenizerGoesThroughText) {
  const std::string foreign = folder_ + "/foreign", path = foreign + "/tokenizer.json";
  fs::copy(ModelPath("qwen3"), foreign);
  std::string text = ReadText(path);
  const std::string merges = "\"merges\": [";
  const size_t begin = text.find(merges) + merges.size();
  const size_t last_one = text.rfind('[');
  ASSERT_LT(begin, last_one);
  WriteText(path, text.erase(begin, last_one - begin));
  const std::string data =
      std::string(RETORT_SOURCE_DIR) + "/tests/fixtures/gsm8k/train_small.jsonl";
  const std::string training = R"("chat": false, "learning_rate": 3e-3, "max_steps": 3,
      "shuffle": false, "max_length": 512)";
  WriteText(
      folder_ + "/text.json",
      R"({"retort": 1, "name": "text", "seed": 3, "models": {"student": ")" + ModelPath("qwen2") +
          R"(", "teacher": ")" + foreign + R"("}, "data": {"refs": {"path": ")" + data +
          R"(", "map": {"prompt": "question"}, "limit": 6}, "plain": "plain.jsonl"}, "stages": [
      {"name": "write", "kind": "generate", "model": "teacher", "data": "refs", "chat": false,
       "samples": 2, "sampling": {"max_tokens": 300, "stop": [" ", "e"]}},
      {"name": "samples", "kind": "sft", "model": "student", "data": "@write", )" +
          training + R"(},
      {"name": "texts", "kind": "sft", "model": "student", "data": "plain", )" +
          training + "}]}");
  const auto run = [&](const std::string& stage) {
    const Outcome outcome = RunRetort(
        {"run", folder_ + "/text.json", "--set", "output=" + Out("text"), "--only", stage});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  };
  WriteText(folder_ + "/plain.jsonl", "");
  run("write");
  std::string plain, texts;
  std::vector<std::vector<int64_t>> teachers_ids;
  for (const json::Document& line : ReadLines(Out("text") + "/write/samples.jsonl")) {
    const json::Value root = line.root();
    ASSERT_EQ(root["finish"].StringOr(""), "stop");
    plain += "{\"prompt\": " + root["prompt"].Dump() +
             ", \"completion\": " + root["completion"].Dump() + "}\n";
    texts += "{\"text\": " + root["prompt"].Dump() + "}\n";
    teachers_ids.push_back(Ints(root["prompt_ids"]));
  }
  WriteText(folder_ + "/plain.jsonl", plain);
  run("samples");
  run("texts");
  const auto weights = [&](const std::string& stage) {
    return ReadText(Out("text") + "/" + stage + "/checkpoint-3/model.safetensors");
  };
  EXPECT_TRUE(weights("samples") == weights("texts"));
  const Outcome encoded = RunRetort({"tokenize", ModelPath("qwen2")}, texts);
  const std::vector<json::Document> students = ParseLines(encoded.out, "tokenize");
  ASSERT_EQ(students.size(), teachers_ids.size());
  for (size_t i = 0; i < students.size(); ++i) {
    EXPECT_NE(Ints(students[i].root()["ids"]), teachers_ids[i]) << "the tokenizers agree";
  }
}

TEST_F(DistillTest, PlanCountsTheTeacher) {
  const auto bytes = [&](const std::string& stage, const std::string& set) {
    const Outcome plan =
        RunRetort({"plan", folder_ + "/pipeline.json", "--json", "--set", "stages." + stage + set});
    EXPECT_EQ(plan.exit_code, 0) << plan.err;
    const auto document = json::Document::Parse(plan.out, "plan");
    const json::Value stages = document->root()["stages"];
    for (size_t i = 0; i < stages.size(); ++i) {
      if (stages[i]["name"].StringOr("") != stage) continue;
      EXPECT_EQ(stages[i]["models"].size(), 2U);
      return stages[i]["memory_bytes"].DoubleOr(0);
    }
    return 0.0;
  };
  const double beside = bytes("beside", ".teacher_top_k=0");
  EXPECT_GT(beside, bytes("beside", ".teacher_top_k=16"));
  EXPECT_GT(bytes("own", ".on_policy=0.5"), bytes("own", ".on_policy=0"));
}

}  // namespace
}  // namespace retort::golden
