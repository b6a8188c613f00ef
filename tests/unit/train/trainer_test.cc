// SPDX-License-Identifier: Apache-2.0
#include "core/train/trainer.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "core/engine/memory.h"
#include "core/engine/pass.h"
#include "core/train/param_groups.h"
#include "tests/unit/engine/count_allocations.h"
#include "tests/unit/engine/tiny_model.h"

namespace retort::train {
namespace {

using engine::MicroBatch;
using engine::test::CrossEntropy;
using engine::test::Documents;
using engine::test::TinyModel;
using engine::test::TinySpec;

constexpr int kThreads = 2;

// Momentum with everything an optimizer may ask of the host: a state that
// copies the param, one per block, scalar state; remembers what it was handed.
struct Momentum {
  double last_rate[2] = {0, 0}, last_decay[2] = {0, 0};
  float last_scale = 0;
  int64_t steps = 0, last_step = 0;
  uint32_t groups_seen = 0;
};

retort_status MomentumSpec(retort_instance*, const retort_call*, const retort_param_info*,
                           const retort_optimizer_spec** out) {
  static const retort_state_spec kStates[2] = {{.name = "start",
                                                .dtype = RETORT_STATE_AS_PARAM,
                                                .shape = RETORT_STATE_SHAPE_AS_PARAM,
                                                .init = RETORT_STATE_INIT_COPY_PARAM,
                                                .ndim = 0,
                                                .init_value = 0,
                                                .block = 0,
                                                .dims = nullptr},
                                               {.name = "m",
                                                .dtype = RETORT_STATE_F32,
                                                .shape = RETORT_STATE_SHAPE_PER_BLOCK,
                                                .init = RETORT_STATE_INIT_CONSTANT,
                                                .ndim = 0,
                                                .init_value = 0.25,
                                                .block = 64,
                                                .dims = nullptr}};
  static const retort_optimizer_spec kSpec = {.struct_size = sizeof(retort_optimizer_spec),
                                              .flags = 0,
                                              .grain = RETORT_GRAIN_ELEMENTWISE,
                                              .n_states = 2,
                                              .states = kStates,
                                              .state_stride = sizeof(retort_state_spec)};
  *out = &kSpec;
  return RETORT_OK;
}

// Plain gradient descent; no decay, so that the update can be checked exactly.
retort_status MomentumStep(retort_instance* instance, const retort_call*,
                           const retort_optimizer_args* args) {
  auto& self = *reinterpret_cast<Momentum*>(instance);
  self.last_scale = *static_cast<const float*>(args->grad_scale->data);
  for (int g = 0; g < 2; ++g) self.last_rate[g] = args->learning_rate[g];
  for (int g = 0; g < 2; ++g) self.last_decay[g] = args->weight_decay[g];
  for (uint64_t i = 0; i < args->n; ++i) {
    const retort_optimizer_tensor& t = args->tensors[i];
    self.groups_seen |= 1U << t.info->group;
    self.last_step = t.step;
    auto* p = static_cast<float*>(t.param->data);
    const auto* g = static_cast<const float*>(t.grad->data);
    for (int64_t k = 0; k < t.param->shape[0]; ++k) {
      p[k] -= static_cast<float>(args->learning_rate[0]) * self.last_scale * g[k];
    }
  }
  ++self.steps;
  return RETORT_OK;
}

retort_status MomentumSave(retort_instance* instance, const retort_call*, const retort_sink* sink) {
  const auto& self = *reinterpret_cast<Momentum*>(instance);
  sink->write(sink->ctx, &self.steps, sizeof self.steps);
  return RETORT_OK;
}

retort_status MomentumLoad(retort_instance* instance, const retort_call* call,
                           const retort_reader* reader) {
  auto& self = *reinterpret_cast<Momentum*>(instance);
  if (reader->read(reader->ctx, &self.steps, sizeof self.steps) == sizeof self.steps) {
    return RETORT_OK;
  }
  const std::string text = "eight bytes expected";
  call->error(call->ctx, RETORT_DATA_LOSS, {text.data(), text.size()});
  return RETORT_DATA_LOSS;
}

class TrainerTest : public testing::Test {
 protected:
  static constexpr retort_optimizer_v1 kTable = {.struct_size = sizeof(retort_optimizer_v1),
                                                 .flags = 0,
                                                 .spec = MomentumSpec,
                                                 .step = MomentumStep,
                                                 .save = MomentumSave,
                                                 .load = MomentumLoad};

  engine::TrainerOptions Options() {
    engine::TrainerOptions options;
    options.losses = {CrossEntropy()};
    options.optimizer = {.name = "momentum",
                         .table = &kTable,
                         .instance = reinterpret_cast<retort_instance*>(&momentum_)};
    options.weight_decay = 0.1;
    return options;
  }
  std::unique_ptr<engine::Trainer> Make(const engine::TrainerOptions& options) {
    auto made = MakeTrainer(model_.graph, model_.views, options, kThreads);
    EXPECT_TRUE(made.ok()) << made.status().ToString();
    return std::move(made).value();
  }
  Status MakeStatus(const engine::TrainerOptions& options) {
    return MakeTrainer(model_.graph, model_.views, options, kThreads).status();
  }

  TinySpec spec_;
  TinyModel<float> model_{spec_};
  Momentum momentum_;
};

TEST_F(TrainerTest, UpdatesByTheClippedGradient) {
  engine::TrainerOptions options = Options();
  options.max_grad_norm = 0.05;
  auto trainer = Make(options);
  const auto before = model_.storage;
  const std::vector<MicroBatch> window = {Documents({9, 5}, spec_.vocab)};
  const auto result = trainer->Step(window, 0.5, 3, nullptr);
  ASSERT_TRUE(result.ok()) << result.status().ToString();
  const double scale = 0.05 / (result->grad_norm + 1e-6);
  ASSERT_LT(scale, 1);
  EXPECT_FLOAT_EQ(momentum_.last_scale, static_cast<float>(scale));
  EXPECT_EQ(momentum_.last_step, 4);
  EXPECT_EQ(momentum_.last_rate[1], 0.5);
  EXPECT_EQ(momentum_.last_decay[0], 0.1);
  EXPECT_EQ(momentum_.last_decay[1], 0);
  EXPECT_EQ(momentum_.groups_seen, 3U);
  double norm = 0;
  const auto grads = trainer->Gradients();
  for (size_t p = 0; p < grads.size(); ++p) {
    for (size_t i = 0; i < before[p].size(); ++i) {
      const float g = grads[p].view.as<float>()[i];
      norm += static_cast<double>(g) * static_cast<double>(g);
      ASSERT_NEAR(model_.storage[p][i], before[p][i] - 0.5 * scale * static_cast<double>(g), 1e-6);
    }
  }
  EXPECT_NEAR(result->grad_norm, std::sqrt(norm), 1e-5 * std::sqrt(norm));
  EXPECT_EQ(result->tokens, 14);
  EXPECT_EQ(result->label_tokens, 10);
}

TEST_F(TrainerTest, LossIsTheMeanOverTheWindowsLabels) {
  auto trainer = Make(Options());
  const std::vector<MicroBatch> packed = {Documents({9, 5, 12}, spec_.vocab)};
  const std::vector<MicroBatch> apart = {Documents({9}, spec_.vocab, 0),
                                         Documents({5}, spec_.vocab, 1),
                                         Documents({12}, spec_.vocab, 2)};
  const auto a = trainer->Evaluate(packed, nullptr), b = trainer->Evaluate(apart, nullptr);
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_NEAR(a->loss, b->loss, 1e-5);
  EXPECT_EQ(a->metrics[0].name, "ce");
  EXPECT_NEAR(a->metrics[0].value, a->loss, 1e-7);
  EXPECT_EQ(a->metrics[1].name, "ce/probability");
  EXPECT_GT(a->metrics[1].value, 0);
  EXPECT_LT(a->metrics[1].value, 1);
  // The same numbers step by step: the update of a window doesn't depend on how
  // it is cut.
  TinyModel<float> other(spec_);
  auto second = MakeTrainer(other.graph, other.views, Options(), kThreads);
  ASSERT_TRUE(second.ok());
  for (int64_t step = 0; step < 3; ++step) {
    const auto x = trainer->Step(packed, 0.1, step, nullptr);
    const auto y = (*second)->Step(apart, 0.1, step, nullptr);
    ASSERT_TRUE(x.ok() && y.ok());
    EXPECT_NEAR(x->loss, y->loss, 1e-5);
    EXPECT_NEAR(x->grad_norm, y->grad_norm, 1e-4 * x->grad_norm);
  }
}

TEST_F(TrainerTest, NonFiniteGradientChangesNoWeight) {
  auto trainer = Make(Options());
  model_.storage[1][0] = std::numeric_limits<float>::infinity();
  const auto before = model_.storage;
  const auto result = trainer->Step(std::vector{Documents({9}, spec_.vocab)}, 0.5, 0, nullptr);
  EXPECT_EQ(result.status().code(), Code::kDataLoss);
  EXPECT_NE(result.status().message().find("no weight was changed"), std::string::npos);
  EXPECT_EQ(momentum_.steps, 0);
  EXPECT_EQ(model_.storage, before);
}

// The logits stay finite; a gradient overflows, from the one weight that is out of all bounds.
TEST_F(TrainerTest, ANonFiniteGradientNamesItsMicroBatchAndTensor) {
  auto trainer = Make(Options());
  std::vector<MicroBatch> window = {Documents({9}, spec_.vocab), Documents({9, 8}, spec_.vocab)};
  window[1].weight[3] = 3e38F;
  window[1].weight[4] = 3e38F;
  const auto before = model_.storage;
  const Status status = trainer->Step(window, 0.5, 0, nullptr).status();
  EXPECT_EQ(status.code(), Code::kDataLoss);
  EXPECT_NE(status.message().find("first in the gradient of"), std::string::npos)
      << status.message();
  EXPECT_NE(status.message().find("in micro-batch 2 of 2 (2 documents)"), std::string::npos)
      << status.message();
  EXPECT_EQ(model_.storage, before);
  EXPECT_EQ(momentum_.steps, 0);
}

TEST_F(TrainerTest, CancelledChangesNoWeight) {
  auto trainer = Make(Options());
  const engine::Cancel set{1};
  const auto before = model_.storage;
  const auto result = trainer->Step(std::vector{Documents({9}, spec_.vocab)}, 0.5, 0, &set);
  EXPECT_EQ(result.status().code(), Code::kCancelled);
  EXPECT_EQ(model_.storage, before);
}

TEST_F(TrainerTest, AWindowWithoutLabelsMakesNoUpdateAndSaysWhy) {
  auto trainer = Make(Options());
  MicroBatch batch = Documents({9}, spec_.vocab);
  batch.labels.assign(batch.labels.size(), -100);
  const auto result = trainer->Step(std::vector{batch}, 0.5, 0, nullptr);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->metrics[0].name, "no_labels");
  EXPECT_EQ(momentum_.steps, 0);
}

TEST_F(TrainerTest, StateIsNamedInitialisedAndScalarsRoundTrip) {
  auto trainer = Make(Options());
  const auto state = trainer->State();
  ASSERT_EQ(state.size(), 2 * model_.graph.params.size());
  for (size_t p = 0; p < model_.graph.params.size(); ++p) {
    const TensorView start = state[2 * p].view, m = state[2 * p + 1].view;
    EXPECT_EQ(state[2 * p].name, model_.graph.params[p].name + ".start");
    EXPECT_EQ(std::memcmp(start.data, model_.storage[p].data(), static_cast<size_t>(start.bytes())),
              0);
    EXPECT_EQ(m.numel(), (start.numel() + 63) / 64);
    for (int64_t i = 0; i < m.numel(); ++i) ASSERT_EQ(m.as<float>()[i], 0.25F);
  }
  momentum_.steps = 77;
  const auto bytes = trainer->SaveScalars();
  ASSERT_TRUE(bytes.ok());
  momentum_.steps = 0;
  ASSERT_TRUE(trainer->LoadScalars(*bytes).ok());
  EXPECT_EQ(momentum_.steps, 77);
  const Status bad = trainer->LoadScalars("abc");
  EXPECT_EQ(bad.code(), Code::kDataLoss);
  EXPECT_NE(bad.message().find("eight bytes expected"), std::string::npos);
}

TEST_F(TrainerTest, AFrozenParamHasNoGradientAndNoState) {
  spec_.frozen_embedding = RETORT_PARAM_FROZEN;
  TinyModel<float> frozen(spec_);
  auto trainer = MakeTrainer(frozen.graph, frozen.views, Options(), kThreads);
  ASSERT_TRUE(trainer.ok());
  const auto before = frozen.storage[0];
  ASSERT_TRUE((*trainer)->Step(std::vector{Documents({9}, spec_.vocab)}, 0.5, 0, nullptr).ok());
  EXPECT_EQ(frozen.storage[0], before);
  for (const auto& grad : (*trainer)->Gradients()) EXPECT_NE(grad.name, "embed.weight");
}

// Of micro-batches of several sizes, each seen before; at every recompute level.
TEST_F(TrainerTest, TheSteadyStateAllocatesNothing) {
  for (int32_t level = 0; level <= engine::kRecomputeMost; ++level) {
    engine::TrainerOptions options = Options();
    options.recompute = level;
    auto trainer = Make(options);
    const std::vector<MicroBatch> window = {Documents({20, 9}, spec_.vocab),
                                            Documents({30}, spec_.vocab, 5)};
    for (int64_t step = 0; step < 6; ++step) {
      engine::test::StartCounting();
      const bool ok = trainer->Step(window, 0.01, step, nullptr).ok();
      const int64_t allocations = engine::test::StopCounting();
      EXPECT_TRUE(ok);
      if (step >= 2) {
        EXPECT_EQ(allocations, 0) << "step " << step << ", level " << level;
      }
    }
  }
}

TEST_F(TrainerTest, StepsAreTheSameBitsAtEveryRecomputeLevel) {
  const std::vector<MicroBatch> window = {Documents({20, 9}, spec_.vocab),
                                          Documents({30}, spec_.vocab, 5)};
  std::vector<std::vector<float>> kept;
  for (int32_t level = 0; level <= engine::kRecomputeMost; ++level) {
    TinyModel<float> model(spec_);
    engine::TrainerOptions options = Options();
    options.recompute = level;
    auto trainer = MakeTrainer(model.graph, model.views, options, kThreads);
    ASSERT_TRUE(trainer.ok());
    EXPECT_EQ((*trainer)->recompute(), level);
    for (int64_t step = 0; step < 4; ++step) {
      ASSERT_TRUE((*trainer)->Step(window, 0.1, step, nullptr).ok());
    }
    if (level == 0) kept = model.storage;
    EXPECT_EQ(model.storage, kept) << level;
  }
}

TEST_F(TrainerTest, AutoTakesTheLeastRecomputationThatFits) {
  engine::TrainerOptions options = Options();
  options.recompute = -1;
  options.micro_batch_tokens = 1 << 20;
  int64_t states = 0;
  for (const engine::StateTensor& state : Make(options)->State()) states += state.view.bytes();
  const auto total = [&](int32_t level) {
    return engine::EstimateTraining(model_.graph, {.tokens = options.micro_batch_tokens,
                                                   .recompute = level,
                                                   .state_bytes = states,
                                                   .n_threads = kThreads})
        .total();
  };
  EXPECT_LT(total(1), total(0));
  EXPECT_LT(total(2), total(1));
  for (int32_t level = 0; level <= engine::kRecomputeMost; ++level) {
    options.memory_limit = total(level) + (1 << 20);
    EXPECT_EQ(Make(options)->recompute(), level);
  }
  options.memory_limit = 1;
  EXPECT_EQ(Make(options)->recompute(), engine::kRecomputeMost);
}

// One number of threads: the same bits each time. Another one may round otherwise (BLAS cuts
// products by the number of threads).
TEST_F(TrainerTest, ANumberOfThreadsGivesTheSameBitsEachTime) {
  const std::vector<MicroBatch> window = {Documents({120, 90}, spec_.vocab)};
  for (const int threads : {1, 2, 3}) {
    std::vector<std::vector<float>> first;
    for (int run = 0; run < 3; ++run) {
      TinyModel<float> model(spec_);
      auto trainer = MakeTrainer(model.graph, model.views, Options(), threads);
      ASSERT_TRUE(trainer.ok());
      for (int64_t step = 0; step < 3; ++step) {
        ASSERT_TRUE((*trainer)->Step(window, 0.1, step, nullptr).ok());
      }
      if (run == 0) first = model.storage;
      EXPECT_EQ(model.storage, first) << threads << " threads";
    }
  }
}

TEST_F(TrainerTest, WrongOptionsAreRefused) {
  engine::TrainerOptions options = Options();
  options.losses.clear();
  EXPECT_NE(MakeStatus(options).message().find("at least one loss"), std::string::npos);
  options = Options();
  options.losses = {CrossEntropy("a"), CrossEntropy("a")};
  EXPECT_NE(MakeStatus(options).message().find("twice"), std::string::npos);
  options = Options();
  options.recompute = 3;
  EXPECT_NE(MakeStatus(options).message().find("levels are 0, 1 and 2"), std::string::npos);
  options = Options();
  options.no_decay = {"("};
  EXPECT_NE(MakeStatus(options).message().find("no_decay: \"(\""), std::string::npos);
  options = Options();
  options.max_grad_norm = -1;
  EXPECT_FALSE(MakeStatus(options).ok());
}

TEST_F(TrainerTest, WrongBatchesAreRefusedBeforeAnythingChanges) {
  auto trainer = Make(Options());
  const auto message = [&](const MicroBatch& batch) {
    return trainer->Step(std::vector{batch}, 0.5, 0, nullptr).status().message();
  };
  MicroBatch batch = Documents({9}, spec_.vocab);
  batch.labels[2] = spec_.vocab;
  EXPECT_NE(message(batch).find("label 29 of row 2 is outside the vocabulary of 29"),
            std::string::npos);
  batch = Documents({9}, spec_.vocab);
  batch.weight.pop_back();
  EXPECT_NE(message(batch).find("micro-batch 0 has 9 tokens, 9 labels and 8 weights"),
            std::string::npos);
  batch = Documents({9}, spec_.vocab);
  batch.ids[0] = -1;
  EXPECT_NE(message(batch).find("token id -1"), std::string::npos);
  EXPECT_EQ(momentum_.steps, 0);
}

// Names of transformers models beside what its Trainer decides about them.
TEST(ParamGroups, FollowTransformersNameRule) {
  const std::vector<std::pair<const char*, uint32_t>> want = {
      {"model.embed_tokens.weight", kDecayGroup},
      {"model.layers.0.self_attn.q_proj.weight", kDecayGroup},
      {"model.layers.0.self_attn.q_proj.bias", kNoDecayGroup},
      {"model.layers.0.self_attn.q_norm.weight", kNoDecayGroup},
      {"model.layers.0.input_layernorm.weight", kNoDecayGroup},
      {"model.layers.0.RMSNorm.weight", kNoDecayGroup},
      {"model.norm.weight", kNoDecayGroup},
      {"model.normal.weight", kDecayGroup},
      {"lm_head.weight", kDecayGroup}};
  graph::Graph graph;
  for (const auto& [name, group] : want) graph.params.push_back({.name = name});
  graph.params.push_back({.name = "special", .flags = RETORT_PARAM_NO_DECAY});
  const auto groups = AssignGroups(graph, {});
  ASSERT_TRUE(groups.ok());
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(groups->of_param[i], want[i].second) << want[i].first;
  }
  EXPECT_EQ(groups->of_param.back(), kNoDecayGroup);
  engine::TrainerOptions own;
  own.no_decay = {"^lm_"};
  const auto custom = AssignGroups(graph, own);
  EXPECT_EQ(custom->of_param[want.size() - 1], kNoDecayGroup);
  EXPECT_EQ(custom->of_param[6], kDecayGroup);
}

graph::Graph NamedGraph() {
  graph::Graph graph;
  for (const char* name :
       {"model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.q_proj.bias", "model.layers.1.self_attn.q_proj.weight",
        "model.layers.1.mlp.up_proj.weight", "model.norm.weight"}) {
    graph.params.push_back({.name = name});
  }
  return graph;
}

TEST(ParamGroups, TheFirstPatternThatMatchesGivesRateAndDecay) {
  const graph::Graph graph = NamedGraph();
  engine::TrainerOptions options;
  options.weight_decay = 0.1;
  options.groups = {{.pattern = R"(layers\.0\.)", .lr_scale = 0.5},
                    {.pattern = "q_proj", .lr_scale = 2, .weight_decay = 0.3}};
  const auto groups = AssignGroups(graph, options);
  ASSERT_TRUE(groups.ok()) << groups.status().ToString();
  const auto expect = [&](size_t param, double scale, double decay) {
    const uint32_t group = groups->of_param[param];
    EXPECT_EQ(groups->lr_scale[group], scale) << graph.params[param].name;
    EXPECT_EQ(groups->weight_decay[group], decay) << graph.params[param].name;
  };
  expect(0, 1, 0.1);
  expect(1, 0.5, 0.1);
  expect(2, 0.5, 0);  // a bias
  expect(3, 2, 0.3);
  expect(4, 1, 0.1);
  expect(5, 1, 0);
}

TEST(ParamGroups, APatternThatMatchesNothingNamesTheNearestParam) {
  const graph::Graph graph = NamedGraph();
  engine::TrainerOptions options;
  options.groups = {{.pattern = R"(mlp\.up_porj\.weight)"}};
  const std::string text = AssignGroups(graph, options).status().message();
  EXPECT_NE(text.find("matches no param"), std::string::npos) << text;
  EXPECT_NE(text.find("nearest is model.layers.1.mlp.up_proj.weight"), std::string::npos) << text;
  options.groups = {{.pattern = "("}};
  EXPECT_NE(AssignGroups(graph, options).status().message().find("not a regular expression"),
            std::string::npos);
  options.groups = {{.pattern = "norm", .lr_scale = -1}};
  EXPECT_NE(AssignGroups(graph, options).status().message().find("lr_scale"), std::string::npos);
}

std::string FrozenNames(const graph::Graph& graph) {
  std::string digits;
  for (const graph::Param& p : graph.params) {
    digits += (p.flags & RETORT_PARAM_FROZEN) != 0 ? 'f' : 't';
  }
  return digits;
}

TEST(FreezeParams, TrainableChoosesAndFrozenTakesAway) {
  const std::vector<std::string> none, q = {"q_proj"}, zero = {R"(layers\.0\.)"}, all = {"."};
  graph::Graph graph = NamedGraph();
  ASSERT_TRUE(FreezeParams(graph, none, none).ok());
  EXPECT_EQ(FrozenNames(graph), "tttttt");
  ASSERT_TRUE(FreezeParams(graph, q, zero).ok());
  EXPECT_EQ(FrozenNames(graph), "ffftff");
  graph = NamedGraph();
  ASSERT_TRUE(FreezeParams(graph, none, q).ok());
  EXPECT_EQ(FrozenNames(graph), "tffftt");
  graph = NamedGraph();
  EXPECT_NE(FreezeParams(graph, none, all).message().find("leave no param to train"),
            std::string::npos);
}

TEST(FreezeParams, OfAModelWithAnAdapterTheAdaptersParamsCount) {
  graph::Graph graph = NamedGraph();
  graph.adapters.emplace_back();
  graph.params.push_back({.name = "layers.0.lora_A", .adapter = 0});
  graph.params.push_back({.name = "layers.1.lora_A", .adapter = 0});
  const std::vector<std::string> none, one = {R"(layers\.1)"}, base = {"q_proj"};
  ASSERT_TRUE(FreezeParams(graph, one, none).ok());
  EXPECT_EQ(FrozenNames(graph), "ttttttft");
  EXPECT_NE(FreezeParams(graph, none, base).message().find("frozen: \"q_proj\" matches no param"),
            std::string::npos);
}

}  // namespace
}  // namespace retort::train
