// Contexts: settings, errors, plugins from files and linked in, one call at a time.
// SPDX-License-Identifier: Apache-2.0
#include <malloc.h>

#include <thread>

#include "tests/unit/library/host_api.h"

// The entries of the static plugins (retort_add_plugin(... STATIC)).
extern "C" const retort_entry* library_lines_retort_plugin_entry_v1(void);
extern "C" const retort_entry* library_kinds_retort_plugin_entry_v1(void);

namespace retort::host {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(Context, AFailedCreateTellsTheLogWhy) {
  std::string told;
  auto options = Sized<retort_context_options>();
  options.log_ctx = &told;
  options.log = [](void* ctx, int32_t level, retort_str message) {
    EXPECT_EQ(level, RETORT_LOG_ERROR);
    *static_cast<std::string*>(ctx) = Text(message);
  };
  options.flags = 1u << 9;
  retort_context* out = reinterpret_cast<retort_context*>(8);
  EXPECT_EQ(retort_context_create(&options, &out), RETORT_UNIMPLEMENTED);
  EXPECT_EQ(out, nullptr);
  EXPECT_THAT(told, AllOf(HasSubstr("flags"), HasSubstr("512")));
  options.flags = 1u << 20;  // a hint
  options.n_threads = -1;
  EXPECT_EQ(retort_context_create(&options, &out), RETORT_INVALID_ARGUMENT);
  EXPECT_THAT(told, HasSubstr("n_threads is -1"));
  options.n_threads = 1;
  EXPECT_EQ(retort_context_create(&options, &out), RETORT_OK);
  retort_context_destroy(out);
}

TEST(Context, ErrorsStayUntilTheNextCall) {
  const Context context = NewContext();
  EXPECT_EQ(ErrorOf(context), "");
  EXPECT_EQ(retort_context_load_plugin(context.get(), retort_text("/nowhere/libx.so")),
            RETORT_NOT_FOUND);
  EXPECT_THAT(ErrorOf(context), HasSubstr("/nowhere/libx.so"));
  EXPECT_EQ(retort_context_load_plugin(context.get(), retort_text(nullptr)),
            RETORT_INVALID_ARGUMENT);
  EXPECT_THAT(ErrorOf(context), HasSubstr("no path"));
  EXPECT_EQ(retort_context_load_plugin(context.get(), {"a\0b", 3}), RETORT_INVALID_ARGUMENT);
  EXPECT_THAT(ErrorOf(context), HasSubstr("NUL"));
  EXPECT_RETORT_OK(context, retort_context_load_plugin(context.get(), retort_text(RETORT_TELLER)));
  EXPECT_EQ(retort_context_error(context.get()).ptr, nullptr);
  EXPECT_STREQ(retort_status_name(RETORT_NOT_FOUND), "NOT_FOUND");
  EXPECT_STREQ(retort_status_name(999), "UNKNOWN");
}

// In this process and in a worker.
class PlacedTest : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Context, PlacedTest,
                         testing::Values(R"({"plugin": "teller", "isolate": false})", "teller"));

TEST_P(PlacedTest, PluginsSeeTheEmbeddersName) {
  auto options = Sized<retort_context_options>();
  options.host_name = retort_text("my app");
  options.host_version = retort_text("3.2");
  const Context context = NewContext(options);
  EXPECT_RETORT_OK(context, retort_context_load_plugin(context.get(), retort_text(RETORT_TELLER)));
  const RewardHandle chain = NewRewards(context, GetParam());
  const retort_sample sample = Sample("p", "four", nullptr, 0);
  auto table = Sized<retort_score_table>();
  EXPECT_RETORT_OK(context,
                   retort_reward_chain_score(chain.get(), &sample, sizeof sample, 1, &table));
  EXPECT_EQ(table.scores[0], 4) << Text(table.error[0]);
  EXPECT_EQ(Text(table.info[0]), R"({"host":"my app","version":"3.2"})");
}

TEST_P(PlacedTest, LogLinesOfPluginsArriveByLevel) {
  std::vector<std::string> told;
  auto options = Sized<retort_context_options>();
  options.log_ctx = &told;
  options.log = [](void* ctx, int32_t, retort_str message) {
    static_cast<std::vector<std::string>*>(ctx)->push_back(Text(message));
  };
  for (const int32_t level : {RETORT_LOG_WARNING, RETORT_LOG_ERROR}) {
    options.log_level = level;
    const Context context = NewContext(options);
    EXPECT_RETORT_OK(context,
                     retort_context_load_plugin(context.get(), retort_text(RETORT_TELLER)));
    const RewardHandle chain = NewRewards(context, GetParam());
    const retort_sample sample = Sample("p", "c", nullptr, 0);
    auto table = Sized<retort_score_table>();
    EXPECT_RETORT_OK(context,
                     retort_reward_chain_score(chain.get(), &sample, sizeof sample, 1, &table));
  }
  ASSERT_EQ(told.size(), 1u);  // none of it above its level
  EXPECT_THAT(told[0], HasSubstr("scored"));
}

TEST(Context, StaticPluginsOfSeveralLibrariesStayApart) {
  const Context context = NewContext();
  EXPECT_RETORT_OK(context,
                   retort_context_add_static(context.get(), library_lines_retort_plugin_entry_v1,
                                             retort_text("lines")));
  EXPECT_RETORT_OK(context,
                   retort_context_add_static(context.get(), library_kinds_retort_plugin_entry_v1,
                                             retort_text("kinds")));
  const RewardHandle ends = NewRewards(context, R"(ends_with:{"text": "."})");
  const retort_sample samples[] = {Sample("p", "So.", nullptr, 0), Sample("p", "So", nullptr, 1)};
  auto table = Sized<retort_score_table>();
  EXPECT_RETORT_OK(context,
                   retort_reward_chain_score(ends.get(), samples, sizeof samples[0], 2, &table));
  EXPECT_THAT(std::vector<double>(table.scores, table.scores + 2), ElementsAre(1, 0));

  const FilterHandle lines = NewFilters(context, "repeated_lines");
  const retort_sample babble[] = {Sample("p", "a\na\na\na", nullptr, 0),
                                  Sample("p", "a\nb", nullptr, 1)};
  std::vector<uint32_t> actions;
  EXPECT_RETORT_OK(
      context,
      retort_filter_chain_run(lines.get(), babble, sizeof babble[0], 2, &actions,
                              [](void* ctx, const retort_filter_result* result) -> int32_t {
                                static_cast<std::vector<uint32_t>*>(ctx)->push_back(result->action);
                                return 0;
                              }));
  EXPECT_THAT(actions, ElementsAre(RETORT_DROP, RETORT_KEEP));
}

TEST(Context, AStaticPluginThatIsNoneIsRefused) {
  const Context context = NewContext();
  EXPECT_EQ(retort_context_add_static(context.get(), nullptr, retort_text("x")),
            RETORT_INVALID_ARGUMENT);
  EXPECT_THAT(ErrorOf(context), HasSubstr("NULL"));
  const auto broken = +[]() -> const retort_entry* { return nullptr; };
  EXPECT_EQ(retort_context_add_static(context.get(), broken, retort_text("x")),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_context_add_static(context.get(), broken, retort_text(nullptr)),
            RETORT_INVALID_ARGUMENT);
  EXPECT_THAT(ErrorOf(context), HasSubstr("name"));
}

TEST(Context, APolicyOfBuiltinsAloneRefusesOthers) {
  auto options = Sized<retort_context_options>();
  options.flags = RETORT_CONTEXT_BUILTINS_ONLY;
  const Context context = NewContext(options);
  EXPECT_NE(retort_context_load_plugin(context.get(), retort_text(RETORT_TELLER)), RETORT_OK);
  EXPECT_THAT(ErrorOf(context), HasSubstr("teller"));
}

TEST(Context, ALockFileThatListsNothingRefusesEverything) {
  const std::string lock = Scratch() + "/plugins.lock";
  auto options = Sized<retort_context_options>();
  options.lock_file = Str(lock);
  const Context context = NewContext(options);  // read at the first library
  EXPECT_NE(retort_context_load_plugin(context.get(), retort_text(RETORT_TELLER)), RETORT_OK);
  EXPECT_THAT(ErrorOf(context), HasSubstr("plugins.lock"));
}

TEST(Context, ACallbackCantCallItsOwnContext) {
  const Context context = NewContext();
  struct State {
    retort_context* context;
    retort_status inner;
  } state{context.get(), 0};
  auto io = Sized<retort_command_io>();
  io.ctx = &state;
  io.line = [](void* ctx, retort_str) -> int32_t {
    auto& self = *static_cast<State*>(ctx);
    auto result = Sized<retort_command_result>();
    self.inner = retort_command(self.context, "doctor", {nullptr, 0}, nullptr, &result);
    EXPECT_THAT(Text(result.message), HasSubstr("another call"));
    return 0;
  };
  EXPECT_RETORT_OK(context,
                   retort_command(context.get(), "plugin.list", {nullptr, 0}, &io, nullptr));
  EXPECT_EQ(state.inner, RETORT_FAILED_PRECONDITION);
}

TEST(Context, HandlesOutliveTheirContextAndSaySo) {
  Context context = NewContext();
  const Model model = OpenModel(context, Fixture("llama"));
  const RewardHandle rewards = NewRewards(context, "number_match", model.get());
  const FilterHandle filters = NewFilters(context, kKeepAll);
  const Pipeline pipeline = LoadText(context, TinyPipeline(Scratch()));
  retort_run* run = nullptr;
  EXPECT_RETORT_OK(context, retort_run_start(pipeline.get(), nullptr, &run));
  const RunHandle owner(run);
  context.reset();
  uint64_t n = 0;
  Collected out;
  const retort_sink sink = out.sink();
  const retort_sample sample = Sample("p", "c", nullptr, 0);
  auto table = Sized<retort_score_table>();
  EXPECT_EQ(retort_model_tokenize(model.get(), retort_text("a"), 0, nullptr, 0, &n),
            RETORT_FAILED_PRECONDITION);
  EXPECT_EQ(retort_reward_chain_score(rewards.get(), &sample, sizeof sample, 1, &table),
            RETORT_FAILED_PRECONDITION);
  EXPECT_EQ(retort_filter_chain_finish(filters.get()), RETORT_FAILED_PRECONDITION);
  EXPECT_EQ(retort_pipeline_plan(pipeline.get(), &sink), RETORT_FAILED_PRECONDITION);
  EXPECT_EQ(retort_run_step(run, nullptr), RETORT_FAILED_PRECONDITION);
}

TEST(Context, ACallbackMayDestroyWhatItRunsIn) {
  struct State {
    Context context;
    Model model;
  } state;
  state.context = NewContext();
  state.model = OpenModel(state.context, Fixture("llama"));
  retort_generate_prompt prompt{};
  prompt.prompt = retort_text("Hello");
  auto args = Sized<retort_generate_args>();
  args.prompt_stride = sizeof prompt;
  args.prompts = &prompt;
  args.n_prompts = 1;
  args.options = retort_text(R"({"max_tokens": 4})");
  args.ctx = &state;
  args.delta = [](void* ctx, const retort_generate_delta*) -> int32_t {
    auto& self = *static_cast<State*>(ctx);
    self.model.reset();
    self.context.reset();
    return 0;
  };
  EXPECT_EQ(retort_model_generate(state.model.get(), &args), RETORT_OK);
}

// What 100 contexts leave behind: no descriptor, no thread, no memory, no library mapped anew.
TEST(Context, AHundredContextsLeakNothing) {
  const auto count = [](const char* folder) {
    return std::distance(std::filesystem::directory_iterator(folder), {});
  };
  const auto once = [] {
    const Context context = NewContext();
    EXPECT_RETORT_OK(context,
                     retort_context_load_plugin(context.get(), retort_text(RETORT_TELLER)));
    const Model model = OpenModel(context, Fixture("llama"));
    EXPECT_EQ(Generate(model.get(), {"Hi"}, R"({"max_tokens": 2})").status, RETORT_OK);
    const RewardHandle rewards = NewRewards(context, "number_match");
    const FilterHandle filters = NewFilters(context, kKeepAll);
  };
  once();
  once();
  const auto files = count("/proc/self/fd"), threads = count("/proc/self/task"),
             mappings = count("/proc/self/map_files");
  const auto bytes = [] {
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
  };
  const size_t before = bytes();
  for (int i = 0; i < 100; ++i) once();
  EXPECT_EQ(count("/proc/self/fd"), files);
  EXPECT_EQ(count("/proc/self/task"), threads);
  EXPECT_LE(count("/proc/self/map_files"), mappings + 2);  // file mappings; the allocator has none
  EXPECT_LT(bytes(), before + (size_t{1} << 20));          // less than 10 kB for each
  RecordProperty(
      "bytes_per_context",
      std::to_string((static_cast<int64_t>(bytes()) - static_cast<int64_t>(before)) / 100));
}

}  // namespace
}  // namespace retort::host
