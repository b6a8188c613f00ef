// A model handle against the commands of the same name: same ids, texts, samples, numbers.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <numeric>
#include <thread>

#include "tests/unit/library/host_api.h"

namespace retort::host {
namespace {

using testing::ElementsAreArray;
using testing::HasSubstr;

// Lines of a command over input lines.
std::vector<std::string> Command(const Context& context, const char* name, const std::string& args,
                                 const std::string& input) {
  struct State {
    Given given;
    std::vector<std::string> lines;
  } state{{input}, {}};
  auto io = Sized<retort_command_io>();
  io.ctx = &state;
  io.line = [](void* ctx, retort_str line) -> int32_t {
    static_cast<State*>(ctx)->lines.push_back(Text(line));
    return 0;
  };
  io.read = [](void* ctx, void* data, uint64_t n) -> int64_t {
    const retort_reader reader = static_cast<State*>(ctx)->given.reader();
    return reader.read(reader.ctx, data, n);
  };
  EXPECT_RETORT_OK(context, retort_command(context.get(), name, Str(args), &io, nullptr));
  return state.lines;
}

class ModelTest : public testing::Test {
 protected:
  std::vector<int32_t> Tokenize(const char* text, uint32_t flags = 0) {
    uint64_t n = 0;
    EXPECT_RETORT_OK(context_,
                     retort_model_tokenize(model_.get(), retort_text(text), flags, nullptr, 0, &n));
    std::vector<int32_t> ids(n);
    EXPECT_RETORT_OK(context_, retort_model_tokenize(model_.get(), retort_text(text), flags,
                                                     ids.data(), ids.size(), &n));
    return ids;
  }
  const std::string path_ = Fixture("llama");
  Context context_ = NewContext();
  Model model_ = OpenModel(context_, path_);
};

TEST_F(ModelTest, TokenizesLikeTheCommandAndBack) {
  const char* text = "Natalia sold 48 clips — “May”.";
  const std::vector<int32_t> ids = Tokenize(text);
  const std::vector<std::string> lines =
      Command(context_, "tokenize", R"({"model": )" + Quoted(path_) + "}",
              R"({"text": )" + Quoted(text) + "}\n");
  const json::Document line = json::Document::Parse(lines.at(0), "line").value();
  ASSERT_EQ(line.root()["ids"].size(), ids.size());
  for (size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(line.root()["ids"][i].IntOr(-1), ids[i]);

  Collected out;
  const retort_sink sink = out.sink();
  EXPECT_RETORT_OK(context_, retort_model_detokenize(model_.get(), ids.data(), ids.size(),
                                                     RETORT_DETOKENIZE_SKIP_SPECIAL_TOKENS, &sink));
  EXPECT_EQ(out.text, text);
  EXPECT_LE(Tokenize(text, RETORT_TOKENIZE_NO_SPECIAL_TOKENS).size(), ids.size());
}

TEST_F(ModelTest, TooLittleRoomGetsTheFirstIdsAndTheCount) {
  const std::vector<int32_t> ids = Tokenize("one two three four");
  std::vector<int32_t> some(2, -1);
  uint64_t n = 0;
  EXPECT_EQ(
      retort_model_tokenize(model_.get(), retort_text("one two three four"), 0, some.data(), 2, &n),
      RETORT_OUT_OF_RANGE);
  EXPECT_EQ(n, ids.size());
  EXPECT_THAT(some, ElementsAreArray(ids.begin(), ids.begin() + 2));
  EXPECT_THAT(ErrorOf(context_), HasSubstr("room for 2"));
}

TEST_F(ModelTest, RendersChatsLikeTheCommand) {
  const std::string messages = R"([{"role": "user", "content": "2 + 2?"}])";
  Collected out;
  const retort_sink sink = out.sink();
  EXPECT_RETORT_OK(context_, retort_model_render_chat(model_.get(), Str(messages),
                                                      RETORT_CHAT_GENERATION_PROMPT, &sink));
  const std::vector<std::string> lines =
      Command(context_, "tokenize",
              R"({"chat": true, "generation_prompt": true, "model": )" + Quoted(path_) + "}",
              R"({"messages": )" + messages + "}\n");
  const json::Document line = json::Document::Parse(lines.at(0), "line").value();
  EXPECT_EQ(out.text, line.root()["text"].StringOr(""));
  EXPECT_EQ(retort_model_render_chat(model_.get(), retort_text("[{}]"), 0, &sink),
            RETORT_INVALID_ARGUMENT);
  EXPECT_THAT(ErrorOf(context_), HasSubstr("messages"));
}

TEST_F(ModelTest, InfoIsThatOfModelShow) {
  Collected out;
  const retort_sink sink = out.sink();
  EXPECT_RETORT_OK(context_, retort_model_info(model_.get(), &sink));
  const std::vector<std::string> lines =
      Command(context_, "model.show", R"({"json": true, "model": )" + Quoted(path_) + "}", "");
  EXPECT_EQ(out.text, lines.at(0));
}

TEST_F(ModelTest, GeneratesTheSamplesOfTheCommand) {
  const std::string options =
      R"({"samples": 3, "temperature": 0.8, "top_p": 0.9, "seed": 5, "max_tokens": 12})";
  const Generated generated = Generate(model_.get(), {"Once upon", "A list:"}, options);
  ASSERT_EQ(generated.status, RETORT_OK) << ErrorOf(context_);
  const std::vector<std::string> lines =
      Command(context_, "generate",
              R"({"samples": 3, "temperature": 0.8, "top_p": 0.9, "seed": 5, "max_tokens": 12,
          "input": "-", "model": )" +
                  Quoted(path_) + "}",
              "{\"prompt\":\"Once upon\"}\n{\"prompt\":\"A list:\"}\n");
  EXPECT_THAT(generated.lines, ElementsAreArray(lines));
  EXPECT_EQ(generated.streamed.size(), 6u);
}

TEST_F(ModelTest, MessagesGoThroughTheChatFormatAndRecordsStay) {
  retort_generate_prompt prompts[2] = {};
  prompts[0].messages = retort_text(R"([{"role": "user", "content": "Hi"}])");
  prompts[0].record = retort_text(R"({"answer": "4", "prompt": "ignored"})");
  prompts[1].prompt = retort_text("Hi");
  auto args = Sized<retort_generate_args>();
  args.prompt_stride = sizeof prompts[0];
  args.prompts = prompts;
  args.n_prompts = 2;
  args.options = retort_text(R"({"chat": true, "max_tokens": 3, "temperature": 0})");
  std::vector<std::string> lines(2);
  args.ctx = &lines;
  args.done = [](void* ctx, const retort_generate_done* done) -> int32_t {
    (*static_cast<std::vector<std::string>*>(ctx))[done->prompt] = Text(done->json);
    EXPECT_EQ(done->n_ids, 3u);
    EXPECT_LE(done->logp[0], 0);
    return 0;
  };
  EXPECT_RETORT_OK(context_, retort_model_generate(model_.get(), &args));
  const json::Document first = json::Document::Parse(lines[0], "line").value();
  const json::Document second = json::Document::Parse(lines[1], "line").value();
  EXPECT_EQ(first.root()["prompt"].StringOr("a"), second.root()["prompt"].StringOr("b"));
  EXPECT_EQ(first.root()["completion"].StringOr("a"), second.root()["completion"].StringOr("b"));
  EXPECT_EQ(first.root()["record"]["answer"].StringOr(""), "4");
}

TEST_F(ModelTest, EqualPromptsAreToldApartAndEqualUidsRefused) {
  const Generated twice = Generate(model_.get(), {"Same", "Same"}, R"({"max_tokens": 8})");
  ASSERT_EQ(twice.lines.size(), 2u);
  EXPECT_NE(twice.lines[0], twice.lines[1]);
  retort_generate_prompt prompts[2] = {};
  for (auto& prompt : prompts) prompt.prompt = retort_text("x"), prompt.uid = 7;
  auto args = Sized<retort_generate_args>();
  args.prompt_stride = sizeof prompts[0];
  args.prompts = prompts;
  args.n_prompts = 2;
  EXPECT_EQ(retort_model_generate(model_.get(), &args), RETORT_INVALID_ARGUMENT);
  EXPECT_THAT(ErrorOf(context_), HasSubstr("prompts[1]"));
}

TEST_F(ModelTest, ACallbackStopsTheCallAndHearsNoMore) {
  struct State {
    int deltas = 0, done = 0;
  } state;
  retort_generate_prompt prompt{};
  prompt.prompt = retort_text("Once");
  auto args = Sized<retort_generate_args>();
  args.prompt_stride = sizeof prompt;
  args.prompts = &prompt;
  args.n_prompts = 1;
  args.options = retort_text(R"({"max_tokens": 500, "samples": 4, "min_tokens": 400})");
  args.ctx = &state;
  args.delta = [](void* ctx, const retort_generate_delta*) -> int32_t {
    return ++static_cast<State*>(ctx)->deltas == 3 ? 1 : 0;
  };
  args.done = [](void* ctx, const retort_generate_done*) -> int32_t {
    ++static_cast<State*>(ctx)->done;
    return 0;
  };
  EXPECT_EQ(retort_model_generate(model_.get(), &args), RETORT_CANCELLED);
  EXPECT_EQ(state.deltas, 3);
  EXPECT_EQ(state.done, 0);
  EXPECT_EQ(Generate(model_.get(), {"Hi"}, R"({"max_tokens": 2})").status, RETORT_OK);
}

TEST_F(ModelTest, AnotherThreadCancels) {
  struct State {
    retort_context* context;
    std::thread canceller;
    int cancelled = 0;
  } state{context_.get(), {}, 0};
  retort_generate_prompt prompt{};
  prompt.prompt = retort_text("Once");
  auto args = Sized<retort_generate_args>();
  args.prompt_stride = sizeof prompt;
  args.prompts = &prompt;
  args.n_prompts = 1;
  args.options = retort_text(R"({"max_tokens": 100000, "min_tokens": 100000})");
  args.ctx = &state;
  args.delta = [](void* ctx, const retort_generate_delta*) -> int32_t {
    auto& self = *static_cast<State*>(ctx);
    if (!self.canceller.joinable()) {
      self.canceller = std::thread([context = self.context] { retort_cancel(context); });
    }
    return 0;
  };
  args.done = [](void* ctx, const retort_generate_done* done) -> int32_t {
    static_cast<State*>(ctx)->cancelled += done->finish == RETORT_FINISH_CANCELLED ? 1 : 0;
    return 0;
  };
  EXPECT_EQ(retort_model_generate(model_.get(), &args), RETORT_CANCELLED);
  state.canceller.join();
  EXPECT_EQ(state.cancelled, 1);
}

struct Scored {
  std::vector<int32_t> ids;
  std::vector<float> logp;
  double sum;
};

TEST_F(ModelTest, LogprobsAreThoseOfTheCommandAndOfTheSampledTokens) {
  const std::vector<int32_t> ids = Tokenize("She sold clips");
  retort_logprob_item items[3] = {};
  items[0].text = retort_text("She sold clips");
  items[1].prompt = retort_text("She sold");
  items[1].completion = retort_text(" clips");
  items[2].ids = ids.data();
  items[2].n_ids = ids.size();
  items[2].first = 2;
  auto args = Sized<retort_logprob_args>();
  args.item_stride = sizeof items[0];
  args.items = items;
  args.n_items = 3;
  std::vector<Scored> scored;
  args.ctx = &scored;
  args.result = [](void* ctx, const retort_logprob_result* r) -> int32_t {
    static_cast<std::vector<Scored>*>(ctx)->push_back(
        {{r->ids, r->ids + r->n_ids}, {r->logp, r->logp + r->n_logp}, r->sum});
    return 0;
  };
  EXPECT_RETORT_OK(context_, retort_model_logprob(model_.get(), &args));
  ASSERT_EQ(scored.size(), 3u);
  const std::vector<std::string> lines =
      Command(context_, "logprob", R"({"model": )" + Quoted(path_) + "}",
              "{\"text\": \"She sold clips\"}\n"
              "{\"prompt\": \"She sold\", \"completion\": \" clips\"}\n");
  for (size_t i = 0; i < lines.size(); ++i) {
    const json::Document line = json::Document::Parse(lines[i], "line").value();
    ASSERT_EQ(line.root()["logprob"].size(), scored[i].logp.size());
    for (size_t t = 0; t < scored[i].logp.size(); ++t) {
      EXPECT_FLOAT_EQ(static_cast<float>(line.root()["logprob"][t].DoubleOr(1)), scored[i].logp[t]);
    }
    EXPECT_NEAR(line.root()["sum"].DoubleOr(1), scored[i].sum, 1e-4);
  }
  EXPECT_EQ(scored[0].ids, ids);
  EXPECT_EQ(scored[2].logp.size(), ids.size() - 2);
  EXPECT_THAT(scored[2].logp, ElementsAreArray(scored[0].logp.begin() + 1, scored[0].logp.end()));
}

TEST_F(ModelTest, WrongItemsAndOptionsNameThePlace) {
  retort_logprob_item item{};
  auto args = Sized<retort_logprob_args>();
  args.item_stride = sizeof item;
  args.items = &item;
  args.n_items = 1;
  EXPECT_EQ(retort_model_logprob(model_.get(), &args), RETORT_INVALID_ARGUMENT);
  EXPECT_THAT(ErrorOf(context_), HasSubstr("result"));
  args.result = [](void*, const retort_logprob_result*) -> int32_t { return 0; };
  EXPECT_EQ(retort_model_logprob(model_.get(), &args), RETORT_INVALID_ARGUMENT);
  EXPECT_THAT(ErrorOf(context_), HasSubstr("items[0]"));
  const int32_t outside = 1 << 20;
  item.ids = &outside;
  item.n_ids = 1;
  EXPECT_EQ(retort_model_logprob(model_.get(), &args), RETORT_INVALID_ARGUMENT);
  EXPECT_THAT(ErrorOf(context_), HasSubstr("outside the model's vocabulary"));

  EXPECT_EQ(Generate(model_.get(), {"x"}, R"({"temprature": 1})").status, RETORT_INVALID_ARGUMENT);
  EXPECT_THAT(ErrorOf(context_), HasSubstr("did you mean \"temperature\""));
  EXPECT_EQ(Generate(model_.get(), {"x"}, R"({"min_tokens": 9, "max_tokens": 3})").status,
            RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(Generate(model_.get(), {"\xFF"}, "{}").status, RETORT_INVALID_ARGUMENT);
}

TEST(ModelOpen, WhatCantBeOpenedIsNamed) {
  const Context context = NewContext();
  auto options = Sized<retort_model_options>();
  retort_model* out = reinterpret_cast<retort_model*>(8);
  EXPECT_EQ(retort_model_open(context.get(), &options, &out), RETORT_INVALID_ARGUMENT);
  EXPECT_EQ(out, nullptr);
  options.path = retort_text("/nowhere/model");
  EXPECT_NE(retort_model_open(context.get(), &options, &out), RETORT_OK);
  EXPECT_THAT(ErrorOf(context), HasSubstr("/nowhere/model"));
  const std::string llama = Fixture("llama");
  options.path = Str(llama);
  options.chat_format = retort_text("no_such_format");
  EXPECT_NE(retort_model_open(context.get(), &options, &out), RETORT_OK);
  EXPECT_THAT(ErrorOf(context), HasSubstr("no_such_format"));
}

}  // namespace
}  // namespace retort::host
