// The C edge itself: struct sizes, names and arguments, promises about the process.
// SPDX-License-Identifier: Apache-2.0
#include <clocale>
#include <csignal>
#include <filesystem>

#include "tests/unit/commands/host_fixture.h"

namespace retort::host {
namespace {

using testing::Contains;
using testing::HasSubstr;

TEST(HostContext, TakesNoOptionsAndRefusesASizeOfNothing) {
  retort_context* context = nullptr;
  EXPECT_EQ(retort_context_create(nullptr, &context), RETORT_OK);
  retort_context_destroy(context);
  retort_context_options options{};
  EXPECT_EQ(retort_context_create(&options, &context), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(context, nullptr);
  EXPECT_EQ(retort_context_create(nullptr, nullptr), RETORT_INVALID_ARGUMENT);
  retort_context_destroy(nullptr);
}

TEST(HostContext, AnOlderCallersSmallerOptionsAndResultWork) {
  retort_context_options options{};
  options.struct_size = 8;  // the first version's caller who knows the first two members
  options.log = reinterpret_cast<void (*)(void*, int32_t, retort_str)>(1);  // must not be read
  retort_context* context = nullptr;
  ASSERT_EQ(retort_context_create(&options, &context), RETORT_OK);
  retort_command_result result{};
  result.struct_size = 8;
  result.status = 77;  // beyond what the caller says it has: must stay
  EXPECT_EQ(retort_command(context, "nonsense", {nullptr, 0}, nullptr, &result),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(result.outcome, RETORT_OUTCOME_USAGE);
  EXPECT_EQ(result.status, 77);
  retort_context_destroy(context);
}

TEST(HostContext, UnknownFlagsAreUnimplemented) {
  retort_context_options options{};
  options.struct_size = sizeof options;
  options.flags = 1u << 15;
  retort_context* context = nullptr;
  EXPECT_EQ(retort_context_create(&options, &context), RETORT_UNIMPLEMENTED);
}

TEST(HostNames, EveryListedCommandIsKnown) {
  std::vector<std::string> names;
  for (const char* const* name = retort_command_names(); *name != nullptr; ++name) {
    names.emplace_back(*name);
  }
  for (const char* name : {"run", "plan", "plugin.list", "plugin.info", "model.show",
                           "model.convert", "model.quantize", "model.diff", "model.merge",
                           "tokenize", "logprob", "generate", "score", "filter", "doctor"}) {
    EXPECT_THAT(names, Contains(name));
  }
}

using HostEdge = HostTest;

TEST_F(HostEdge, ArgumentsAreCheckedAgainstTheTable) {
  ExpectUsage("tokenise", "{}", "did you mean \"tokenize\"?");
  ExpectUsage("tokenize", "{", "arguments:1:");
  ExpectUsage("tokenize", "[]", "must be a JSON object");
  ExpectUsage("tokenize", "{}", "needs \"model\"");
  ExpectUsage("tokenize", R"({"model": "m", "caht": true})", "did you mean \"chat\"?");
  ExpectUsage("tokenize", R"({"model": 5})", "\"model\" must be a text");
  ExpectUsage("tokenize", R"({"model": "m", "chat": 1})", "must be true or false");
  ExpectUsage("generate", R"({"model": "m", "top_p": 1.5})", "at most 1");
  ExpectUsage("generate", R"({"model": "m", "samples": 0})", "at least 1");
  ExpectUsage("generate", R"({"model": "m", "samples": 1.5})", "samples");
  ExpectUsage("score", R"({"reward": "format"})", "list of texts");
  ExpectUsage("plan", R"({"file": "/nowhere.json", "plugins": ["/nowhere/libx.so"]})",
              "/nowhere/libx.so");
}

TEST_F(HostEdge, AFileThatIsNoPluginIsAFailureOfTheFile) {
  ExpectFailure("plugin.list", R"({"plugins": [)" + Quote(Fixture("llama/config.json")) + "]}", "",
                "config.json");
}

TEST_F(HostEdge, ACancelBeforehandStopsTheNextCommandOnly) {
  const std::string args = R"({"model": )" + Quote(Fixture("llama")) + "}";
  retort_cancel(context_);
  EXPECT_EQ(Run("tokenize", args, "{\"text\": \"a\"}\n").status, RETORT_CANCELLED);
  EXPECT_EQ(MustRun("tokenize", args, "{\"text\": \"a\"}\n").lines.size(), 1u);
  retort_cancel(nullptr);
}

TEST_F(HostEdge, ACommandNobodyListensToEnds) {
  lines_taken_ = 1;
  const Ran ran = Run("tokenize", R"({"model": )" + Quote(Fixture("llama")) + "}",
                      "{\"text\": \"a\"}\n{\"text\": \"b\"}\n{\"text\": \"c\"}\n");
  EXPECT_EQ(ran.status, RETORT_CANCELLED);
  EXPECT_EQ(ran.lines.size(), 1u);
}

TEST_F(HostEdge, TheProcessStaysAsItWas) {
  struct Dispositions {
    struct sigaction of[32];
  };
  const auto look = [](Dispositions& all) {
    for (int i = 1; i < 32; ++i) sigaction(i, nullptr, &all.of[i]);
  };
  Dispositions before{}, after{};
  look(before);
  const std::string folder = std::filesystem::current_path(), locale = setlocale(LC_ALL, nullptr);
  MustRun("doctor", "{}");  // opens every library there is
  look(after);
  for (int i = 1; i < 32; ++i) {
    EXPECT_EQ(before.of[i].sa_handler, after.of[i].sa_handler) << "signal " << i;
  }
  EXPECT_EQ(std::filesystem::current_path(), folder);
  EXPECT_EQ(setlocale(LC_ALL, nullptr), locale);
}

TEST_F(HostEdge, DoctorSaysWhatThereIs) {
  const Ran ran = MustRun("doctor", R"({"json": true})");
  const json::Document found = ran.Line(0);
  EXPECT_TRUE(found.root()["ok"].BoolOr(false));
  EXPECT_THAT(found.root()["engine"].StringOr(""), HasSubstr("LibTorch 2."));
  EXPECT_THAT(found.root()["plugins"].StringOr(""), HasSubstr("built in"));
}

TEST_F(HostEdge, PluginListHasEveryKindAndInfoItsSchema) {
  const Ran list = MustRun("plugin.list", R"({"json": true})");
  std::vector<std::string> kinds;
  for (size_t i = 0; i < list.lines.size(); ++i) {
    const json::Document line = list.Line(i);
    kinds.emplace_back(line.root()["kind"].StringOr(""));
    EXPECT_TRUE(line.root()["builtin"].BoolOr(false));
  }
  for (const char* kind : {"family", "loss", "optimizer", "reward", "filter"}) {
    EXPECT_THAT(kinds, Contains(kind));
  }
  EXPECT_THAT(MustRun("plugin.list", R"({"kind": "loss"})").lines.back(), HasSubstr("sft"));
  ExpectUsage("plugin.list", R"({"kind": "los"})", "did you mean \"loss\"?");
  const Ran info = MustRun("plugin.info", R"({"id": "filter/length", "json": true})");
  EXPECT_TRUE(info.Line(0).root()["config_schema"]["properties"]["max_tokens"]);
  ExpectUsage("plugin.info", R"({"id": "lenght"})", "did you mean \"length\"?");
}

TEST_F(HostEdge, ModelShowCountsAndNames) {
  const std::string args = R"({"model": )" + Quote(Fixture("llama"));
  const Ran ran = MustRun("model.show", args + R"(, "json": true})");
  const json::Document shown = ran.Line(0);
  EXPECT_EQ(shown.root()["family"].StringOr(""), "llama");
  // By hand from config.json: tied embedding, 2 layers of q, k, v, o, three MLP matrices, norms.
  EXPECT_EQ(shown.root()["parameters"].IntOr(0),
            512 * 32 + 2 * (32 * 32 * 2 + 16 * 32 * 2 + 3 * 64 * 32 + 2 * 32) + 32);
  EXPECT_THAT(MustRun("model.show", args + "}").lines, Contains(HasSubstr("attention")));
  ExpectFailure("model.show", R"({"model": "/nowhere"})", "", "/nowhere");
}

}  // namespace
}  // namespace retort::host
