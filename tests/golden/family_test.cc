// Families whole: the gradient of every checkpoint tensor against transformers in f64 (oracle:
// tests/peers/make_goldens.py), and folders that come back equal to the bit.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "core/io/safetensors.h"
#include "core/model/params.h"
#include "tests/golden/training.h"

namespace retort::golden {
namespace {

using host::PluginInstance;

constexpr double kTolerance = 1e-3;  // of a gradient's norm, the bar

class GoldenFamily : public testing::TestWithParam<const char*> {
 public:
 protected:
  const host::OpenedModel& Open() { return *session_.OpenModel(ModelPath(GetParam())).value(); }

  host::Session session_{EngineOptions()};
};

// Gradients of params as those of the checkpoint's tensors: a param may be rows of one, or stacked
// from several.
std::map<std::string, std::vector<double>> ByTensor(const graph::Graph& graph,
                                                    engine::Trainer& trainer) {
  std::map<std::string, std::vector<double>> tensors;
  const auto gradients = trainer.Gradients();
  EXPECT_EQ(gradients.size(), graph.params.size());
  for (size_t i = 0; i < gradients.size(); ++i) {
    const graph::Param& param = graph.params[i];
    const TensorView& view = gradients[i].view;
    const int64_t cols = param.shape.size() == 1 ? 1 : view.cols();
    const float* from = view.as<float>();
    for (const graph::Source& source : param.sources) {
      const bool all = source.row_begin == 0 && source.row_end == 0;
      const int64_t rows = all ? view.numel() / cols : source.row_end - source.row_begin;
      std::vector<double>& out = tensors[source.checkpoint_name];
      const auto begin = static_cast<size_t>(source.row_begin * cols);
      const auto n = static_cast<size_t>(rows * cols);
      out.resize(std::max(out.size(), begin + n));
      std::copy_n(from, n, out.begin() + static_cast<ptrdiff_t>(begin));
      from += n;
    }
    EXPECT_EQ(from, view.as<float>() + view.numel()) << param.name;
  }
  return tensors;
}

double WorstDifference(const std::vector<double>& gradient, json::Value golden) {
  const double norm = golden["norm"].DoubleOr(NAN);
  double squares = 0;
  std::vector<double> products(4, 0);
  for (size_t i = 0; i < gradient.size(); ++i) {
    squares += gradient[i] * gradient[i];
    for (size_t k = 0; k < products.size(); ++k) {
      products[k] += gradient[i] * std::cos(static_cast<double>(i * (k + 1)));
    }
  }
  double worst = std::abs(std::sqrt(squares) - norm);
  const auto theirs = Doubles(golden["products"]);
  for (size_t k = 0; k < products.size(); ++k) {
    worst = std::max(worst, std::abs(products[k] - theirs.at(k)));
  }
  return worst / norm;
}

TEST_P(GoldenFamily, GradientOfEveryTensorEqualsTransformers) {
  const auto golden = ReadLines(GoldenPath("gradient_" + std::string(GetParam()) + ".jsonl"));
  const auto model = session_.LoadModel(Open()).value();
  ASSERT_TRUE(session_.EnsurePlugins().ok());
  const PluginInstance loss = session_.plugins().Create("loss", "sft", "", {}).value();
  const PluginInstance adamw = session_.plugins().Create("optimizer", "adamw", "", {}).value();
  engine::TrainerOptions options;
  options.losses.push_back({.name = "sft",
                            .table = static_cast<const retort_token_loss_v1*>(
                                loss.interface(RETORT_TOKEN_LOSS_INTERFACE)),
                            .instance = loss.get()});
  options.optimizer = {
      .name = "adamw",
      .table = static_cast<const retort_optimizer_v1*>(adamw.interface(RETORT_OPTIMIZER_INTERFACE)),
      .instance = adamw.get()};
  options.max_grad_norm = 0;
  const auto trainer = model->NewTrainer(options).value();
  const std::vector<engine::MicroBatch> window = {BatchOf(golden[0].root())};
  const auto step = trainer->Step(window, 0, 0, nullptr);
  ASSERT_TRUE(step.ok()) << step.status().ToString();
  const double expected = golden[0].root()["loss"].DoubleOr(NAN);
  EXPECT_NEAR(step->loss, expected, 1e-5 * expected);

  const auto tensors = ByTensor(model->graph(), *trainer);
  ASSERT_EQ(tensors.size(), golden.size() - 1);
  double worst = 0;
  for (size_t i = 1; i < golden.size(); ++i) {
    const std::string name(golden[i].root()["name"].StringOr(""));
    ASSERT_TRUE(tensors.contains(name)) << name;
    const double difference = WorstDifference(tensors.at(name), golden[i].root());
    EXPECT_LE(difference, kTolerance) << name;
    worst = std::max(worst, difference);
  }
  std::printf("%s: worst difference of %zu gradients %.3g of their norm\n", GetParam(),
              tensors.size(), worst);
}

std::vector<TensorView> ViewsOf(engine::Model& model) {
  std::vector<TensorView> views;
  for (const engine::StateTensor& param : model.Params()) views.push_back(param.view);
  return views;
}

// The path of a folder with these weights, of the type that the opened one has.
std::string SaveFolder(const std::string& name, const host::OpenedModel& opened,
                       const graph::Graph& graph, const std::vector<TensorView>& views) {
  const io::Safetensors before = io::Safetensors::OpenFolder(opened.source->path()).value();
  const DType store = before.entries()[0].dtype == "BF16" ? DType::kBF16 : DType::kF32;
  const std::string folder = ScratchFolder(name);
  const auto written = model::WriteModelFolder(io::RealFileSystem(), folder,
                                               model::TextsOf(*opened.source), graph, views, store);
  EXPECT_TRUE(written.ok()) << written.status().ToString();
  return folder;
}

void ExpectSameTensors(const io::Safetensors& before, const io::Safetensors& after) {
  ASSERT_EQ(before.entries().size(), after.entries().size());
  for (const io::SafetensorsEntry& entry : before.entries()) {
    const auto* found = after.Find(entry.name);
    ASSERT_NE(found, nullptr) << entry.name;
    EXPECT_EQ(found->shape, entry.shape) << entry.name;
    EXPECT_EQ(before.bytes(entry), after.bytes(*found)) << entry.name;
  }
}

TEST_P(GoldenFamily, ASavedFolderIsEqualToTheBit) {
  const host::OpenedModel& opened = Open();
  const auto model = session_.LoadModel(opened).value();
  const std::string folder =
      SaveFolder("family-" + std::string(GetParam()), opened, model->graph(), ViewsOf(*model));
  ExpectSameTensors(io::Safetensors::OpenFolder(ModelPath(GetParam())).value(),
                    io::Safetensors::OpenFolder(folder).value());
}

// Stacks of experts as one tensor each (transformers' save_original_format=False): read, and saved
// as they were.
TEST(GoldenExperts, FoldersWithWholeStacksComeBackEqual) {
  host::Session session(EngineOptions());
  const host::OpenedModel& parts = *session.OpenModel(ModelPath("mixtral")).value();
  const auto model = session.LoadModel(parts).value();
  graph::Graph graph = session.BuildGraph(*parts.source).value();
  int renamed = 0;
  for (graph::Param& param : graph.params) {
    if (param.sources[0].checkpoint_name == param.name) continue;
    param.sources = {{.checkpoint_name = param.name}};
    ++renamed;
  }
  EXPECT_EQ(renamed, 2 * 3);  // router, gate_up and down of two layers
  const std::string whole = SaveFolder("whole-stacks", parts, graph, ViewsOf(*model));
  const host::OpenedModel& opened = *session.OpenModel(whole).value();
  const auto loaded = session.LoadModel(opened).value();
  const std::string again =
      SaveFolder("whole-stacks-again", opened, loaded->graph(), ViewsOf(*loaded));
  const io::Safetensors first = io::Safetensors::OpenFolder(whole).value();
  ASSERT_NE(first.Find("model.layers.1.mlp.experts.gate_up_proj"), nullptr);
  ExpectSameTensors(first, io::Safetensors::OpenFolder(again).value());
  const std::vector<TensorView> before = ViewsOf(*model), after = ViewsOf(*loaded);
  ASSERT_EQ(before.size(), after.size());
  for (size_t p = 0; p < before.size(); ++p) {
    EXPECT_EQ(std::memcmp(before[p].data, after[p].data, static_cast<size_t>(before[p].bytes())), 0)
        << graph.params[p].name;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenFamily,
                         testing::Values("llama", "qwen2", "qwen3", "mistral", "olmo2", "gemma2",
                                         "phi3", "gemma3_text", "qwen2_moe", "qwen3_moe",
                                         "mixtral"),
                         [](const auto& param) { return std::string(param.param); });

}  // namespace
}  // namespace retort::golden
