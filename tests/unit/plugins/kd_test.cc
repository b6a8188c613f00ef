// loss/kd against TRL, Liger, torchtune and torch (tests/golden/plugin_kd.txt), and what it
// promises whatever the teacher's form: chunks, gaps between rows, rows of weight 0, teachers in
// bf16. SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <fstream>
#include <numeric>
#include <sstream>

#include "retort/abi/draft/loss.h"
#include "tests/unit/plugins/harness.h"

namespace retort::host {
namespace {

// Rows of student and teacher; K 0: whole rows of the teacher.
template <class T>
struct Input {
  int64_t rows = 0, vocab = 0, k = 0, gap = 0;
  std::vector<T> z, weight;
  std::vector<int64_t> labels;
  std::vector<float> teacher, log_p, tail;
  std::vector<int32_t> ids;

  // The numbers of make_kd_goldens.py.
  Input(int64_t n_rows, int64_t n_vocab, int64_t n_k) : rows(n_rows), vocab(n_vocab), k(n_k) {
    Sequence numbers(static_cast<uint32_t>(rows * 1000 + vocab));
    z = numbers.Vector<T>(static_cast<size_t>(rows * vocab));
    constexpr double kPattern[] = {1.0, 0.5, 0.0, -0.25};
    for (int64_t r = 0; r < rows; ++r) {
      labels.push_back((7 * r + 3) % vocab);
      weight.push_back(static_cast<T>(kPattern[r % 4]));
    }
    if (k == 0) teacher = numbers.Vector<float>(static_cast<size_t>(rows * vocab));
    for (int64_t r = 0; r < rows && k > 0; ++r) {
      double rest = 1;
      for (int64_t j = 0; j < k; ++j) {
        const double log_mass = -2 - std::abs(numbers.Next()) / 4;
        ids.push_back(static_cast<int32_t>((r + 1 + 3 * j) % vocab));
        log_p.push_back(static_cast<float>(log_mass));
        rest -= std::exp(log_mass);
      }
      tail.push_back(static_cast<float>(std::log(rest)));
    }
  }
  Input Rows(int64_t begin, int64_t end) const {
    const auto part = [&](const auto& all, int64_t cols) {
      using V = std::remove_cvref_t<decltype(all)>;
      return all.empty() ? all : V(all.begin() + begin * cols, all.begin() + end * cols);
    };
    Input out = *this;
    out.rows = end - begin;
    out.z = part(z, vocab);
    out.weight = part(weight, 1);
    out.labels = part(labels, 1);
    out.teacher = part(teacher, vocab);
    out.log_p = part(log_p, k);
    out.ids = part(ids, k);
    out.tail = part(tail, 1);
    return out;
  }
};

template <class T>
struct Output {
  std::vector<T> z, loss, aux;
  size_t n_aux = 0;
  Status status;
};

const retort_token_loss_v1* TableOf(const PluginInstance& kd) {
  return static_cast<const retort_token_loss_v1*>(kd.interface(RETORT_TOKEN_LOSS_INTERFACE));
}

enum class Teacher { kAsGiven, kNone, kBf16 };

// The upper halves of floats.
std::vector<uint16_t> UpperHalves(const std::vector<float>& values) {
  std::vector<uint16_t> out;
  for (const float x : values) {
    out.push_back(static_cast<uint16_t>(std::bit_cast<uint32_t>(x) >> 16));
  }
  return out;
}

template <class T>
Output<T> RunKd(const PluginInstance& kd, Input<T> in, bool want_grad = true,
                Teacher form = Teacher::kAsGiven, int n_threads = 2) {
  const size_t n_aux = TableOf(kd)->spec(kd.get())->n_aux;
  Output<T> out{.z = in.z,
                .loss = std::vector<T>(static_cast<size_t>(in.rows), T{-1}),
                .aux = std::vector<T>(static_cast<size_t>(in.rows) * n_aux, T{-1}),
                .n_aux = n_aux,
                .status = {}};
  std::vector<uint16_t> halves = UpperHalves(in.teacher);
  Tensor logits(out.z, {in.rows, in.vocab}), y(in.labels, {in.rows}), w(in.weight, {in.rows}),
      loss(out.loss, {in.rows}), aux(out.aux, {in.rows, static_cast<int64_t>(n_aux)}),
      teacher(in.teacher, {in.rows, in.vocab}), half(halves, {in.rows, in.vocab}),
      ids(in.ids, {in.rows, in.k}), log_p(in.log_p, {in.rows, in.k}), tail(in.tail, {in.rows});
  half.get()->dtype = {RETORT_DTYPE_BFLOAT, 16, 1};
  retort_token_loss_args args{};
  args.struct_size = sizeof(args);
  args.flags = want_grad ? RETORT_TOKEN_WANT_GRAD : 0;
  args.logits = logits.get();
  args.labels = y.get();
  args.weight = w.get();
  if (form != Teacher::kNone && in.k == 0) {
    args.teacher_logits = form == Teacher::kBf16 ? half.get() : teacher.get();
  }
  if (form != Teacher::kNone && in.k > 0) {
    args.teacher_ids = ids.get();
    args.teacher_logp = log_p.get();
    args.teacher_tail = tail.get();
  }
  args.loss = loss.get();
  args.aux = aux.get();
  PluginCall call("loss kd");
  const retort_call* c = call.Begin({.n_threads = n_threads});
  out.status = call.End(TableOf(kd)->rows(kd.get(), c, &args), "rows");
  return out;
}

struct Case {
  std::string name, config;
  int64_t rows = 0, vocab = 0, k = 0;
  double tolerance = 0;                   // of the oracle
  std::vector<std::vector<double>> want;  // per row: loss, entropy, agreement, gradient
};

std::vector<Case> ReadCases() {
  std::ifstream golden(RETORT_SOURCE_DIR "/tests/golden/plugin_kd.txt");
  EXPECT_TRUE(golden);
  std::vector<Case> cases;
  for (std::string line; std::getline(golden, line);) {
    std::istringstream in(line);
    if (line.starts_with("#")) continue;
    if (line.starts_with("case ")) {
      Case& c = cases.emplace_back();
      std::string word;
      in >> word >> c.name >> c.rows >> c.vocab >> c.k >> c.tolerance;
      std::getline(in, c.config);
      continue;
    }
    std::vector<double>& row = cases.back().want.emplace_back();
    for (double x = 0; in >> x;) row.push_back(x);
  }
  return cases;
}

template <class T>
void Compare(const Case& c, const Input<T>& in, const Output<T>& got, double tolerance) {
  ASSERT_TRUE(got.status.ok()) << got.status.ToString();
  ASSERT_EQ(c.want.size(), static_cast<size_t>(c.rows));
  for (size_t r = 0; r < c.want.size(); ++r) {
    const std::vector<double>& want = c.want[r];
    ASSERT_EQ(want.size(), static_cast<size_t>(3 + c.vocab));
    for (size_t v = 0; v < static_cast<size_t>(c.vocab); ++v) {
      const double found = double{got.z[r * static_cast<size_t>(c.vocab) + v]};
      EXPECT_NEAR(found, want[3 + v], tolerance) << "row " << r << " column " << v;
    }
    if (in.weight[r] == 0) continue;
    EXPECT_NEAR(double{got.loss[r]}, want[0], tolerance) << "row " << r;
    EXPECT_NEAR(double{got.aux[r * got.n_aux + 2]}, want[1], tolerance) << "row " << r;
    EXPECT_EQ(double{got.aux[r * got.n_aux + 1]}, want[2]) << "row " << r;
  }
}

template <class T>
void CompareWithPeers(double precision) {
  const std::vector<Case> cases = ReadCases();
  ASSERT_EQ(cases.size(), 23U);
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const Input<T> in(c.rows, c.vocab, c.k);
    Compare(c, in, RunKd(Make("loss", "kd", c.config), in), std::max(precision, c.tolerance));
  }
}

TEST(Kd, EqualsItsPeersInF64) { CompareWithPeers<double>(1e-12); }
// Losses up to 50, times T^2.
TEST(Kd, EqualsItsPeersInF32) { CompareWithPeers<float>(1e-5); }

TEST(Kd, ValuesDoNotDependOnTheGradientNorOnAux) {
  for (const Case& c : ReadCases()) {
    SCOPED_TRACE(c.name);
    const PluginInstance kd = Make("loss", "kd", c.config);
    const Input<float> in(c.rows, c.vocab, c.k);
    const auto with = RunKd(kd, in), without = RunKd(kd, in, false);
    ASSERT_TRUE(without.status.ok());
    EXPECT_EQ(without.z, in.z) << "logits were written to";
    EXPECT_EQ(without.loss, with.loss);
    EXPECT_EQ(without.aux, with.aux);
  }
}

// Chunk sizes 1 to all, in any order of rows, on one thread or several.
template <class T>
void CheckChunks(double tolerance) {
  for (const int64_t k : {0, 6}) {
    const PluginInstance kd = Make("loss", "kd", R"({"divergence": "jsd", "alpha": 0.5})");
    const Input<T> in(29, 101, k);
    const auto whole = RunKd(kd, in);
    for (const int64_t step : {1, 3, 8, 28}) {
      for (int64_t end = in.rows; end > 0; end -= step) {
        const int64_t begin = std::max<int64_t>(0, end - step);
        const auto part = RunKd(kd, in.Rows(begin, end), true, Teacher::kAsGiven, 1);
        for (size_t i = 0; i < part.z.size(); ++i) {
          const double want = double{whole.z[static_cast<size_t>(begin * in.vocab) + i]};
          ASSERT_NEAR(double{part.z[i]}, want, tolerance) << "step " << step;
        }
        for (size_t i = 0; i < part.loss.size(); ++i) {
          const double want = double{whole.loss[static_cast<size_t>(begin) + i]};
          ASSERT_NEAR(double{part.loss[i]}, want, tolerance * std::abs(want)) << step;
        }
      }
    }
  }
}
TEST(Kd, RowsAreIndependentOfChunksF32) { CheckChunks<float>(1e-5); }
TEST(Kd, RowsAreIndependentOfChunksF64) { CheckChunks<double>(1e-12); }

// A cache of all tokens says what the whole row says.
TEST(Kd, ACacheOfAllTokensEqualsTheWholeRow) {
  for (const char* divergence : {"forward_kl", "reverse_kl", "jsd", "total_variation"}) {
    SCOPED_TRACE(divergence);
    const PluginInstance kd = Make(
        "loss", "kd", R"({"temperature": 1, "divergence": ")" + std::string(divergence) + "\"}");
    const Input<double> in(3, 17, 0);
    Input<double> cached = in;
    cached.k = in.vocab;
    cached.ids.resize(in.teacher.size());
    cached.log_p.resize(in.teacher.size());
    cached.tail.assign(3, -std::numeric_limits<float>::infinity());
    for (size_t r = 0; r < 3; ++r) {
      double sum = 0;
      for (size_t v = 0; v < 17; ++v) sum += std::exp(double{in.teacher[r * 17 + v]});
      for (size_t v = 0; v < 17; ++v) {
        const size_t from = r * 17 + v, to = r * 17 + 16 - v;
        cached.ids[to] = static_cast<int32_t>(v);
        cached.log_p[to] = static_cast<float>(double{in.teacher[from]} - std::log(sum));
      }
    }
    const auto want = RunKd(kd, in), got = RunKd(kd, cached);
    ASSERT_TRUE(got.status.ok()) << got.status.ToString();
    for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(got.loss[i], want.loss[i], 1e-6);
    for (size_t i = 0; i < want.z.size(); ++i) EXPECT_NEAR(got.z[i], want.z[i], 1e-6);
  }
}

// A student that has next to nothing outside of the teacher's tokens: 1 less the rest would be 0.
TEST(Kd, ATinyTailOfTheStudentIsExact) {
  const PluginInstance kd = Make("loss", "kd", R"({"temperature": 1})");
  Input<double> in(1, 8, 2);
  std::fill(in.z.begin(), in.z.end(), -60.0);
  in.z[static_cast<size_t>(in.ids[0])] = in.z[static_cast<size_t>(in.ids[1])] = 0;
  in.log_p = {std::log(0.25F), std::log(0.5F)};
  in.tail = {std::log(0.25F)};
  const auto got = RunKd(kd, in);
  ASSERT_TRUE(got.status.ok()) << got.status.ToString();
  const double log_q_tail = std::log(6.0) - 60 - std::log(2.0);
  const double want = 0.25 * (std::log(0.25) + std::log(2.0)) +
                      0.5 * (std::log(0.5) + std::log(2)) + 0.25 * (std::log(0.25) - log_q_tail);
  EXPECT_NEAR(got.loss[0], want, 1e-6);
  for (size_t v = 0; v < 8; ++v) {
    const auto id = static_cast<int32_t>(v);
    if (id == in.ids[0] || id == in.ids[1]) continue;
    EXPECT_NEAR(got.z[v], -0.25 / 6, 1e-9) << v;  // its share of the tail
  }
}

TEST(Kd, UnusedEntriesOfTheCacheAreSkipped) {
  const PluginInstance kd = Make("loss", "kd", "");
  const Input<float> in(4, 19, 4);
  Input<float> wider = in;
  wider.k = 6;
  wider.ids.clear();
  wider.log_p.clear();
  for (size_t r = 0; r < 4; ++r) {
    for (size_t j = 0; j < 6; ++j) {
      const bool used = j % 3 != 1;
      const size_t from = r * 4 + (j - (j + 1) / 3);
      wider.ids.push_back(used ? in.ids[from] : -1);
      wider.log_p.push_back(used ? in.log_p[from] : 0.0F);
    }
  }
  const auto want = RunKd(kd, in), got = RunKd(kd, wider);
  ASSERT_TRUE(got.status.ok()) << got.status.ToString();
  EXPECT_EQ(got.loss, want.loss);
  EXPECT_EQ(got.z, want.z);
}

TEST(Kd, TeachersInBf16AreTheirNumbersInF32) {
  const PluginInstance kd = Make("loss", "kd", R"({"alpha": 0.5})");
  Input<float> in(9, 65, 0);
  for (float& x : in.teacher) {
    x = std::bit_cast<float>(std::bit_cast<uint32_t>(x) & 0xFFFF0000U);
  }
  const auto want = RunKd(kd, in), got = RunKd(kd, in, true, Teacher::kBf16);
  ASSERT_TRUE(got.status.ok()) << got.status.ToString();
  EXPECT_EQ(got.loss, want.loss);
  EXPECT_EQ(got.z, want.z);
}

TEST(Kd, WhatIsMissingOrDoesNotFitIsNamed) {
  const PluginInstance kd = Make("loss", "kd", "");
  const auto none = RunKd(kd, Input<float>(2, 19, 0), true, Teacher::kNone);
  EXPECT_EQ(none.status.code(), Code::kFailedPrecondition);
  EXPECT_THAT(none.status.message(), testing::HasSubstr("there is no teacher"));
  Input<float> in(2, 19, 4);
  in.ids[5] = 19;
  const auto outside = RunKd(kd, in);
  EXPECT_EQ(outside.status.code(), Code::kInvalidArgument);
  EXPECT_THAT(outside.status.message(), testing::HasSubstr("teacher_ids[1, 1] is 19"));
}

TEST(Kd, SaysAtWhichTemperatureACacheIsToBe) {
  const PluginInstance kd = Make("loss", "kd", R"({"temperature": 2.5, "alpha": 0.5})");
  const retort_loss_spec& spec = *TableOf(kd)->spec(kd.get());
  EXPECT_EQ(spec.teacher_temperature, 2.5);
  EXPECT_EQ(spec.n_aux, 4U);
  EXPECT_STREQ(spec.aux_names[3], "nll");
}

TEST(Kd, BadConfigs) {
  EXPECT_THAT(ConfigError("loss", "kd", R"({"temperature": 0})"),
              testing::HasSubstr("/temperature"));
  EXPECT_THAT(ConfigError("loss", "kd", R"({"alpha": 1.5})"), testing::HasSubstr("/alpha"));
  EXPECT_THAT(ConfigError("loss", "kd", R"({"divergence": "jsd", "teacher_entropy": true})"),
              testing::HasSubstr("/teacher_entropy"));
}

}  // namespace
}  // namespace retort::host
