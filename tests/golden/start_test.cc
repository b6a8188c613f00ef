// What the program opens before its first token: LibTorch only if a product needs it.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "tests/golden/program.h"

namespace retort::golden {
namespace {

using testing::HasSubstr;
using testing::Not;

// Names of the libraries that a command takes, as the dynamic loader tells them.
std::string LibrariesOf(const std::vector<std::string>& arguments, const char* answer) {
  setenv("LD_DEBUG", "files", 1);
  const Outcome done = RunRetort(arguments);
  unsetenv("LD_DEBUG");
  EXPECT_EQ(done.exit_code, 0);
  EXPECT_THAT(done.out, HasSubstr(answer));
  EXPECT_THAT(done.err, HasSubstr("libretort_engine.so"));
  return done.err;
}

std::string LibrariesOf(const std::string& model, const std::string& prompt) {
  return LibrariesOf({"generate", ModelPath(model), "--prompt", prompt, "--max-tokens", "1",
                      "--temperature", "0", "--json"},
                     "completion_ids");
}

std::string Words(int n) {
  std::string text = "The";
  for (int i = 0; i < n; ++i) text += " capital";
  return text;
}

TEST(Start, PackedWeightsNeedNoLibTorch) {
  EXPECT_THAT(LibrariesOf("smollm2", Words(4)), Not(HasSubstr("libtorch_cpu.so")));
  EXPECT_THAT(LibrariesOf("smollm2", Words(40)), Not(HasSubstr("libtorch_cpu.so")));
}

TEST(Start, PromptsOfFloatsNeedNoLibTorch) {
  EXPECT_THAT(LibrariesOf("llama", "The"), Not(HasSubstr("libtorch_cpu.so")));
  EXPECT_THAT(LibrariesOf("llama", Words(40)), Not(HasSubstr("libtorch_cpu.so")));
}

// As training does it, to the bit.
TEST(Start, ScoringInFloatsOpensIt) {
  EXPECT_THAT(
      LibrariesOf({"logprob", ModelPath("llama"), "--input", GoldenPath("texts.jsonl")}, "logprob"),
      HasSubstr("libtorch_cpu.so"));
}

}  // namespace
}  // namespace retort::golden
