// Every built-in optimizer in a stage: it learns, and a run that goes on from a checkpoint gives
// the bits of one that was not stopped. And which params a stage trains.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <regex>
#include <string>
#include <vector>

#include "tests/golden/program.h"

namespace retort::golden {
namespace {
namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr const char* kPipeline = R"({
  "retort": 1, "name": "t", "models": {"m": "MODEL"},
  "data": {"d": {"path": "DATA", "map": {"prompt": "question", "completion": "answer"}}},
  "stages": [{"name": "sft", "kind": "sft", "model": "m", "data": "d", "limit": 4,
    "max_steps": 8, "batch_tokens": 512, "max_length": 512, "logging_steps": 1, "save_steps": 4,
    "save_total_limit": 0, "schedule": "constant", MORE}]})";

class Stage {
 public:
  Stage(const std::string& name, const std::string& more) : folder_(ScratchFolder(name)) {
    std::string text = std::regex_replace(kPipeline, std::regex("MODEL"), ModelPath("qwen2"));
    const std::string data =
        std::string(RETORT_SOURCE_DIR) + "/tests/fixtures/gsm8k/train_small.jsonl";
    text = std::regex_replace(text, std::regex("DATA"), data);
    WriteText(folder_ + "/p.json", std::regex_replace(text, std::regex("MORE"), more));
  }
  Outcome Run(const std::string& out) const {
    return RunRetort(
        {"run", folder_ + "/p.json", "--set", "output=" + folder_ + "/" + out, "--threads", "2"});
  }
  // A copy of the finished run `from` as it was after its checkpoint of step 4.
  void CutAfterStep4(const std::string& from, const std::string& to) const {
    fs::copy(folder_ + "/" + from, folder_ + "/" + to, fs::copy_options::recursive);
    fs::remove_all(folder_ + "/" + to + "/sft/checkpoint-8");
    const std::string manifest = folder_ + "/" + to + "/sft/manifest.json";
    WriteText(manifest, std::regex_replace(ReadText(manifest), std::regex(R"("finished": true)"),
                                           R"("finished": false)"));
  }
  std::string Read(const std::string& out, const std::string& file) const {
    return ReadText(folder_ + "/" + out + "/sft/" + file);
  }
  std::vector<double> Losses(const std::string& out) const {
    std::vector<double> losses;
    for (const json::Document& line : ReadLines(folder_ + "/" + out + "/metrics.jsonl")) {
      losses.push_back(line.root()["loss"].DoubleOr(-1));
    }
    return losses;
  }
  const std::string& folder() const { return folder_; }

 private:
  std::string folder_;
};

class Optimizers : public testing::TestWithParam<const char*> {};

TEST_P(Optimizers, LearnAndGoOnBitForBit) {
  const std::string given = GetParam();
  const std::string name = given.substr(0, given.find(' '));
  const Stage stage("optimizers_" + name, R"("optimizer": {"plugin": ")" + name +
                                              R"("}, "learning_rate": )" +
                                              given.substr(given.find(' ') + 1));
  const Outcome whole = stage.Run("whole");
  ASSERT_EQ(whole.exit_code, 0) << whole.err;
  const std::vector<double> losses = stage.Losses("whole");
  ASSERT_EQ(losses.size(), 8u);
  EXPECT_LT(losses.back(), losses.front());
  stage.CutAfterStep4("whole", "cut");
  const Outcome again = stage.Run("cut");
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_THAT(again.err, HasSubstr("4 of 8 steps left"));
  const std::string weights = "checkpoint-8/model.safetensors";
  EXPECT_TRUE(stage.Read("cut", weights) == stage.Read("whole", weights));
  EXPECT_EQ(stage.Losses("cut"), losses);
}

INSTANTIATE_TEST_SUITE_P(Each, Optimizers,
                         testing::Values("adamw 1e-3", "adamw_8bit 1e-3", "lion 2e-4", "muon 2e-3",
                                         "adafactor 1e-3", "sgd 0.1"),
                         [](const auto& test) {
                           const std::string given = test.param;
                           return given.substr(0, given.find(' '));
                         });

// Bytes of the named tensor in a safetensors file.
std::string TensorOf(const std::string& file, const std::string& name) {
  uint64_t header = 0;
  std::memcpy(&header, file.data(), sizeof header);
  const json::Document document = json::Document::Parse(file.substr(8, header), "header").value();
  const std::vector<int64_t> offsets = Ints(document.root()[name]["data_offsets"]);
  if (offsets.size() != 2) return "";
  const size_t begin = 8 + header + static_cast<size_t>(offsets[0]);
  return file.substr(begin, static_cast<size_t>(offsets[1] - offsets[0]));
}

TEST(TrainedParams, FrozenOnesStayAndHaveNoState) {
  const Stage stage("trained_params",
                    R"("learning_rate": 1e-3, "trainable": ["layers\\.1\\.", "norm"],
                       "frozen": ["q_proj"])");
  const Outcome run = stage.Run("run");
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const std::string before = stage.Read("run", "checkpoint-4/model.safetensors");
  const std::string after = stage.Read("run", "checkpoint-8/model.safetensors");
  const auto same = [&](const std::string& name) {
    const std::string tensor = TensorOf(after, name);
    EXPECT_FALSE(tensor.empty()) << name;
    return tensor == TensorOf(before, name);
  };
  EXPECT_TRUE(same("model.embed_tokens.weight"));
  EXPECT_TRUE(same("model.layers.0.mlp.up_proj.weight"));
  EXPECT_TRUE(same("model.layers.1.self_attn.q_proj.weight"));
  EXPECT_FALSE(same("model.layers.1.self_attn.k_proj.weight"));
  EXPECT_FALSE(same("model.layers.0.input_layernorm.weight"));
  std::string state;
  for (const auto& file :
       fs::directory_iterator(stage.folder() + "/run/sft/checkpoint-4/trainer")) {
    if (file.path().extension() == ".safetensors") state += ReadText(file.path().string());
  }
  EXPECT_THAT(state, HasSubstr("model.layers.1.self_attn.k_proj.weight.exp_avg"));
  EXPECT_THAT(state, testing::Not(HasSubstr("q_proj.weight.exp_avg")));
  EXPECT_THAT(state, testing::Not(HasSubstr("embed_tokens.weight.exp_avg")));
}

TEST(TrainedParams, APatternWithoutAParamFailsByTheNearestName) {
  const Stage stage("trained_nothing", R"("frozen": ["layers\\.0\\.mlp\\.up_porj\\.weight"])");
  const Outcome run = stage.Run("run");
  EXPECT_NE(run.exit_code, 0);
  EXPECT_THAT(run.err, testing::AllOf(HasSubstr("frozen"), HasSubstr("matches no param"),
                                      HasSubstr("model.layers.0.mlp.up_proj.weight")));
}

// A rate of 0 for a group is as if it were frozen, with AdamW and no decay; a factor of 1 changes
// nothing at all.
TEST(TrainedParams, GroupsHaveRatesOfTheirOwn) {
  // Frozen params leave merged products, which round otherwise.
  setenv("RETORT_DISABLE", "merge", 1);
  const std::string rate = R"("learning_rate": 1e-3, "max_grad_norm": 0)";
  const Stage plain("groups_plain", rate);
  const Stage one("groups_one", rate + R"(, "param_groups": [{"pattern": "mlp", "lr_scale": 1}])");
  const Stage none("groups_none", rate + R"(, "param_groups": [
      {"pattern": "q_proj", "learning_rate": 1e-3}, {"pattern": "proj", "learning_rate": 0}])");
  const Stage frozen("groups_frozen", rate + R"(, "frozen": ["[^q]_proj"])");
  for (const Stage* stage : {&plain, &one, &none, &frozen}) {
    const Outcome run = stage->Run("run");
    ASSERT_EQ(run.exit_code, 0) << run.err;
  }
  const std::string weights = "checkpoint-8/model.safetensors";
  EXPECT_TRUE(plain.Read("run", weights) == one.Read("run", weights));
  EXPECT_TRUE(none.Read("run", weights) == frozen.Read("run", weights));
  EXPECT_FALSE(plain.Read("run", weights) == none.Read("run", weights));
  unsetenv("RETORT_DISABLE");
}

}  // namespace
}  // namespace retort::golden
