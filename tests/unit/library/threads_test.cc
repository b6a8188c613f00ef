// Two contexts on two threads at once: each loads plugins, scores, tokenizes, generates, and runs a
// pipeline in a folder of its own, with the results of one thread alone.
// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <fstream>
#include <sstream>
#include <thread>

#include "tests/unit/library/host_api.h"

namespace retort::host {
namespace {

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

// Everything that a context can do, as one text.
std::string DoEverything(const std::string& output, int32_t n_threads) {
  auto options = Sized<retort_context_options>();
  options.n_threads = n_threads;
  const Context context = NewContext(options);
  std::string told;
  EXPECT_RETORT_OK(context, retort_context_load_plugin(context.get(), retort_text(RETORT_TELLER)));
  const RewardHandle chain =
      NewRewards(context, R"([{"plugin": "teller", "isolate": false}, "number_match",
                              {"plugin": "teller", "name": "isolated", "isolate": true}])");
  const Model model = OpenModel(context, Fixture("qwen3"));
  for (int round = 0; round < 3; ++round) {
    std::vector<retort_sample> samples;
    for (uint32_t i = 0; i < 200; ++i) samples.push_back(Sample("q", "It is 4.", "{}", i));
    auto table = Sized<retort_score_table>();
    EXPECT_RETORT_OK(context, retort_reward_chain_score(chain.get(), samples.data(),
                                                        sizeof(retort_sample), 200, &table));
    EXPECT_EQ(table.status[2], RETORT_SCORE_OK) << Text(table.error[2]);
    for (uint64_t i = 0; i < 200; ++i) told += std::to_string(table.reward[i]) + " ";
    int32_t ids[64] = {};
    uint64_t n = 0;
    EXPECT_RETORT_OK(
        context, retort_model_tokenize(model.get(), retort_text("Weng earns $12"), 0, ids, 64, &n));
    for (uint64_t i = 0; i < n; ++i) told += std::to_string(ids[i]) + " ";
    const Generated generated = Generate(model.get(), {"Weng earns", "Betty"},
                                         R"({"samples": 2, "seed": 3, "max_tokens": 24})");
    EXPECT_EQ(generated.status, RETORT_OK) << ErrorOf(context);
    for (const std::string& line : generated.lines) told += line + "\n";
  }
  const Pipeline pipeline = LoadText(context, TinyPipeline(output));
  EXPECT_RETORT_OK(context, retort_pipeline_run(pipeline.get(), nullptr, nullptr));
  for (const char* file :
       {"/cot/samples.jsonl", "/clean/kept.jsonl", "/sft/checkpoint-4/model.safetensors"}) {
    const std::string text = ReadFile(output + file);
    EXPECT_FALSE(text.empty()) << file;
    told += text;
  }
  return told;
}

TEST(Threads, TwoContextsAtOnceDoWhatOneDoesAlone) {
  const std::string folder = Scratch();
  const std::string alone = DoEverything(folder + "/alone", 1);
  std::string together[2];
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 2; ++i) {
      threads.emplace_back([&together, &folder, i] {
        together[i] = DoEverything(folder + "/" + std::to_string(i), 1);
      });
    }
  }
  EXPECT_TRUE(together[0] == alone);
  EXPECT_TRUE(together[1] == alone);
}

TEST(Threads, EachContextKeepsItsOwnNumberOfThreads) {
  const std::string folder = Scratch();
  const std::string one = DoEverything(folder + "/one", 1), two = DoEverything(folder + "/two", 2);
  std::string got_one, got_two;
  {
    const std::jthread a([&] { got_one = DoEverything(folder + "/a", 1); });
    const std::jthread b([&] { got_two = DoEverything(folder + "/b", 2); });
  }
  EXPECT_TRUE(got_one == one);
  EXPECT_TRUE(got_two == two);
}

// Without the engine, which race detectors do not understand.
// test.
TEST(Threads, ContextsComeAndGoOnTwoThreads) {
  const std::string folder = Scratch();
  const auto work = [&folder](int number) {
    for (int round = 0; round < 3; ++round) {
      const Context context = NewContext();
      EXPECT_RETORT_OK(context,
                       retort_context_load_plugin(context.get(), retort_text(RETORT_TELLER)));
      const Model model = OpenModel(context, Fixture("llama"));
      uint64_t n = 0;
      EXPECT_RETORT_OK(context, retort_model_tokenize(model.get(), retort_text("Weng earns $12"), 0,
                                                      nullptr, 0, &n));
      const RewardHandle chain =
          NewRewards(context, R"([{"plugin": "teller", "isolate": false}, "number_match",
                                  {"plugin": "teller", "name": "isolated", "isolate": true}])");
      const retort_sample sample = Sample("q", "It is 4.", nullptr, 0);
      auto table = Sized<retort_score_table>();
      EXPECT_RETORT_OK(context,
                       retort_reward_chain_score(chain.get(), &sample, sizeof sample, 1, &table));
      const FilterHandle filters = NewFilters(context, kKeepAll, model.get());
      const Pipeline pipeline = LoadText(context, TinyPipeline(folder + std::to_string(number)));
      Collected plan;
      const retort_sink sink = plan.sink();
      EXPECT_RETORT_OK(context, retort_pipeline_plan(pipeline.get(), &sink));
      EXPECT_GT(n, 0u);
    }
  };
  const std::jthread a(work, 0), b(work, 1);
}

TEST(Threads, ASecondCallWithABusyContextIsRefused) {
  const Context context = NewContext();
  const Model model = OpenModel(context, Fixture("llama"));
  struct State {
    retort_model* model;
    retort_status other = RETORT_OK;
    bool asked = false;
  } state{model.get()};
  retort_generate_prompt prompt{};
  prompt.prompt = retort_text("Hi");
  auto args = Sized<retort_generate_args>();
  args.prompt_stride = sizeof prompt;
  args.prompts = &prompt;
  args.n_prompts = 1;
  args.options = retort_text(R"({"max_tokens": 8, "min_tokens": 8})");
  args.ctx = &state;
  args.delta = [](void* ctx, const retort_generate_delta*) -> int32_t {
    auto& self = *static_cast<State*>(ctx);
    self.asked = true;
    std::thread([&self] { self.other = retort_model_load(self.model); }).join();
    return 0;
  };
  EXPECT_RETORT_OK(context, retort_model_generate(model.get(), &args));
  EXPECT_TRUE(state.asked);
  EXPECT_EQ(state.other, RETORT_FAILED_PRECONDITION);
}

}  // namespace
}  // namespace retort::host
