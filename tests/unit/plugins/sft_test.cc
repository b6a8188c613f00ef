// loss/sft against torch (tests/golden/plugin_sft.txt), against central differences in f64, and
// the rules of every token loss: rows of weight 0, bytes between rows, read-only logits.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <sstream>

#include "retort/abi/draft/loss.h"
#include "tests/unit/plugins/harness.h"

namespace retort::host {
namespace {

template <class T>
struct Rows {
  std::vector<T> z, loss, aux;
  Status status;
};

struct Shape {
  int64_t rows, vocab, stride = 0;
  int n_threads = 2;
};

// Weights may be f32 beside f64 logits, as the host gives them.
template <class T, class W = T>
Rows<T> RunSft(const PluginInstance& sft, const Shape& s, std::vector<T> z,
               std::vector<int64_t> labels, std::vector<W> weight, bool want_grad) {
  Rows<T> out{.z = std::move(z),
              .loss = std::vector<T>(static_cast<size_t>(s.rows), T{-1}),
              .aux = std::vector<T>(static_cast<size_t>(s.rows * 2), T{-1}),
              .status = {}};
  Tensor logits(out.z, {s.rows, s.vocab}, s.stride), y(labels, {s.rows}), w(weight, {s.rows}),
      loss(out.loss, {s.rows}), aux(out.aux, {s.rows, 2});
  retort_token_loss_args args{};
  args.struct_size = sizeof(args);
  args.flags = want_grad ? RETORT_TOKEN_WANT_GRAD : 0;
  args.logits = logits.get();
  args.labels = y.get();
  args.weight = w.get();
  args.loss = loss.get();
  args.aux = aux.get();
  const auto* table =
      static_cast<const retort_token_loss_v1*>(sft.interface(RETORT_TOKEN_LOSS_INTERFACE));
  PluginCall call("loss sft");
  const retort_call* c = call.Begin({.n_threads = s.n_threads});
  out.status = call.End(table->rows(sft.get(), c, &args), "rows");
  return out;
}

std::vector<int64_t> Labels(int64_t rows, int64_t vocab) {
  std::vector<int64_t> labels(static_cast<size_t>(rows));
  for (int64_t r = 0; r < rows; ++r) labels[static_cast<size_t>(r)] = (7 * r + 3) % vocab;
  return labels;
}

template <class T>
std::vector<T> Weights(int64_t rows) {
  constexpr double kPattern[] = {1.0, 0.5, 0.0, -0.25};
  std::vector<T> weight(static_cast<size_t>(rows));
  for (size_t r = 0; r < weight.size(); ++r) weight[r] = static_cast<T>(kPattern[r % 4]);
  return weight;
}

std::string Config(double smoothing, double z_loss, int dft) {
  std::ostringstream out;
  out << R"({"label_smoothing": )" << smoothing << R"(, "z_loss": )" << z_loss
      << R"(, "variant": ")" << (dft ? "dft" : "nll") << "\"}";
  return out.str();
}

// One line of the golden per row: loss, entropy, accuracy, sum of |gradient|, gradient at the
// label and at 0.
template <class T>
void CompareRow(const Rows<T>& got, int64_t r, int64_t vocab, int64_t label, bool counts,
                const std::vector<double>& want, double tolerance) {
  const auto row = static_cast<size_t>(r);
  const T* grad = got.z.data() + r * vocab;
  double sum = 0;
  for (int64_t c = 0; c < vocab; ++c) sum += std::abs(double{grad[c]});
  EXPECT_NEAR(sum, want[3], tolerance);
  EXPECT_NEAR(double{grad[label]}, want[4], tolerance);
  EXPECT_NEAR(double{grad[0]}, want[5], tolerance);
  if (!counts) return;  // weight 0: loss and aux are nobody's
  EXPECT_NEAR(double{got.loss[row]}, want[0], tolerance);
  EXPECT_NEAR(double{got.aux[2 * row]}, want[1], tolerance);
  EXPECT_EQ(double{got.aux[2 * row + 1]}, want[2]);
}

// All cases of the golden at one precision.
template <class T>
void CompareWithTorch(double tolerance) {
  std::ifstream golden(RETORT_SOURCE_DIR "/tests/golden/plugin_sft.txt");
  ASSERT_TRUE(golden);
  std::string line, word, name;
  int n_cases = 0;
  while (std::getline(golden, line)) {
    if (line.starts_with("#")) continue;
    int64_t rows = 0, vocab = 0;
    double smoothing = 0, z_loss = 0;
    int dft = 0;
    std::istringstream(line) >> word >> name >> rows >> vocab >> smoothing >> z_loss >> dft;
    ASSERT_EQ(word, "case");
    SCOPED_TRACE(name);
    ++n_cases;
    const PluginInstance sft = Make("loss", "sft", Config(smoothing, z_loss, dft));
    Sequence numbers(static_cast<uint32_t>(rows * 1000 + vocab));
    const auto z = numbers.Vector<T>(static_cast<size_t>(rows * vocab));
    const auto labels = Labels(rows, vocab);
    const auto weight = Weights<T>(rows);
    const Rows<T> got = RunSft<T>(sft, {rows, vocab}, z, labels, weight, true);
    ASSERT_TRUE(got.status.ok()) << got.status.ToString();
    for (int64_t r = 0; r < rows; ++r) {
      ASSERT_TRUE(std::getline(golden, line));
      std::istringstream in(line);
      std::vector<double> want(6);
      for (double& x : want) in >> x;
      const auto row = static_cast<size_t>(r);
      CompareRow(got, r, vocab, labels[row], weight[row] != 0, want, tolerance);
    }
  }
  EXPECT_EQ(n_cases, 5);
}

TEST(Sft, EqualsTorchInF64) { CompareWithTorch<double>(1e-12); }
// Values up to 10, sums of 257 gradients: a few units of 2^-24 each.
TEST(Sft, EqualsTorchInF32) { CompareWithTorch<float>(2e-5); }

void CheckDifferences(const std::string& config, double tolerance) {
  const Shape s{.rows = 3, .vocab = 13};
  const PluginInstance sft = Make("loss", "sft", config);
  Sequence numbers(5);
  const auto z = numbers.Vector<double>(39);
  const std::vector<double> weight = {1, -2, 0.5};
  const auto value = [&](const std::vector<double>& at) {
    const Rows<double> r = RunSft<double>(sft, s, at, Labels(3, 13), weight, false);
    return r.loss[0] * weight[0] + r.loss[1] * weight[1] + r.loss[2] * weight[2];
  };
  const Rows<double> grad = RunSft<double>(sft, s, z, Labels(3, 13), weight, true);
  constexpr double kStep = 1e-5;
  for (size_t i = 0; i < z.size(); ++i) {
    std::vector<double> up = z, down = z;
    up[i] += kStep;
    down[i] -= kStep;
    EXPECT_NEAR(grad.z[i], (value(up) - value(down)) / (2 * kStep), tolerance) << i;
  }
}

// Third derivatives are below 10: the error of a central difference is below 10 * step^2.
TEST(Sft, GradientIsTheCentralDifference) {
  CheckDifferences("", 1e-8);
  CheckDifferences(R"({"label_smoothing": 0.3, "z_loss": 0.02})", 1e-8);
}

TEST(Sft, BytesBetweenRowsStay) {
  const PluginInstance sft = Make("loss", "sft", "");
  std::vector<float> z(2 * 16, 7.0F);
  const Rows<float> got =
      RunSft<float>(sft, {2, 11, 16}, z, {1, 2}, std::vector<float>{1, 1}, true);
  ASSERT_TRUE(got.status.ok());
  for (size_t r = 0; r < 2; ++r) {
    for (size_t c = 11; c < 16; ++c) EXPECT_EQ(got.z[r * 16 + c], 7.0F);
  }
}

TEST(Sft, WithoutGradientLogitsAreReadOnlyAndLossesTheSame) {
  const PluginInstance sft = Make("loss", "sft", R"({"label_smoothing": 0.1})");
  Sequence numbers(3);
  const auto z = numbers.Vector<float>(40 * 50);
  const auto labels = Labels(40, 50);
  const auto with = RunSft<float>(sft, {40, 50}, z, labels, Weights<float>(40), true);
  const auto without = RunSft<float>(sft, {40, 50}, z, labels, Weights<float>(40), false);
  EXPECT_EQ(without.z, z);
  EXPECT_EQ(without.loss, with.loss);
  EXPECT_EQ(without.aux, with.aux);
}

TEST(Sft, RowsAreIndependentOfChunksAndThreads) {
  const PluginInstance sft = Make("loss", "sft", "");
  Sequence numbers(9);
  const auto z = numbers.Vector<float>(37 * 101);
  const auto labels = Labels(37, 101);
  const std::vector<float> weight(37, 0.25F);
  const auto whole = RunSft<float>(sft, {37, 101, 0, 1}, z, labels, weight, true);
  const auto threads = RunSft<float>(sft, {37, 101, 0, 3}, z, labels, weight, true);
  EXPECT_EQ(whole.z, threads.z);
  EXPECT_EQ(whole.loss, threads.loss);
  const std::vector<float> last(z.end() - 101, z.end());
  const auto one =
      RunSft<float>(sft, {1, 101}, last, {labels[36]}, std::vector<float>{0.25F}, true);
  EXPECT_EQ(one.loss[0], whole.loss[36]);
  EXPECT_EQ(one.z, std::vector<float>(whole.z.end() - 101, whole.z.end()));
}

TEST(Sft, WeightZeroRowsHaveAnExactlyZeroGradientWhateverTheirLabel) {
  const PluginInstance sft = Make("loss", "sft", R"({"z_loss": 1})");
  Sequence numbers(2);
  const auto got = RunSft<float>(sft, {3, 5}, numbers.Vector<float>(15), {-100, 5'000'000, 2},
                                 std::vector<float>{0, 0, 1}, true);
  ASSERT_TRUE(got.status.ok());
  for (size_t i = 0; i < 10; ++i) EXPECT_EQ(got.z[i], 0.0F);
  EXPECT_NE(got.z[10], 0.0F);
}

TEST(Sft, F32WeightsBesideF64Logits) {
  const PluginInstance sft = Make("loss", "sft", "");
  Sequence numbers(2);
  const auto z = numbers.Vector<double>(10);
  const auto a = RunSft<double, float>(sft, {2, 5}, z, {1, 2}, {0.5F, 1.0F}, true);
  const auto b = RunSft<double, double>(sft, {2, 5}, z, {1, 2}, {0.5, 1.0}, true);
  ASSERT_TRUE(a.status.ok()) << a.status.ToString();
  EXPECT_EQ(a.z, b.z);
}

TEST(Sft, LabelOutOfRangeIsRefused) {
  const PluginInstance sft = Make("loss", "sft", "");
  const auto got =
      RunSft<float>(sft, {1, 5}, std::vector<float>(5), {5}, std::vector<float>{1}, true);
  EXPECT_EQ(got.status.code(), Code::kInvalidArgument);
  EXPECT_THAT(got.status.message(), testing::HasSubstr("label 5 of row 0 is outside 0..4"));
}

TEST(Sft, NonFiniteLogitsFailTheCall) {
  const PluginInstance sft = Make("loss", "sft", "");
  std::vector<float> z(5);
  z[3] = std::numeric_limits<float>::quiet_NaN();
  const auto got = RunSft<float>(sft, {1, 5}, z, {1}, std::vector<float>{1}, true);
  EXPECT_EQ(got.status.code(), Code::kDataLoss) << got.loss[0];
}

TEST(Sft, OtherTypesAreUnimplemented) {
  const PluginInstance sft = Make("loss", "sft", "");
  const auto got = RunSft<int32_t, float>(sft, {1, 5}, std::vector<int32_t>(5), {1}, {1}, true);
  EXPECT_EQ(got.status.code(), Code::kUnimplemented);
}

TEST(Sft, BadConfigs) {
  EXPECT_THAT(ConfigError("loss", "sft", R"({"label_smoothing": 1.5})"),
              testing::HasSubstr("/label_smoothing"));
  EXPECT_THAT(ConfigError("loss", "sft", R"({"variant": "dft", "z_loss": 1})"),
              testing::HasSubstr("/variant: dft"));
}

}  // namespace
}  // namespace retort::host
