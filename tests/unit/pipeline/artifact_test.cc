// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/artifact.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

namespace retort::host {
namespace {

using testing::HasSubstr;

class ArtifactTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/artifact_" +
              testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    manifest_ = {.stage = "cot",
                 .finished = true,
                 .makings = {.kind = "generate",
                             .config_hash = "c0",
                             .inputs = {{"data:train", "d0"}, {"model:m", "m0"}},
                             .plugins = {{"family/llama", "p0"}}},
                 .numbers = R"({"seconds":1.5})"};
    const auto digest = io::DurableWrite(fs_, folder_ + "/samples.jsonl", "{}\n{}\n");
    manifest_.files = {digest.value()};
    manifest_.files[0].name = "samples.jsonl";
  }

  io::FileSystem& fs_ = io::RealFileSystem();
  std::string folder_;
  StageManifest manifest_;
};

TEST_F(ArtifactTest, ComesBackAsWritten) {
  ASSERT_TRUE(WriteStageManifest(fs_, folder_, manifest_).ok());
  const auto read = ReadStageManifest(fs_, folder_);
  ASSERT_TRUE(read.ok() && read->has_value());
  EXPECT_TRUE((*read)->finished);
  EXPECT_EQ((*read)->makings, manifest_.makings);
  EXPECT_EQ((*read)->ArtifactHash(), manifest_.ArtifactHash());
  EXPECT_EQ((*read)->numbers, manifest_.numbers);
}

TEST_F(ArtifactTest, FolderWithoutManifestGivesNothing) {
  const auto read = ReadStageManifest(fs_, folder_);
  ASSERT_TRUE(read.ok());
  EXPECT_FALSE(read->has_value());
}

TEST_F(ArtifactTest, BrokenManifestIsDataLoss) {
  ASSERT_TRUE(io::DurableWrite(folder_ + "/manifest.json", "{\"version\":").ok());
  EXPECT_EQ(ReadStageManifest(fs_, folder_).status().code(), Code::kDataLoss);
}

TEST_F(ArtifactTest, EachDifferenceIsNamed) {
  StageMakings now = manifest_.makings;
  EXPECT_EQ(DifferenceOf(manifest_.makings, now), "");
  now.config_hash = "c1";
  now.inputs = {{"data:train", "d1"}, {"stage:x", "s0"}};
  now.plugins = {{"family/llama", "p1"}};
  EXPECT_EQ(DifferenceOf(manifest_.makings, now),
            "config, input data:train, input stage:x, input model:m, plugin family/llama");
}

TEST_F(ArtifactTest, OneChangedByteIsSeen) {
  EXPECT_TRUE(VerifyFiles(fs_, folder_, manifest_).ok());
  ASSERT_TRUE(io::DurableWrite(folder_ + "/samples.jsonl", "{}\n[]\n").ok());
  const Status changed = VerifyFiles(fs_, folder_, manifest_);
  EXPECT_EQ(changed.code(), Code::kDataLoss);
  EXPECT_THAT(changed.message(), HasSubstr("samples.jsonl"));
  ASSERT_TRUE(io::DurableWrite(folder_ + "/samples.jsonl", "{}\n").ok());
  EXPECT_THAT(VerifyFiles(fs_, folder_, manifest_).message(), HasSubstr("3 bytes"));
  std::filesystem::remove(folder_ + "/samples.jsonl");
  EXPECT_FALSE(VerifyFiles(fs_, folder_, manifest_).ok());
}

TEST_F(ArtifactTest, HashTellsFilesApart) {
  StageManifest other = manifest_;
  other.files[0].hash[0] = other.files[0].hash[0] == 'a' ? 'b' : 'a';
  EXPECT_NE(other.ArtifactHash(), manifest_.ArtifactHash());
}

}  // namespace
}  // namespace retort::host
