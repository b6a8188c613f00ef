// Built-in plugins as if built with another version of the SDK: what the host makes of them is the
// same, whether their structs have the size of version 1.0 and end at a guard page, or are larger.
// SPDX-License-Identifier: Apache-2.0
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "core/base/plugin_call.h"
#include "core/graph/graph.h"
#include "retort/abi/draft/family.h"
#include "retort/abi/draft/generator.h"
#include "retort/abi/draft/loss.h"
#include "retort/abi/draft/optimizer.h"
#include "retort/abi/draft/source.h"
#include "tests/abi/traveller.h"
#include "tests/unit/plugins/harness.h"

namespace retort::host {
namespace {

using test::Growth;

const retort_entry* EntryOf(const std::string& library) {
  const std::string path = std::string(RETORT_PLUGIN_DIR "/libretort_") + library + ".so";
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) ADD_FAILURE() << dlerror();
  if (handle == nullptr) return nullptr;
  using EntryFn = const retort_entry* (*)(void);
  return reinterpret_cast<EntryFn>(dlsym(handle, RETORT_PLUGIN_ENTRY_SYMBOL))();
}

template <class Table>
const Table* TableOf(const PluginInstance& plugin, const char* id) {
  const auto* table = static_cast<const Table*>(plugin.interface(id));
  EXPECT_NE(table, nullptr) << id;
  return table;
}

std::string Text(double x) { return std::to_string(x) + " "; }

std::string UseReward(const PluginInstance& plugin) {
  const std::vector<TestSample> samples = {
      {.completion = "It is \\boxed{42}.", .gold = "42", .record = ""},
      {.completion = "no answer", .gold = "42", .record = ""}};
  const Scores scores = ScoreAll(plugin, samples);
  std::string text;
  for (size_t i = 0; i < samples.size(); ++i) {
    text += Text(scores.score[i]) + std::to_string(scores.status[i]) + scores.info[i] + "\n";
  }
  const auto* answers = TableOf<retort_answer_v1>(plugin, RETORT_ANSWER_INTERFACE);
  const std::vector<retort_sample> raw = ToRaw(samples);
  std::vector<int64_t> first(raw.size());
  PluginCall call("answers");
  EXPECT_EQ(answers->classes(plugin.get(), call.Begin(), raw.data(), sizeof(retort_sample),
                             raw.size(), first.data()),
            RETORT_OK);
  for (const int64_t i : first) text += std::to_string(i) + " ";
  return text;
}

std::string UseFilter(const PluginInstance& plugin) {
  const std::vector<TestSample> samples = {
      {.completion = "short", .gold = "", .record = ""},
      {.completion = std::string(50, 'x'), .gold = "", .record = ""}};
  const std::vector<retort_sample> raw = ToRaw(samples);
  const retort_group group = {0, raw.size(), 1};
  std::string text;
  retort_filter_args args{};
  args.struct_size = sizeof args;
  args.sample_stride = sizeof(retort_sample);
  args.group_stride = sizeof(retort_group);
  args.samples = raw.data();
  args.n_samples = raw.size();
  args.groups = &group;
  args.n_groups = 1;
  args.out_ctx = &text;
  args.decide = [](void* ctx, uint64_t sample, const retort_decision* d) {
    *static_cast<std::string*>(ctx) += std::to_string(sample) + ":" + std::to_string(d->action) +
                                       std::string(ToView(d->reason)) + " ";
  };
  PluginCall call("filter");
  const auto* table = TableOf<retort_filter_v1>(plugin, RETORT_FILTER_INTERFACE);
  const Status status = call.End(table->judge(plugin.get(), call.Begin(), &args), "judge");
  EXPECT_TRUE(status.ok()) << status.message();
  return text;
}

std::string UseTokenLoss(const PluginInstance& plugin) {
  Sequence numbers(7);
  std::vector<float> logits = numbers.Vector<float>(3 * 5), weight = {1, 0, 2}, loss(3);
  std::vector<int64_t> labels = {1, 0, 4};
  Tensor logits_t(logits, {3, 5}), labels_t(labels, {3}), weight_t(weight, {3}), loss_t(loss, {3});
  const auto* table = TableOf<retort_token_loss_v1>(plugin, RETORT_TOKEN_LOSS_INTERFACE);
  retort_token_loss_args args{};
  args.struct_size = sizeof args;
  args.flags = RETORT_TOKEN_WANT_GRAD;
  args.logits = logits_t.get();
  args.labels = labels_t.get();
  args.weight = weight_t.get();
  args.loss = loss_t.get();
  PluginCall call("loss");
  const Status status = call.End(table->rows(plugin.get(), call.Begin(), &args), "rows");
  EXPECT_TRUE(status.ok()) << status.message();
  std::string text = std::to_string(table->spec(plugin.get())->n_aux) + " ";
  for (const float x : logits) text += Text(x);
  return text + Text(loss[0]) + Text(loss[2]);
}

std::string UseOptimizer(const PluginInstance& plugin) {
  const int64_t shape[] = {4};
  retort_param_info info{};
  info.struct_size = sizeof info;
  info.name = "w";
  info.shape = shape;
  info.ndim = 1;
  PluginCall call("optimizer");
  const auto* table = TableOf<retort_optimizer_v1>(plugin, RETORT_OPTIMIZER_INTERFACE);
  const retort_optimizer_spec* spec = nullptr;
  const Status status =
      call.End(table->spec(plugin.get(), call.Begin(), &info, &spec), "declare its state");
  EXPECT_TRUE(status.ok()) << status.message();
  if (!status.ok()) return "";
  std::string text = std::to_string(spec->grain) + " ";
  for (uint32_t i = 0; i < spec->n_states; ++i) {
    const auto* state = reinterpret_cast<const retort_state_spec*>(
        reinterpret_cast<const char*>(spec->states) + i * spec->state_stride);
    text += std::string(state->name) + std::to_string(state->dtype) + " ";
  }
  return text;
}

constexpr const char* kLlama =
    R"({"model_type": "llama", "hidden_size": 32, "intermediate_size": 48,
  "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64,
  "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "tie_word_embeddings": false})";

std::string UseFamily(const PluginInstance& plugin) {
  const auto* table = TableOf<retort_family_v1>(plugin, RETORT_FAMILY_INTERFACE);
  PluginCall call("family");
  int32_t score = 0;
  EXPECT_EQ(table->match(plugin.get(), call.Begin(), ToStr(kLlama), &score), RETORT_OK);
  graph::Builder builder("llama");
  const Status built =
      call.End(table->build(plugin.get(), call.Begin(), ToStr(kLlama), builder.table()), "build");
  EXPECT_TRUE(built.ok()) << built.message();
  const Result<graph::Graph> graph = builder.Finish();
  EXPECT_TRUE(graph.ok()) << graph.status().message();
  return graph.ok() ? std::to_string(score) + graph::Print(*graph) : "";
}

std::string UseSource(const PluginInstance& plugin) {
  const auto* table = TableOf<retort_source_v1>(plugin, RETORT_SOURCE_INTERFACE);
  PluginCall call("source");
  std::string text;
  int32_t end = 0;
  const auto on = [](void* ctx, const retort_record* record) {
    *static_cast<std::string*>(ctx) += std::to_string(record->uid) +
                                       std::string(ToView(record->json)) +
                                       std::string(ToView(record->origin)) + "\n";
  };
  const Status status =
      call.End(table->next(plugin.get(), call.Begin(), 3, &text, on, &end), "read");
  EXPECT_TRUE(status.ok()) << status.message();
  return text + std::to_string(end);
}

std::string UseGenerator(const PluginInstance& plugin) {
  const auto* table = TableOf<retort_generator_v1>(plugin, RETORT_GENERATOR_INTERFACE);
  PluginCall call("generator");
  retort_request request{};
  request.uid = 5;
  request.messages_json = ToStr(R"([{"role":"user","content":"Say it again."}])");
  request.params_json = ToStr("{}");
  request.n_samples = 2;
  uint64_t taken = 0;
  const Status submitted = call.End(
      table->submit(plugin.get(), call.Begin(), &request, sizeof request, 1, &taken), "submit");
  EXPECT_TRUE(submitted.ok()) << submitted.message();
  std::string text;
  const auto on = [](void* ctx, const retort_event* event) {
    *static_cast<std::string*>(ctx) += std::to_string(event->kind) + std::to_string(event->sample) +
                                       std::string(ToView(event->text)) + "\n";
  };
  for (int i = 0; i < 8; ++i) {
    const Status polled =
        call.End(table->poll(plugin.get(), call.Begin({.deadline_ns = 1}), &text, on), "poll");
    EXPECT_TRUE(polled.ok()) << polled.message();
  }
  return text;
}

struct Traveller {
  const char *kind, *id, *config;
  std::function<std::string(const PluginInstance&)> use;
};

void PrintTo(const Traveller& t, std::ostream* out) { *out << t.kind << " " << t.id; }

const Traveller kTravellers[] = {
    {"reward", "number_match", "{}", UseReward},
    {"filter", "length", R"({"max_chars": 20})", UseFilter},
    {"loss", "sft", "{}", UseTokenLoss},
    {"optimizer", "adamw", "{}", UseOptimizer},
    {"family", "llama", "{}", UseFamily},
    {"source", "jsonl", R"({"path": ")" RETORT_SOURCE_DIR R"(/tests/golden/texts.jsonl"})",
     UseSource},
    {"generator", "echo", "{}", UseGenerator},
};

class TimeTravel : public testing::TestWithParam<Traveller> {
 protected:
  // What the plugin does behind `entry`.
  static std::string Through(const retort_entry* entry) {
    const Traveller& t = GetParam();
    PluginRegistry registry;
    const Status added = registry.AddStatic(entry, "traveller");
    EXPECT_TRUE(added.ok()) << added.message();
    Result<PluginInstance> plugin = registry.Create(t.kind, t.id, t.config, {});
    EXPECT_TRUE(plugin.ok()) << plugin.status().message();
    return plugin.ok() ? t.use(*plugin) : "";
  }
};

TEST_P(TimeTravel, TheFirstVersionsStructsAndLargerOnesGiveTheSame) {
  const retort_entry* now = EntryOf(std::string(GetParam().kind) + "_" + GetParam().id);
  ASSERT_NE(now, nullptr);
  const std::string expected = Through(now);
  EXPECT_FALSE(expected.empty());
  EXPECT_EQ(Through(test::Travel(now, Growth::kExact)), expected);
  EXPECT_EQ(Through(test::Travel(now, Growth::kGrown)), expected);
}

INSTANTIATE_TEST_SUITE_P(Kinds, TimeTravel, testing::ValuesIn(kTravellers),
                         [](const auto& param) { return std::string(param.param.kind); });

}  // namespace
}  // namespace retort::host
