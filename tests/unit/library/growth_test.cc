// Growth and wrong use: structs of older and newer callers, NULLs everywhere, unknown flags.
// SPDX-License-Identifier: Apache-2.0
#include <functional>

#include "tests/unit/library/host_api.h"

namespace retort::host {
namespace {

using testing::HasSubstr;

// A struct at the end of readable memory would be best; a copy whose tail is poison comes close:
// what the library reads beyond the caller's size turns into wild pointers and lengths.
template <class T>
struct Padded {
  T value;
  unsigned char beyond[64];
  explicit Padded(const T& given, uint32_t size) : value(given) {
    std::memset(beyond, 0xA5, sizeof beyond);
    std::memset(reinterpret_cast<char*>(&value) + std::min<size_t>(size, sizeof value), 0xA5,
                sizeof value - std::min<size_t>(size, sizeof value));
    value.struct_size = size;
  }
};

// Runs `use` with the struct as of version 1.0 and as of a later one with 64 bytes more.
template <class T>
void AtBothSizes(const T& given, const std::function<retort_status(const T*)>& use) {
  for (const size_t size : {sizeof(T), sizeof(T) + 64}) {
    const Padded<T> padded(given, static_cast<uint32_t>(size));
    EXPECT_EQ(use(&padded.value), RETORT_OK) << "struct_size " << size;
  }
  for (const uint32_t size : {0u, 4u}) {
    const Padded<T> padded(given, size);
    EXPECT_EQ(use(&padded.value), RETORT_INVALID_ARGUMENT) << "struct_size " << size;
  }
}

class GrowthTest : public testing::Test {
 protected:
  Context context_ = NewContext();
};

TEST_F(GrowthTest, ContextOptions) {
  AtBothSizes<retort_context_options>({}, [](const retort_context_options* options) {
    retort_context* out = nullptr;
    const retort_status status = retort_context_create(options, &out);
    retort_context_destroy(out);
    return status;
  });
}

TEST_F(GrowthTest, ModelOptionsAndArguments) {
  const std::string path = Fixture("llama");
  retort_model_options options{};
  options.path = Str(path);
  AtBothSizes<retort_model_options>(options, [this](const retort_model_options* given) {
    retort_model* out = nullptr;
    const retort_status status = retort_model_open(context_.get(), given, &out);
    retort_model_destroy(out);
    return status;
  });
  const Model model = OpenModel(context_, path);
  retort_generate_prompt prompt{};
  prompt.prompt = retort_text("Hi");
  retort_generate_args generate{};
  generate.prompt_stride = sizeof prompt;
  generate.prompts = &prompt;
  generate.n_prompts = 1;
  generate.options = retort_text(R"({"max_tokens": 1})");
  AtBothSizes<retort_generate_args>(generate, [&](const retort_generate_args* given) {
    return retort_model_generate(model.get(), given);
  });
  retort_logprob_item item{};
  item.text = retort_text("Hi there");
  retort_logprob_args logprob{};
  logprob.item_stride = sizeof item;
  logprob.items = &item;
  logprob.n_items = 1;
  logprob.result = [](void*, const retort_logprob_result*) -> int32_t { return 0; };
  AtBothSizes<retort_logprob_args>(logprob, [&](const retort_logprob_args* given) {
    return retort_model_logprob(model.get(), given);
  });
}

TEST_F(GrowthTest, ChainOptions) {
  retort_chain_options options{};
  options.entries = retort_text(kKeepAll);
  AtBothSizes<retort_chain_options>(options, [this](const retort_chain_options* given) {
    retort_filter_chain* out = nullptr;
    const retort_status status = retort_filter_chain_create(context_.get(), given, &out);
    retort_filter_chain_destroy(out);
    return status;
  });
}

TEST_F(GrowthTest, PipelineAndRunOptions) {
  const std::string text = TinyPipeline(Scratch());
  retort_pipeline_options options{};
  options.text = Str(text);
  AtBothSizes<retort_pipeline_options>(options, [this](const retort_pipeline_options* given) {
    retort_pipeline* out = nullptr;
    const retort_status status = retort_pipeline_load(context_.get(), given, &out);
    retort_pipeline_destroy(out);
    return status;
  });
  const Pipeline pipeline = LoadText(context_, text);
  AtBothSizes<retort_run_options>({}, [&](const retort_run_options* given) {
    retort_run* out = nullptr;
    const retort_status status = retort_run_start(pipeline.get(), given, &out);
    retort_run_destroy(out);
    return status;
  });
}

TEST_F(GrowthTest, CommandIoAndResult) {
  AtBothSizes<retort_command_io>({}, [this](const retort_command_io* io) {
    return retort_command(context_.get(), "plugin.list", {nullptr, 0}, io, nullptr);
  });
  for (const size_t size : {size_t{8}, sizeof(retort_command_result) + 64}) {
    Padded<retort_command_result> result({}, static_cast<uint32_t>(size));
    std::memset(&result.value, 0xA5, sizeof result.value);
    result.value.struct_size = static_cast<uint32_t>(size);
    EXPECT_EQ(retort_command(context_.get(), "no", {nullptr, 0}, nullptr, &result.value),
              RETORT_INVALID_ARGUMENT);
    EXPECT_EQ(result.value.struct_size, size);
    EXPECT_EQ(result.value.outcome, RETORT_OUTCOME_USAGE);
    const bool whole = size > sizeof result.value;
    EXPECT_EQ(result.value.status == RETORT_INVALID_ARGUMENT, whole);
    for (const unsigned char byte : result.beyond) EXPECT_EQ(byte, 0xA5);
  }
}

TEST_F(GrowthTest, AScoreTableIsWrittenWithinTheCallersSize) {
  const RewardHandle chain = NewRewards(context_, "number_match");
  const retort_sample sample = Sample("q", "4", nullptr, 0);
  for (const size_t size :
       {offsetof(retort_score_table, reward), sizeof(retort_score_table) + 64}) {
    Padded<retort_score_table> table({}, static_cast<uint32_t>(size));
    EXPECT_RETORT_OK(
        context_, retort_reward_chain_score(chain.get(), &sample, sizeof sample, 1, &table.value));
    EXPECT_EQ(table.value.n_samples, 1u);
    EXPECT_EQ(table.value.struct_size, size);
    const auto poison = reinterpret_cast<const double*>(0xA5A5A5A5A5A5A5A5);
    EXPECT_EQ(table.value.reward == poison, size < sizeof(retort_score_table));
    for (const unsigned char byte : table.beyond) EXPECT_EQ(byte, 0xA5);
  }
  retort_score_table none{};
  EXPECT_EQ(retort_reward_chain_score(chain.get(), &sample, sizeof sample, 1, &none),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_reward_chain_score(chain.get(), &sample, sizeof sample, 1, nullptr),
            RETORT_INVALID_ARGUMENT);
}

TEST_F(GrowthTest, ArraysAreWalkedByTheirStride) {
  struct Later {
    retort_sample sample;
    uint64_t more[3];
  };
  const RewardHandle chain = NewRewards(context_, "number_match");
  std::vector<Later> later(3);
  for (uint32_t i = 0; i < 3; ++i) {
    later[i].sample = Sample("q", i == 1 ? "5" : "4", R"({"answer": "4"})", i);
    std::memset(later[i].more, 0xA5, sizeof later[i].more);
  }
  auto table = Sized<retort_score_table>();
  EXPECT_RETORT_OK(
      context_, retort_reward_chain_score(chain.get(), &later[0].sample, sizeof(Later), 3, &table));
  EXPECT_THAT(std::vector<double>(table.scores, table.scores + 3), testing::ElementsAre(1, 0, 1));
}

TEST_F(GrowthTest, UnknownFlagsAreUnimplementedAndHintsIgnored) {
  const std::string path = Fixture("llama");
  for (const auto& [flags, want] :
       {std::pair{1u << 7, RETORT_UNIMPLEMENTED}, std::pair{1u << 17, RETORT_OK}}) {
    auto model = Sized<retort_model_options>();
    model.path = Str(path);
    model.flags = flags;
    retort_model* out = nullptr;
    EXPECT_EQ(retort_model_open(context_.get(), &model, &out), want);
    const Model owner(out);
    auto chain = Sized<retort_chain_options>();
    chain.entries = retort_text(kKeepAll);
    chain.flags = flags;
    retort_filter_chain* filters = nullptr;
    EXPECT_EQ(retort_filter_chain_create(context_.get(), &chain, &filters), want);
    retort_filter_chain_destroy(filters);
    if (out == nullptr) continue;
    uint64_t n = 0;
    EXPECT_EQ(retort_model_tokenize(out, retort_text("a"), flags, nullptr, 0, &n), want);
  }
}

TEST(WrongUse, NullHandlesAndPointersAreErrors) {
  const Context context = NewContext();
  uint64_t n = 0;
  int32_t more = 0;
  EXPECT_EQ(retort_context_load_plugin(nullptr, {nullptr, 0}), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_context_add_static(nullptr, nullptr, {nullptr, 0}), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_context_error(nullptr).ptr, nullptr);
  EXPECT_EQ(retort_command(nullptr, "doctor", {nullptr, 0}, nullptr, nullptr),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_command(context.get(), nullptr, {nullptr, 0}, nullptr, nullptr),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_model_open(context.get(), nullptr, nullptr), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_model_load(nullptr), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_model_info(nullptr, nullptr), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_model_tokenize(nullptr, {nullptr, 0}, 0, nullptr, 0, &n),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_model_detokenize(nullptr, nullptr, 0, 0, nullptr), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_model_render_chat(nullptr, {nullptr, 0}, 0, nullptr), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_model_generate(nullptr, nullptr), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_model_logprob(nullptr, nullptr), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_reward_chain_create(nullptr, nullptr, nullptr), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_reward_chain_score(nullptr, nullptr, 0, 0, nullptr), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_reward_chain_score_lines(nullptr, nullptr, nullptr), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_reward_chain_finish(nullptr), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_filter_chain_create(context.get(), nullptr, nullptr), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_filter_chain_run(nullptr, nullptr, 0, 0, nullptr, nullptr),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_filter_chain_run_lines(nullptr, nullptr, nullptr, nullptr),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_filter_chain_counts(nullptr, nullptr), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_filter_chain_finish(nullptr), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_pipeline_load(context.get(), nullptr, nullptr), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_pipeline_config(nullptr, nullptr), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_pipeline_plan(nullptr, nullptr), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_pipeline_run(nullptr, nullptr, nullptr), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_run_start(nullptr, nullptr, nullptr), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_run_step(nullptr, &more), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_run_summary(nullptr, nullptr), RETORT_INVALID_ARGUMENT);
  retort_context_destroy(nullptr);
  retort_model_destroy(nullptr);
  retort_reward_chain_destroy(nullptr);
  retort_filter_chain_destroy(nullptr);
  retort_pipeline_destroy(nullptr);
  retort_run_destroy(nullptr);
  retort_cancel(nullptr);
}

TEST(WrongUse, MissingSinksAndArraysAreNamed) {
  const Context context = NewContext();
  const Model model = OpenModel(context, Fixture("llama"));
  EXPECT_EQ(retort_model_info(model.get(), nullptr), RETORT_INVALID_ARGUMENT);
  EXPECT_THAT(ErrorOf(context), HasSubstr("json: NULL"));
  const retort_sink empty{nullptr, nullptr};
  EXPECT_EQ(retort_model_detokenize(model.get(), nullptr, 0, 0, &empty), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_model_detokenize(model.get(), nullptr, 3, 0, &empty), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_model_tokenize(model.get(), {nullptr, 0}, 0, nullptr, 0, nullptr),
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(retort_model_generate(model.get(), nullptr), RETORT_OK);  // no prompt, nothing to do
  auto args = Sized<retort_generate_args>();
  args.n_prompts = 2;
  EXPECT_EQ(retort_model_generate(model.get(), &args), RETORT_INVALID_ARGUMENT);
  EXPECT_THAT(ErrorOf(context), HasSubstr("prompts: NULL"));
}

}  // namespace
}  // namespace retort::host
