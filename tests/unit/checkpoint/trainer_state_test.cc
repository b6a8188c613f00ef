// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/trainer_state.h"

#include <gtest/gtest.h>

namespace retort::checkpoint {
namespace {

TEST(TrainerState, IsWrittenInTransformersShape) {
  const TrainerState state = {
      .epoch = 0.5,
      .global_step = 2,
      .max_steps = 4,
      .num_train_epochs = 1,
      .num_input_tokens_seen = 100,
      .train_batch_size = 8,
      .log_history = {
          {.step = 2, .epoch = 0.5, .loss = 1.25, .grad_norm = 2, .learning_rate = 1e-05}}};
  EXPECT_EQ(WriteTrainerState(state), R"({
  "best_metric": null,
  "best_model_checkpoint": null,
  "epoch": 0.5,
  "global_step": 2,
  "log_history": [
    {
      "epoch": 0.5,
      "grad_norm": 2.0,
      "learning_rate": 1e-05,
      "loss": 1.25,
      "step": 2
    }
  ],
  "max_steps": 4,
  "num_input_tokens_seen": 100,
  "num_train_epochs": 1,
  "total_flos": 0.0,
  "train_batch_size": 8
}
)");
}

TEST(TrainerState, ComesBackBitByBit) {
  TrainerState state;
  state.log_history.push_back({.step = 7, .epoch = 1.0 / 3, .loss = 0.1 + 0.2});
  const auto read = ReadTrainerState(WriteTrainerState(state), "x");
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->log_history[0].epoch, 1.0 / 3);
  EXPECT_EQ(read->log_history[0].loss, 0.1 + 0.2);
  EXPECT_EQ(WriteTrainerState(*read), WriteTrainerState(state));
}

TEST(TrainerState, TellsOfEvaluationsAndTheBest) {
  TrainerState state;
  state.log_history.push_back(
      {.step = 3, .epoch = 0.5, .evaluation = {{"eval_loss", 1.25}, {"eval_kd", 0.5}}});
  state.best_metric = 1.25;
  state.best_model_checkpoint = "checkpoint-3";
  const std::string text = WriteTrainerState(state);
  EXPECT_NE(text.find(R"({
  "best_metric": 1.25,
  "best_model_checkpoint": "checkpoint-3",)"),
            text.npos);
  EXPECT_NE(text.find(R"(
    {
      "epoch": 0.5,
      "eval_kd": 0.5,
      "eval_loss": 1.25,
      "step": 3
    }
)"),
            text.npos);
  const auto read = ReadTrainerState(text, "x");
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(WriteTrainerState(*read), text);
}

TEST(TrainerState, AnotherFileIsRefused) {
  EXPECT_EQ(ReadTrainerState("{}", "x").status().code(), Code::kDataLoss);
  EXPECT_EQ(ReadTrainerState("{", "x").status().code(), Code::kDataLoss);
}

}  // namespace
}  // namespace retort::checkpoint
