// Sessions: where plugins and the engine are looked for, models opened once, families matched.
// SPDX-License-Identifier: Apache-2.0
#include "host/session/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>

namespace retort::host {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

std::string Fixture(const std::string& name) {
  return std::string(RETORT_SOURCE_DIR) + "/tests/fixtures/" + name;
}

SessionOptions Options(const char* plugin_dir, const char* engine_path = "", int n_threads = 0) {
  SessionOptions options;
  options.plugin_dir = plugin_dir;
  options.engine_path = engine_path;
  options.n_threads = n_threads;
  return options;
}

Session WithBuiltins() { return Session(Options(RETORT_BUILTIN_DIR)); }

TEST(SessionPlugins, ASwitchThatIsNoneIsRefused) {
  const auto error = [](const char* names) {
    setenv("RETORT_DISABLE", names, 1);
    Session session(Options(RETORT_BUILTIN_DIR));
    const Status status = session.EnsurePlugins();
    unsetenv("RETORT_DISABLE");
    return status;
  };
  const Status wrong = error("merge,areena");
  EXPECT_EQ(wrong.code(), Code::kInvalidArgument);
  EXPECT_THAT(wrong.message(), AllOf(HasSubstr("RETORT_DISABLE names \"areena\""),
                                     HasSubstr("did you mean \"arena\"?"),
                                     HasSubstr("arena, merge, addnorm, multitensor")));
  EXPECT_THAT(error("Merge").message(), HasSubstr("\"Merge\""));
  EXPECT_TRUE(error("merge,arena").ok());
  EXPECT_TRUE(error("addnorm,multitensor,").ok());
  EXPECT_TRUE(error("").ok());
}

TEST(SessionPlugins, AMissingFolderIsNamed) {
  Session session(Options("/nowhere/plugins", ""));
  EXPECT_THAT(session.EnsurePlugins().message(), HasSubstr("/nowhere/plugins"));
}

TEST(SessionPlugins, TheEnvironmentNamesTheFolderAndMoreFiles) {
  setenv("RETORT_PLUGIN_DIR", "/nowhere/env", 1);
  Session lost(Options("", ""));
  EXPECT_THAT(lost.EnsurePlugins().message(), HasSubstr("/nowhere/env"));
  unsetenv("RETORT_PLUGIN_DIR");

  setenv("RETORT_PLUGIN_PATH", ":/nowhere/libmine.so", 1);
  Session session = WithBuiltins();
  const Status status = session.EnsurePlugins();
  unsetenv("RETORT_PLUGIN_PATH");
  EXPECT_THAT(status.message(), AllOf(HasSubstr("RETORT_PLUGIN_PATH"), HasSubstr("libmine.so")));
}

TEST(SessionHeads, AValueHeadComesBesideOrInsteadOfTheLmHead) {
  Session session = WithBuiltins();
  for (const char* name : {"qwen2", "llama"}) {  // with a head of its own, and a tied one
    const auto source = model::Source::Open(Fixture(name)).value();
    const bool tied = std::string(name) == "llama";
    const graph::Graph plain = session.BuildGraph(*source).value();
    EXPECT_EQ(plain.value_head, -1);
    const graph::Graph both = session.BuildGraph(*source, Heads::kValueToo).value();
    EXPECT_EQ(both.params.size(), plain.params.size() + 1);
    EXPECT_TRUE(both.has_lm_head);
    const graph::Param& head = both.params[static_cast<size_t>(both.value_head)];
    EXPECT_EQ(head.name, "score.weight");
    EXPECT_EQ(head.shape, (std::vector<int64_t>{1, 32}));
    EXPECT_EQ(head.init_value, 0.3);  // the config's initializer_range
    const graph::Graph only = session.BuildGraph(*source, Heads::kValueOnly).value();
    EXPECT_EQ(only.params.size(), plain.params.size() + (tied ? 1 : 0));
    EXPECT_FALSE(only.has_lm_head);
    EXPECT_EQ(only.vocab(), plain.vocab());
    for (const graph::Param& param : only.params) EXPECT_NE(param.name, "lm_head.weight");
  }
}

TEST(SessionEngine, AMissingLibraryIsNamedWithTheLinkersReason) {
  Session session(Options(RETORT_BUILTIN_DIR, "/nowhere/libengine.so"));
  const auto engine = session.Engine();
  EXPECT_EQ(engine.status().code(), Code::kFailedPrecondition);
  EXPECT_THAT(engine.status().message(),
              AllOf(HasSubstr("/nowhere/libengine.so"), HasSubstr("cannot open shared object")));
}

TEST(SessionEngine, AnotherLibraryIsNoEngine) {
  Session session(Options(RETORT_BUILTIN_DIR, RETORT_NO_ENGINE));
  EXPECT_THAT(session.Engine().status().message(), HasSubstr("retort_engine_create"));
}

TEST(SessionModels, AModelIsOpenedOncePerChatFormat) {
  Session session = WithBuiltins();
  const auto first = session.OpenModel(Fixture("llama"));
  ASSERT_TRUE(first.ok()) << first.status().ToString();
  EXPECT_EQ(*first, session.OpenModel(Fixture("llama"), "auto").value());
  const auto other = session.OpenModel(Fixture("llama"), "qwen3");
  ASSERT_TRUE(other.ok()) << other.status().ToString();
  EXPECT_NE(*first, *other);
  EXPECT_EQ((*other)->chat->name(), "qwen3");
}

TEST(SessionModels, AModelWrittenAnewIsOpenedAnew) {
  const std::string copy = testing::TempDir() + "/session_model_written_anew";
  const auto write = [&copy](const char* name) {
    std::filesystem::remove_all(copy);
    std::filesystem::copy(Fixture(name), copy, std::filesystem::copy_options::recursive);
  };
  write("llama");
  Session session = WithBuiltins();
  OpenedModel* first = session.OpenModel(copy).value();
  write("qwen3");
  std::filesystem::last_write_time(copy, first->written + std::chrono::seconds(1));
  OpenedModel* second = session.OpenModel(copy).value();
  EXPECT_NE(first, second);
  EXPECT_EQ(first->source->config().root()["model_type"].StringOr(""), "llama");
  EXPECT_EQ(second->source->config().root()["model_type"].StringOr(""), "qwen3");
  std::filesystem::remove_all(copy);
}

TEST(SessionModels, EveryStopIdIsFoundOnce) {
  Session session = WithBuiltins();
  const auto model = session.OpenModel(Fixture("llama"));
  ASSERT_TRUE(model.ok()) << model.status().ToString();
  // generation_config.json says [2, 0]; config.json, the tokenizer and the turn's end say 2 again.
  EXPECT_THAT((*model)->stop_ids, ElementsAre(2, 0));
}

TEST(SessionModels, AnUnknownChatFormatIsToldToWhoeverNeedsIt) {
  Session session = WithBuiltins();
  const auto model = session.OpenModel(Fixture("llama"), "no_such_format");
  ASSERT_TRUE(model.ok()) << model.status().ToString();
  EXPECT_FALSE((*model)->chat.has_value());
  EXPECT_THAT((*model)->chat_status.message(), HasSubstr("no_such_format"));
}

TEST(SessionModels, APathThatIsNoModelIsAnError) {
  Session session = WithBuiltins();
  EXPECT_THAT(session.OpenModel("/nowhere/model").status().message(), HasSubstr("/nowhere/model"));
}

TEST(SessionGraph, TheFamilyThatKnowsTheConfigWritesIt) {
  Session session = WithBuiltins();
  for (const char* name : {"llama", "qwen2", "qwen3", "mistral", "olmo2", "gemma2", "phi3",
                           "gemma3_text", "qwen2_moe", "qwen3_moe", "mixtral"}) {
    const auto model = session.OpenModel(Fixture(name));
    ASSERT_TRUE(model.ok()) << model.status().ToString();
    const auto graph = session.BuildGraph(*(*model)->source);
    ASSERT_TRUE(graph.ok()) << graph.status().ToString();
    EXPECT_EQ(graph->family, name);
    EXPECT_EQ(graph->vocab(), 512);
  }
}

TEST(SessionGraph, TheFamilyOfThatNameIsOpenedAlone) {
  for (const char* name : {"llama", "mixtral"}) {
    Session session = WithBuiltins();
    EXPECT_EQ(session.BuildGraph(*(*session.OpenModel(Fixture(name)))->source)->family, name);
    ASSERT_EQ(session.plugins().List().size(), 1u);
    EXPECT_EQ(session.plugins().List()[0]->id, name);
    ASSERT_TRUE(session.EnsurePlugins().ok());
    EXPECT_GT(session.plugins().List().size(), 10u);
  }
}

TEST(SessionGraph, ATypeThatIsAPathOpensNothing) {
  Session session = WithBuiltins();
  const auto graph = session.BuildGraph(std::string(R"({"model_type": "../family_llama"})"));
  EXPECT_THAT(graph.status().message(), HasSubstr("no family plugin knows model_type"));
}

TEST(SessionGraph, AnUnknownArchitectureNamesTheTypeAndTheFamilies) {
  Session session = WithBuiltins();
  const auto graph = session.BuildGraph(std::string(R"({"model_type": "mamba9"})"));
  EXPECT_THAT(graph.status().message(),
              AllOf(HasSubstr("mamba9"), HasSubstr("llama"), HasSubstr("qwen3")));
}

TEST(SessionThreads, APipelinesWishCountsUnlessTheOptionsSayMore) {
  Session open(Options("", ""));
  open.PreferThreads(1);
  EXPECT_EQ(open.n_threads(), 1);
  Session fixed(Options("", "", 2));
  fixed.PreferThreads(1);
  EXPECT_EQ(fixed.n_threads(), 2);
}

}  // namespace
}  // namespace retort::host
