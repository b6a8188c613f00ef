// `retort demo` in its tiny profile: models from nothing go through every stage, the filter finds
// the wrong solutions, and the table has every model. SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "tests/golden/program.h"

namespace retort::golden {
namespace {
namespace fs = std::filesystem;

using testing::AllOf;
using testing::HasSubstr;

TEST(Demo, TinyProfileRunsFromNothingAndAgain) {
  const std::string folder = ScratchFolder("learning_demo");
  const auto run = [&] {
    return RunRetort(
        {"demo", "--profile", "tiny", "--seed", "7", "--seeds", "2", "--output", folder});
  };
  const Outcome first = run();
  ASSERT_EQ(first.exit_code, 0) << first.err;
  EXPECT_THAT(first.out,
              AllOf(HasSubstr("teacher"), HasSubstr("student_sft"), HasSubstr("student_kd"),
                    HasSubstr("student_both"), HasSubstr("student_grpo"), HasSubstr("seed 7"),
                    HasSubstr("seed 8"), HasSubstr("tokens")));
  EXPECT_THAT(first.out, HasSubstr("precision 100.0 %, recall 100.0 %"));
  for (const char* file : {"pipeline.json", "tokenizer/tokenizer.json", "seed-7/score/scores.json",
                           "seed-8/score/scores.json"}) {
    EXPECT_TRUE(fs::is_regular_file(folder + "/" + file)) << file;
  }
  // A stage's checkpoint is a whole model, which the other commands take.
  std::string checkpoint;
  for (const auto& entry : fs::directory_iterator(folder + "/seed-7/teacher")) {
    if (entry.is_directory()) checkpoint = entry.path();
  }
  const Outcome show = RunRetort({"model", "show", checkpoint});
  EXPECT_EQ(show.exit_code, 0) << show.err;
  EXPECT_THAT(show.out, HasSubstr("qwen2"));
  const Outcome second = run();
  ASSERT_EQ(second.exit_code, 0) << second.err;
  EXPECT_EQ(second.out, first.out) << "nothing is run again";
}

TEST(Demo, SeedsDecideTheWeightsAndAnAdapterNeedsSome) {
  const std::string folder = ScratchFolder("learning_demo_lora");
  const Outcome lora = RunRetort(
      {"demo", "--profile", "tiny", "--output", folder, "--set", "stages.teacher.lora={\"r\": 4}"});
  EXPECT_EQ(lora.exit_code, 2);
  EXPECT_THAT(lora.err, HasSubstr("models.large has no weights yet"));
}

}  // namespace
}  // namespace retort::golden
