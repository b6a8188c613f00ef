// How documents are packed, cut into micro-batches, ordered and chunked, and whether the samples of
// a prompt share its rows, changes neither the loss nor the gradient of a step: with the built-in
// losses, to 1e-5 of the loss and of the gradient's norm, in f32.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "core/base/rng.h"
#include "core/graph/value_head.h"
#include "tests/golden/training.h"

namespace retort::golden {
namespace {

constexpr double kTolerance = 1e-5;
constexpr size_t kGroupSize = 3, kPrompt = 6;
constexpr int32_t kVocab = 256;

struct Case {
  const char *name, *plugin, *config;
  // Losses over pairs or groups need theirs in one micro-batch.
  bool whole_groups = false;
};
constexpr Case kCases[] = {
    {"sft", "sft", R"({"label_smoothing": 0.1, "z_loss": 0.001})"},
    {"kd", "kd", R"({"alpha": 0.7, "temperature": 2})"},
    {"kd_jsd", "kd", R"({"divergence": "jsd", "t_squared": false})"},
    {"grpo_dapo", "grpo", R"({"beta": 0.04})"},
    {"grpo_by_sequence", "grpo",
     R"({"loss_type": "grpo", "importance_sampling_level": "sequence"})"},
    {"ppo", "ppo", "{}"},
    {"rloo", "rloo", "{}"},
    {"reinforce", "reinforce", "{}"},
    {"dpo", "dpo", "{}", true},
    {"bradley_terry", "bradley_terry", "{}", true},
};

struct Document {
  std::vector<int32_t> ids;
  int32_t group = 0;
  float advantage = 0, target = 0;
  std::vector<float> old_logp, ref_logp, old_value, returns;  // an entry per token
};

// Groups of documents with one prompt; everything follows from the number.
std::vector<Document> Documents() {
  std::vector<Document> documents;
  for (size_t d = 0; d < 4 * kGroupSize; ++d) {
    const size_t group = d / kGroupSize;
    Document document;
    document.group = static_cast<int32_t>(group);
    Rng prompt(RngKey{1, group}), own(RngKey{2, d});
    for (size_t t = 0; t < kPrompt; ++t) {
      document.ids.push_back(static_cast<int32_t>(prompt.Below(kVocab)));
    }
    for (size_t t = 0; t < 3 + 7 * (d % 5); ++t) {
      document.ids.push_back(static_cast<int32_t>(own.Below(kVocab)));
    }
    document.advantage = static_cast<float>(own.Normal());
    document.target = static_cast<float>(kGroupSize - d % kGroupSize);
    for (std::vector<float>* values :
         {&document.old_logp, &document.ref_logp, &document.old_value, &document.returns}) {
      const bool logp = values == &document.old_logp || values == &document.ref_logp;
      for (size_t t = 0; t < document.ids.size(); ++t) {
        values->push_back(static_cast<float>((logp ? -5.5 : 0) + 0.2 * own.Normal()));
      }
    }
    documents.push_back(std::move(document));
  }
  return documents;
}

// The document's tokens from `first` on.
void Append(const Document& document, size_t first, Prefix prefix, engine::MicroBatch* batch) {
  for (size_t t = first; t < document.ids.size(); ++t) {
    const bool labelled = t + 1 < document.ids.size() && t + 1 >= kPrompt;
    batch->ids.push_back(document.ids[t]);
    batch->positions.push_back(static_cast<int32_t>(t));
    batch->labels.push_back(labelled ? document.ids[t + 1] : -100);
    batch->weight.push_back(1);
    batch->sequence.advantage.push_back(document.advantage);
    batch->sequence.old_logp.push_back(document.old_logp[t]);
    batch->sequence.ref_logp.push_back(document.ref_logp[t]);
    batch->sequence.old_value.push_back(document.old_value[t]);
    batch->sequence.returns.push_back(document.returns[t]);
  }
  batch->cu_seqlens.push_back(static_cast<int32_t>(batch->ids.size()));
  batch->prefixes.push_back(prefix);
  batch->sequence.group_id.push_back(document.group);
  batch->sequence.target.push_back(document.target);
}

engine::MicroBatch Empty() {
  engine::MicroBatch batch;
  batch.cu_seqlens = {0};
  return batch;
}

// `per_batch` documents a micro-batch, in the order of `order`.
std::vector<engine::MicroBatch> Packed(const std::vector<Document>& documents,
                                       const std::vector<size_t>& order, size_t per_batch) {
  std::vector<engine::MicroBatch> window;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i % per_batch == 0) window.push_back(Empty());
    Append(documents[order[i]], 0, {}, &window.back());
  }
  for (engine::MicroBatch& batch : window) batch.prefixes.clear();
  return window;
}

// Each group's prompt once, but for its last token.
std::vector<engine::MicroBatch> Shared(const std::vector<Document>& documents) {
  engine::MicroBatch batch = Empty();
  for (size_t d = 0; d < documents.size(); ++d) {
    const bool first = d % kGroupSize == 0;
    const Prefix prefix = {.sequence = static_cast<int32_t>(d - d % kGroupSize),
                           .rows = static_cast<int32_t>(kPrompt) - 1};
    Append(documents[d], first ? 0 : kPrompt - 1, first ? Prefix{} : prefix, &batch);
  }
  return {std::move(batch)};
}

struct Step {
  double loss = 0;
  std::vector<float> gradient;
};

void ExpectSame(const Step& a, const Step& b, const std::string& what) {
  ASSERT_EQ(a.gradient.size(), b.gradient.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.gradient.size(); ++i) {
    const double x = double{a.gradient[i]}, d = x - double{b.gradient[i]};
    norm += x * x;
    difference += d * d;
  }
  EXPECT_GT(norm, 0) << what;
  EXPECT_LE(std::sqrt(difference), kTolerance * std::sqrt(norm)) << what;
  EXPECT_NEAR(a.loss, b.loss, kTolerance * std::max(std::abs(a.loss), 0.01)) << what;
}

class Invariance : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const host::OpenedModel& opened = *session_.OpenModel(ModelPath("llama")).value();
    engine::Engine& engine = *session_.Engine().value();
    graph::Graph graph = session_.BuildGraph(*opened.source).value();
    ASSERT_TRUE(graph::AddValueHead(graph).ok());
    ASSERT_GE(graph.vocab(), kVocab);
    model_ = engine.Load(*opened.source, std::move(graph), {.for_training = true}).value();
    teacher_ = engine.Create(session_.BuildGraph(*opened.source).value(), {.init_seed = 3}).value();
    ASSERT_TRUE(session_.EnsurePlugins().ok());
    adamw_ = session_.plugins().Create("optimizer", "adamw", "", {}).value();
    loss_ = session_.plugins().Create("loss", GetParam().plugin, GetParam().config, {}).value();
  }

  engine::TrainerOptions Options() {
    engine::TrainerOptions options;
    const auto* rows =
        static_cast<const retort_token_loss_v1*>(loss_.interface(RETORT_TOKEN_LOSS_INTERFACE));
    if (rows != nullptr) {
      options.losses = {{.name = "loss", .table = rows, .instance = loss_.get()}};
    } else {
      options.sequence_losses = {{.name = "loss",
                                  .table = static_cast<const retort_sequence_loss_v1*>(
                                      loss_.interface(RETORT_SEQUENCE_LOSS_INTERFACE)),
                                  .instance = loss_.get()}};
    }
    options.teacher = teacher_.get();
    options.optimizer = {.name = "adamw",
                         .table = static_cast<const retort_optimizer_v1*>(
                             adamw_.interface(RETORT_OPTIMIZER_INTERFACE)),
                         .instance = adamw_.get()};
    return options;
  }

  // At a learning rate of 0: weights stay.
  Step Run(const std::vector<engine::MicroBatch>& window, int64_t head_rows = 0) {
    engine::TrainerOptions options = Options();
    options.head_rows = head_rows;
    const auto trainer = model_->NewTrainer(options).value();
    const auto result = trainer->Step(window, 0, 0, nullptr);
    if (!result.ok()) {
      ADD_FAILURE() << result.status().ToString();
      return {};
    }
    Step step{.loss = result->loss, .gradient = {}};
    for (const engine::StateTensor& gradient : trainer->Gradients()) {
      const float* x = gradient.view.as<float>();
      step.gradient.insert(step.gradient.end(), x, x + gradient.view.numel());
    }
    return step;
  }

  host::Session session_{EngineOptions()};
  std::unique_ptr<engine::Model> model_, teacher_;
  host::PluginInstance adamw_, loss_;
};

TEST_P(Invariance, OfLossAndGradient) {
  const std::vector<Document> documents = Documents();
  std::vector<size_t> order(documents.size()), turned;
  std::iota(order.begin(), order.end(), size_t{0});
  for (size_t g = documents.size() / kGroupSize; g-- > 0;) {
    for (size_t i = 0; i < kGroupSize; ++i) turned.push_back(g * kGroupSize + i);
  }
  const std::vector<engine::MicroBatch> packed = Packed(documents, order, documents.size());
  const Step want = Run(packed);
  ExpectSame(want, Run(Packed(documents, order, kGroupSize)), "a group a micro-batch");
  ExpectSame(want, Run(Packed(documents, turned, documents.size())), "groups in another order");
  for (const int64_t rows : {1, 7, 64}) {
    ExpectSame(want, Run(packed, rows), "chunks of " + std::to_string(rows) + " rows");
  }
  ExpectSame(want, Run(Shared(documents)), "prompts once");
  if (GetParam().whole_groups) return;
  std::rotate(order.begin(), order.begin() + 5, order.end());
  ExpectSame(want, Run(Packed(documents, order, 1)), "each document alone, in another order");
  ExpectSame(want, Run(Packed(documents, order, 5)), "5 documents a micro-batch");
}
INSTANTIATE_TEST_SUITE_P(Losses, Invariance, testing::ValuesIn(kCases),
                         [](const auto& loss) { return std::string(loss.param.name); });

}  // namespace
}  // namespace retort::golden
