// Save, find, verify, load: a checkpoint is whole, or it is passed over.
// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/checkpoint/manifest.h"

namespace retort::checkpoint {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

class CheckpointTest : public testing::Test {
 protected:
  void SetUp() override {
    parent_ = testing::TempDir() + "/checkpoint_" +
              testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(parent_);
    std::filesystem::create_directories(parent_);
    trash_ = parent_ + "/.trash";
  }

  SaveRequest Request(int64_t step) {
    SaveRequest request;
    request.step = step;
    request.write_model = [this](const std::string& folder) -> Result<std::vector<io::FileDigest>> {
      RETORT_ASSIGN_OR_RETURN(io::FileDigest digest,
                              io::DurableWrite(fs_, folder + "/config.json", "{}"));
      digest.name = "config.json";
      return std::vector<io::FileDigest>{digest};
    };
    state_ = {{.name = "w.m", .view = TensorView::Contiguous(m_.data(), DType::kF32, {2, 2})}};
    request.state = state_;
    request.scalars = std::string("sc\0al", 5);
    request.trainer_state = "{}\n";
    request.progress = R"({"step":1})";
    request.environment = {{"threads", "2"}};
    request.nonce = "n";
    return request;
  }
  void MustSave(int64_t step) {
    const auto saved = Save(fs_, parent_, trash_, Request(step));
    ASSERT_TRUE(saved.ok()) << saved.status().ToString();
  }
  std::vector<std::string> Names() {
    std::vector<std::string> names = fs_.List(parent_).value();
    std::erase(names, ".trash");
    return names;
  }
  void FlipByte(const std::string& name) {
    std::fstream file(parent_ + "/" + name, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-1, std::ios::end);
    file.put('#');
  }

  io::FileSystem& fs_ = io::RealFileSystem();
  std::string parent_, trash_;
  std::vector<float> m_ = {1, 2, 3, 4};
  std::vector<engine::StateTensor> state_;
  std::vector<std::string> warnings_;
};

TEST_F(CheckpointTest, IsFoundWithAllItHolds) {
  MustSave(5);
  MustSave(10);
  const auto found = FindLatest(fs_, parent_, &warnings_);
  ASSERT_TRUE(found.ok() && found->has_value());
  EXPECT_THAT((*found)->folder, HasSubstr("checkpoint-10"));
  EXPECT_EQ((*found)->manifest.progress, R"({"step":1})");
  EXPECT_THAT((*found)->manifest.environment,
              ElementsAre(std::pair<std::string, std::string>("threads", "2")));
  EXPECT_THAT(warnings_, SizeIs(0));
  std::vector<float> back(4);
  const std::vector<engine::StateTensor> into = {
      {.name = "w.m", .view = TensorView::Contiguous(back.data(), DType::kF32, {2, 2})}};
  const auto scalars = LoadState((*found)->folder, into);
  ASSERT_TRUE(scalars.ok()) << scalars.status().ToString();
  EXPECT_EQ(*scalars, std::string("sc\0al", 5));
  EXPECT_EQ(back, m_);
}

TEST_F(CheckpointTest, DamagedOneIsPassedOverAndNamed) {
  MustSave(5);
  for (const char* name :
       {"trainer/optimizer.safetensors", "trainer/manifest.json", "config.json"}) {
    MustSave(10);
    FlipByte(std::string("checkpoint-10/") + name);
    warnings_.clear();
    const auto found = FindLatest(fs_, parent_, &warnings_);
    ASSERT_TRUE(found.ok() && found->has_value()) << name;
    EXPECT_THAT((*found)->folder, HasSubstr("checkpoint-5")) << name;
    ASSERT_THAT(warnings_, SizeIs(1)) << name;
    EXPECT_THAT(warnings_[0], HasSubstr("checkpoint-10")) << name;
  }
}

TEST_F(CheckpointTest, UnfinishedFolderIsNoCheckpoint) {
  std::filesystem::create_directories(parent_ + "/checkpoint-7.tmp-x/trainer");
  std::filesystem::create_directories(parent_ + "/checkpoint-x");
  const auto found = FindLatest(fs_, parent_, &warnings_);
  ASSERT_TRUE(found.ok());
  EXPECT_FALSE(found->has_value());
  EXPECT_THAT(warnings_, SizeIs(0));
}

TEST_F(CheckpointTest, RenamedFolderIsRefused) {
  MustSave(5);
  std::filesystem::rename(parent_ + "/checkpoint-5", parent_ + "/checkpoint-50");
  EXPECT_EQ(Verify(fs_, parent_ + "/checkpoint-50").status().code(), Code::kDataLoss);
}

TEST_F(CheckpointTest, FailedSaveLeavesTheOldOnesAndNothingElse) {
  MustSave(5);
  SaveRequest request = Request(10);
  request.write_model = [](const std::string&) -> Result<std::vector<io::FileDigest>> {
    return ResourceExhausted("disk full");
  };
  const auto saved = Save(fs_, parent_, trash_, request);
  EXPECT_EQ(saved.status().code(), Code::kResourceExhausted);
  EXPECT_THAT(Names(), ElementsAre("checkpoint-5"));
}

TEST_F(CheckpointTest, RetentionKeepsTheNewestByNumber) {
  for (const int64_t step : {9, 10, 100}) MustSave(step);
  std::filesystem::create_directories(parent_ + "/checkpoint-101.tmp-dead");
  ASSERT_TRUE(Retain(fs_, parent_, trash_, 2).ok());
  EXPECT_THAT(Names(), ElementsAre("checkpoint-10", "checkpoint-100"));
  ASSERT_TRUE(Retain(fs_, parent_, trash_, 0).ok());
  EXPECT_THAT(Names(), SizeIs(2));
}

// As transformers' rotate_checkpoints: the newest and the best stay, and count.
TEST_F(CheckpointTest, RetentionKeepsTheBestToo) {
  for (const int64_t step : {3, 6, 9, 12}) MustSave(step);
  ASSERT_TRUE(Retain(fs_, parent_, trash_, 3, "checkpoint-6").ok());
  EXPECT_THAT(Names(), ElementsAre("checkpoint-12", "checkpoint-6", "checkpoint-9"));
  ASSERT_TRUE(Retain(fs_, parent_, trash_, 2, "checkpoint-6").ok());
  EXPECT_THAT(Names(), ElementsAre("checkpoint-12", "checkpoint-6"));
  ASSERT_TRUE(Retain(fs_, parent_, trash_, 1, "checkpoint-6").ok());
  EXPECT_THAT(Names(), ElementsAre("checkpoint-12", "checkpoint-6"));
  ASSERT_TRUE(Retain(fs_, parent_, trash_, 1, "checkpoint-12").ok());
  EXPECT_THAT(Names(), ElementsAre("checkpoint-12"));
}

TEST_F(CheckpointTest, SameStepAgainReplacesIt) {
  MustSave(5);
  m_[0] = 7;
  MustSave(5);
  std::vector<float> back(4);
  const std::vector<engine::StateTensor> into = {
      {.name = "w.m", .view = TensorView::Contiguous(back.data(), DType::kF32, {2, 2})}};
  ASSERT_TRUE(LoadState(parent_ + "/checkpoint-5", into).ok());
  EXPECT_EQ(back[0], 7);
}

TEST_F(CheckpointTest, StateThatDoesNotFitIsRefused) {
  MustSave(5);
  std::vector<float> back(8);
  const auto load = [&](const std::string& name, std::initializer_list<int64_t> shape) {
    const std::vector<engine::StateTensor> into = {
        {.name = name, .view = TensorView::Contiguous(back.data(), DType::kF32, shape)}};
    return LoadState(parent_ + "/checkpoint-5", into).status();
  };
  EXPECT_THAT(load("w.v", {2, 2}).message(), HasSubstr("has no tensor 'w.v'"));
  EXPECT_THAT(load("w.m", {4, 2}).message(), HasSubstr("another shape"));
  EXPECT_THAT(load("w.m", {4}).message(), HasSubstr("another shape"));
}

TEST(Manifest, NamesThatLeaveTheFolderAreRefused) {
  Manifest manifest = {.step = 1,
                       .files = {{.name = "../x", .bytes = 1, .hash = std::string(32, 'a')}}};
  EXPECT_EQ(ReadManifest(WriteManifest(manifest), "m").status().code(), Code::kDataLoss);
  manifest.files[0].name = "/etc/passwd";
  EXPECT_EQ(ReadManifest(WriteManifest(manifest), "m").status().code(), Code::kDataLoss);
  manifest.files[0].name = "a/b";
  EXPECT_TRUE(ReadManifest(WriteManifest(manifest), "m").ok());
}

TEST(Environment, DifferenceNamesWhatChanged) {
  EXPECT_EQ(Difference({{"threads", "4"}, {"isa", "x"}}, {{"threads", "2"}, {"isa", "x"}}),
            "threads was 4 and is 2");
  EXPECT_EQ(Difference({{"threads", "4"}}, {{"threads", "4"}}), "");
}

}  // namespace
}  // namespace retort::checkpoint
