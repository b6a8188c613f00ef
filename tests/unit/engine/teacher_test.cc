// A teacher beside the model being trained: its logits reach the losses row by row, online or as
// cached rows, whatever its vocabulary is padded to.
// SPDX-License-Identifier: Apache-2.0
#include "core/engine/teacher.h"

#include "core/engine/edge.h"
#include "core/engine/loss_chain.h"
#include "core/engine/pass.h"
#include "core/engine/top_k.h"
#include "tests/unit/engine/tiny_model.h"

namespace retort::engine::test {
namespace {

constexpr int kThreads = 1;

// Half the squared distance of the logits (or of log-probabilities from cached ones at the cached
// ids): gradient z - t.
retort_status Distance(retort_instance*, const retort_call*, const retort_token_loss_args* args) {
  const bool cached = args->teacher_logits == nullptr;
  for (int64_t r = 0; r < args->logits->shape[0]; ++r) {
    auto* z = static_cast<double*>(args->logits->data) + r * args->logits->strides[0];
    const int64_t vocab = args->logits->shape[1];
    std::vector<double> target(static_cast<size_t>(vocab), 0);
    if (cached) {
      const int64_t k = args->teacher_ids->shape[1];
      const auto* ids = static_cast<const int32_t*>(args->teacher_ids->data) + r * k;
      const auto* logp = static_cast<const float*>(args->teacher_logp->data) + r * k;
      for (int64_t j = 0; j < k; ++j) target[static_cast<size_t>(ids[j])] = double{logp[j]};
    } else {
      const auto* t = static_cast<const double*>(args->teacher_logits->data) +
                      r * args->teacher_logits->strides[0];
      for (int64_t v = 0; v < vocab; ++v) target[static_cast<size_t>(v)] = t[v];
    }
    const double weight = static_cast<const double*>(args->weight->data)[r];
    double loss = 0;
    for (int64_t v = 0; v < vocab; ++v) {
      const double d = z[v] - target[static_cast<size_t>(v)];
      loss += d * d / 2;
      if ((args->flags & RETORT_TOKEN_WANT_GRAD) != 0) z[v] = weight * d;
    }
    static_cast<double*>(args->loss->data)[r] = loss;
  }
  return RETORT_OK;
}

TokenLoss DistanceLoss() {
  static const retort_loss_spec kSpec = {
      .struct_size = sizeof(retort_loss_spec),
      .flags = RETORT_LOSS_F64,
      .needs = 0,
      .optional = RETORT_TOKEN_TEACHER_LOGITS | RETORT_TOKEN_TEACHER_TOP_K,
      .grain = RETORT_GRAIN_ROW,
      .n_aux = 0,
      .aux_names = nullptr,
      .scratch_per_row = 0,
      .teacher_temperature = 1,
      .teacher_top_k = 0,
      ._pad = 0};
  static const retort_token_loss_v1 kTable = {.struct_size = sizeof(retort_token_loss_v1),
                                              .flags = 0,
                                              .spec = [](retort_instance*) { return &kSpec; },
                                              .rows = Distance};
  return {.name = "distance", .table = &kTable, .instance = nullptr, .weight = 1};
}

// As much of a model as a teacher is.
class TeacherModel final : public Model {
 public:
  explicit TeacherModel(const TinySpec& spec, uint64_t seed)
      : tiny_(spec, seed), inference_(tiny_.graph, tiny_.views, kThreads) {}
  const graph::Graph& graph() const override { return tiny_.graph; }
  Inference& inference() override { return inference_; }
  Result<std::vector<ScoreResult>> Score(std::span<const ScoreRequest>, int64_t, const Cancel*,
                                         const std::function<void(int64_t)>&) override {
    return Unimplemented("");
  }
  Result<GenerateStats> Generate(std::span<const GenerateRequest>,
                                 const GenerateOptions&) override {
    return Unimplemented("");
  }
  Result<std::unique_ptr<Trainer>> NewTrainer(const TrainerOptions&) override {
    return Unimplemented("");
  }
  std::vector<StateTensor> Params() override { return {}; }
  int64_t weight_bytes() const override { return 0; }
  const model::StorageReport& storage() const override { return storage_; }

  // Logits of every row of a batch, [T, V].
  std::vector<double> Logits(const MicroBatch& batch) {
    const TensorView hidden = inference_.Forward(RowsOf(batch), nullptr);
    std::vector<double> out(batch.ids.size() * static_cast<size_t>(graph().vocab()));
    const auto rows = static_cast<int64_t>(batch.ids.size());
    inference_.Logits(hidden,
                      TensorView::Contiguous(out.data(), DType::kF64, {rows, graph().vocab()}));
    return out;
  }

 private:
  TinyModel<double> tiny_;
  Inference inference_;
  model::StorageReport storage_;
};

struct Run {
  double loss = 0;
  std::vector<double> gradient;
};

Result<Run> RunOnce(TinyModel<double>& model, const TrainerOptions& options,
                    const MicroBatch& batch) {
  SetThreads(kThreads);
  RETORT_ASSIGN_OR_RETURN(const std::unique_ptr<LossChain> chain,
                          LossChain::Make(model.graph, model.views, options, kThreads));
  Pass pass(model.graph, model.views, Mode::kTraining, kThreads);
  Gradients grads(model.graph, DType::kF64);
  chain->BeginWindow({&batch, 1});
  grads.Begin();
  const TensorView hidden = pass.Forward(RowsOf(batch), nullptr);
  const TensorView d_hidden = pass.HiddenGradient();
  RETORT_RETURN_IF_ERROR(chain->Run(batch, hidden, &d_hidden, &grads, {}));
  pass.Backward(grads);
  grads.Finish();
  Run run{.loss = chain->loss(), .gradient = {}};
  for (size_t p = 0; p < model.graph.params.size(); ++p) {
    const TensorView& view = grads.view(static_cast<int32_t>(p));
    run.gradient.insert(run.gradient.end(), view.as<double>(), view.as<double>() + view.numel());
  }
  return run;
}

TrainerOptions Options(Model* teacher, int64_t head_rows = 0) {
  TrainerOptions options;
  options.losses = {DistanceLoss()};
  options.teacher = teacher;
  options.head_rows = head_rows;
  return options;
}

class TeacherTest : public testing::TestWithParam<int64_t> {};  // the teacher's vocabulary

TEST_P(TeacherTest, GradientsMatchCentralDifferences) {
  const TinySpec spec{.layers = 1};
  TinySpec theirs{.layers = 2, .width = 12, .heads = 3, .kv_heads = 1};
  theirs.vocab = GetParam();
  TinyModel<double> model(spec);
  TeacherModel teacher(theirs, 5);
  const MicroBatch batch = Documents({5, 4}, std::min(spec.vocab, theirs.vocab));
  const auto whole = RunOnce(model, Options(&teacher), batch);
  ASSERT_TRUE(whole.ok()) << whole.status().ToString();
  const auto chunked = RunOnce(model, Options(&teacher, 2), batch);
  ASSERT_TRUE(chunked.ok());
  EXPECT_NEAR(chunked->loss, whole->loss, 1e-12);
  size_t at = 0;
  for (auto& storage : model.storage) {
    for (size_t i = 0; i < storage.size(); ++i, ++at) {
      ASSERT_NEAR(chunked->gradient[at], whole->gradient[at], 1e-12);
      if (i % 7 != 0) continue;  // each is a pass
      const double kept = storage[i], step = 1e-5;
      storage[i] = kept + step;
      const double above = RunOnce(model, Options(&teacher), batch)->loss;
      storage[i] = kept - step;
      const double below = RunOnce(model, Options(&teacher), batch)->loss;
      storage[i] = kept;
      ASSERT_NEAR(whole->gradient[at], (above - below) / (2 * step), 2e-8);
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Vocabularies, TeacherTest, testing::Values(29, 26, 40));

TEST(Teacher, AnotherVocabularyIsRefused) {
  const TinySpec spec;
  TinyModel<double> model(spec);
  TeacherModel teacher({.layers = 1, .vocab = 5000}, 5);
  const auto run = RunOnce(model, Options(&teacher), Documents({5}, spec.vocab));
  EXPECT_EQ(run.status().code(), Code::kInvalidArgument);
  EXPECT_NE(run.status().message().find("different tokenizers"), std::string::npos);
}

// Cached rows give what the same rows gave when they were made.
TEST(Teacher, CachedRowsReachTheirRows) {
  const TinySpec spec{.layers = 1};
  TinyModel<double> model(spec);
  TeacherModel teacher(spec, 5);
  MicroBatch batch = Documents({6, 4}, spec.vocab);
  const std::vector<double> logits = teacher.Logits(batch);
  const auto vocab = static_cast<int32_t>(spec.vocab);
  TeacherRows& rows = batch.teacher;
  rows = {.k = vocab, .ids = {}, .logp = {}, .tail = {}};
  for (size_t t = 0; t < batch.ids.size(); ++t) {
    for (int32_t v = 0; v < vocab; ++v) {
      rows.ids.push_back(v);
      rows.logp.push_back(
          static_cast<float>(logits[t * static_cast<size_t>(vocab) + static_cast<size_t>(v)]));
    }
    rows.tail.push_back(-20);
  }
  const auto cached = RunOnce(model, Options(nullptr, 3), batch);
  ASSERT_TRUE(cached.ok()) << cached.status().ToString();
  batch.teacher = {};
  const auto online = RunOnce(model, Options(&teacher), batch);
  EXPECT_NEAR(cached->loss, online->loss, 1e-5 * online->loss);
  batch.teacher = {.k = 2, .ids = {1, 2}, .logp = {0, 0}, .tail = {0}};
  const Status wrong = RunOnce(model, Options(nullptr), batch).status();
  EXPECT_EQ(wrong.code(), Code::kInvalidArgument);
  EXPECT_NE(wrong.message().find("must have 2 entries each"), std::string::npos);
}

TEST(TopKRows, AreTheLargestInOrderWithTheRestsMass) {
  const std::vector<float> z = {1, 3, -2, 3, 0.5F};
  double sum = 0;
  for (const float v : z) sum += std::exp(double{v} / 2);
  std::vector<int32_t> ids(3, 0);
  std::vector<float> logp(3, 0.0F);
  float tail = 0;
  TopK(3).Run(z, 0.5, std::log(sum), ids.data(), logp.data(), &tail);
  EXPECT_EQ(ids, (std::vector<int32_t>{1, 3, 0}));
  EXPECT_NEAR(double{logp[2]}, 0.5 - std::log(sum), 1e-6);
  EXPECT_NEAR(double{tail}, std::log((std::exp(-1.0) + std::exp(0.25)) / sum), 1e-6);
  ids.assign(7, 0);
  logp.assign(7, 0);
  TopK(7).Run(z, 0.5, std::log(sum), ids.data(), logp.data(), &tail);
  EXPECT_EQ(ids, (std::vector<int32_t>{1, 3, 0, 4, 2, -1, -1}));
  EXPECT_LT(tail, -16);
}

}  // namespace
}  // namespace retort::engine::test
