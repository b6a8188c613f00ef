// The op plugins alone, through the checked table: xielu against transformers, short_conv against a
// naive convolution, in f32 and f64.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <cmath>
#include <fstream>
#include <sstream>
#include <utility>

#include "core/base/rng.h"
#include "core/graph/custom_op.h"
#include "host/session/op_factory.h"
#include "tests/unit/custom_ops/hybrid_model.h"

namespace retort::host {
namespace {

// Tensors of one call; the vectors outlive it.
class Call {
 public:
  template <class T>
  void Add(std::vector<retort_tensor*>& role, std::vector<T>& data, std::vector<int64_t> shape) {
    tensors_.push_back(std::make_unique<graph::OpTensor>());
    constexpr DType kType = std::is_same_v<T, double>  ? DType::kF64
                            : std::is_same_v<T, float> ? DType::kF32
                                                       : DType::kI32;
    tensors_.back()->Set(data.data(), kType, shape);
    role.push_back(&tensors_.back()->tensor);
  }
  std::vector<retort_tensor*> in, out, state, d_out, d_in, cu, positions, slot;

  using Function = retort_status (*)(retort_instance*, const retort_call*, const retort_op_args*);
  void Run(const graph::OpHandle& op, Function function, int n_threads = 2) {
    const retort_op_args args = {.struct_size = sizeof(args),
                                 .flags = 0,
                                 .n_in = static_cast<uint32_t>(in.size()),
                                 .n_out = static_cast<uint32_t>(out.size() + d_out.size()),
                                 .n_saved = 0,
                                 .n_state = static_cast<uint32_t>(state.size()),
                                 .in = in.data(),
                                 .out = out.data(),
                                 .saved = nullptr,
                                 .state = state.data(),
                                 .d_out = d_out.data(),
                                 .d_in = d_in.data(),
                                 .cu_seqlens = cu.empty() ? nullptr : cu[0],
                                 .positions = positions.empty() ? nullptr : positions[0],
                                 .slot = slot.empty() ? nullptr : slot[0]};
    PluginCall call("op");
    const Status status =
        call.End(function(op.instance(), call.Begin({.n_threads = n_threads}), &args), "call");
    ASSERT_TRUE(status.ok()) << status.ToString();
  }

 private:
  std::vector<std::unique_ptr<graph::OpTensor>> tensors_;
};

std::unique_ptr<graph::OpHandle> MakeOp(Session& session, const char* id, const char* attributes) {
  return MakeOpFactory(session.plugins())(id, attributes).value();
}

template <class T>
void ExpectNear(const std::vector<T>& got, const std::vector<double>& want, double tolerance) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_NEAR(got[i], want[i], tolerance * std::max(1.0, std::abs(want[i]))) << i;
  }
}

// ---- xielu -----------------------------------------------------------------------------------

struct XieluCase {
  double alpha_p = 0, alpha_n = 0, beta = 0, d_p = 0, d_n = 0;
  std::vector<double> x, dy, y, dx;
};

std::vector<XieluCase> ReadXieluCases() {
  std::ifstream file(std::string(RETORT_SOURCE_DIR) + "/tests/golden/plugin_xielu.txt");
  std::vector<XieluCase> cases;
  const auto numbers = [&file] {
    std::string line;
    std::getline(file, line);
    std::istringstream words(line);
    return std::vector<double>(std::istream_iterator<double>(words), {});
  };
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("case ", 0) != 0) continue;
    std::istringstream words(line.substr(5));
    XieluCase& c = cases.emplace_back();
    words >> c.alpha_p >> c.alpha_n >> c.beta >> c.d_p >> c.d_n;
    c.x = numbers(), c.dy = numbers(), c.y = numbers(), c.dx = numbers();
  }
  return cases;
}

template <class T>
std::vector<T> As(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

template <class T>
void CheckXielu(Session& session, const XieluCase& c, double tolerance) {
  const auto op = MakeOp(session, "xielu", ("{\"beta\":" + std::to_string(c.beta) + "}").c_str());
  std::vector<T> x = As<T>(c.x), dy = As<T>(c.dy), p = {static_cast<T>(c.alpha_p)};
  std::vector<T> n = {static_cast<T>(c.alpha_n)}, y(x.size()), dx(x.size()), dp(1), dn(1);
  Call forward, backward;
  for (Call* call : {&forward, &backward}) {
    call->Add(call->in, x, {3, 4});
    call->Add(call->in, p, {1});
    call->Add(call->in, n, {1});
  }
  forward.Add(forward.out, y, {3, 4});
  forward.Run(*op, op->table().forward);
  backward.Add(backward.d_out, dy, {3, 4});
  backward.Add(backward.d_in, dx, {3, 4});
  backward.Add(backward.d_in, dp, {1});
  backward.Add(backward.d_in, dn, {1});
  backward.Run(*op, op->table().backward);
  ExpectNear(y, c.y, tolerance);
  ExpectNear(dx, c.dx, tolerance);
  ExpectNear(dp, {c.d_p}, tolerance);
  ExpectNear(dn, {c.d_n}, tolerance);
}

TEST(Xielu, EqualsTransformers) {
  const auto session = HybridSession();
  const std::vector<XieluCase> cases = ReadXieluCases();
  ASSERT_EQ(cases.size(), 2U);
  for (const XieluCase& c : cases) {
    CheckXielu<double>(*session, c, 1e-12);
    CheckXielu<float>(*session, c, 1e-6);
  }
}

TEST(Xielu, ThreadsChangeNoBit) {
  const auto session = HybridSession();
  const auto op = MakeOp(*session, "xielu", "{}");
  Rng rng(RngKey{0, 5});
  std::vector<float> x(999 * 3), dy(x.size()), p = {0.1F}, n = {-0.3F};
  for (float& v : x) v = static_cast<float>(rng.Normal());
  for (float& v : dy) v = static_cast<float>(rng.Normal());
  std::vector<std::vector<float>> results;
  for (const int threads : {1, 2, 3}) {
    std::vector<float> dx(x.size()), dp(1), dn(1);
    Call call;
    call.Add(call.in, x, {999, 3});
    call.Add(call.in, p, {1});
    call.Add(call.in, n, {1});
    call.Add(call.d_out, dy, {999, 3});
    call.Add(call.d_in, dx, {999, 3});
    call.Add(call.d_in, dp, {1});
    call.Add(call.d_in, dn, {1});
    call.Run(*op, op->table().backward, threads);
    dx.push_back(dp[0]), dx.push_back(dn[0]);
    results.push_back(dx);
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

// ---- short_conv ------------------------------------------------------------------------------

constexpr int64_t kWidth = 5, kTaps = 4;

template <class T>
struct ConvCase {
  std::vector<T> x, w, bias, dy;
  std::vector<int32_t> cu = {0, 1, 9, 11};  // shorter than the taps, longer, shorter
  int64_t rows() const { return cu.back(); }
};

template <class T>
ConvCase<T> RandomCase() {
  ConvCase<T> c;
  Rng rng(RngKey{3, 1});
  const auto fill = [&rng](std::vector<T>& v, int64_t n) {
    for (int64_t i = 0; i < n; ++i) v.push_back(static_cast<T>(rng.Normal()));
  };
  fill(c.x, c.rows() * kWidth), fill(c.w, kWidth * kTaps), fill(c.bias, kWidth);
  fill(c.dy, c.rows() * kWidth);
  return c;
}

// What each output is, tap by tap; `on_tap(output element, input element, weight element)`.
template <class T, class Fn>
void ForTaps(const ConvCase<T>& c, Fn&& on_tap) {
  for (size_t s = 0; s + 1 < c.cu.size(); ++s) {
    for (int64_t t = c.cu[s]; t < c.cu[s + 1]; ++t) {
      for (int64_t ch = 0; ch < kWidth; ++ch) {
        for (int64_t j = 0; j < kTaps; ++j) {
          const int64_t from = t - (kTaps - 1) + j;
          if (from < c.cu[s]) continue;
          on_tap(static_cast<size_t>(t * kWidth + ch), static_cast<size_t>(from * kWidth + ch),
                 static_cast<size_t>(ch * kTaps + j));
        }
      }
    }
  }
}

template <class T>
std::vector<double> NaiveForward(const ConvCase<T>& c) {
  std::vector<double> y(c.x.size());
  for (size_t i = 0; i < y.size(); ++i) y[i] = double{c.bias[i % kWidth]};
  ForTaps(c, [&](size_t o, size_t i, size_t w) { y[o] += double{c.w[w]} * double{c.x[i]}; });
  return y;
}

template <class T>
void AddInputs(Call& call, ConvCase<T>& c, std::vector<T>& x, std::vector<int32_t>& cu) {
  call.Add(call.in, x, {static_cast<int64_t>(x.size()) / kWidth, kWidth});
  call.Add(call.in, c.w, {kWidth, 1, kTaps});
  call.Add(call.in, c.bias, {kWidth});
  call.Add(call.cu, cu, {static_cast<int64_t>(cu.size())});
}

template <class T>
void CheckConv(Session& session, double tolerance) {
  const auto op = MakeOp(session, "short_conv", R"({"kernel_size":4})");
  ConvCase<T> c = RandomCase<T>();
  std::vector<T> y(c.x.size()), dx(c.x.size()), dw(c.w.size()), db(c.bias.size());
  Call forward, backward;
  AddInputs(forward, c, c.x, c.cu);
  forward.Add(forward.out, y, {c.rows(), kWidth});
  forward.Run(*op, op->table().forward);
  ExpectNear(y, NaiveForward(c), tolerance);
  AddInputs(backward, c, c.x, c.cu);
  backward.Add(backward.d_out, c.dy, {c.rows(), kWidth});
  backward.Add(backward.d_in, dx, {c.rows(), kWidth});
  backward.Add(backward.d_in, dw, {kWidth, 1, kTaps});
  backward.Add(backward.d_in, db, {kWidth});
  backward.Run(*op, op->table().backward);
  std::vector<double> want_dx(dx.size()), want_dw(dw.size()), want_db(db.size());
  ForTaps(c, [&](size_t o, size_t i, size_t w) {
    want_dx[i] += double{c.w[w]} * double{c.dy[o]};
    want_dw[w] += double{c.x[i]} * double{c.dy[o]};
  });
  for (size_t i = 0; i < c.dy.size(); ++i) want_db[i % kWidth] += double{c.dy[i]};
  ExpectNear(dx, want_dx, tolerance);
  ExpectNear(dw, want_dw, tolerance);
  ExpectNear(db, want_db, tolerance);
}

TEST(ShortConv, EqualsTheNaiveConvolutionAndItsGradients) {
  const auto session = HybridSession();
  CheckConv<double>(*session, 1e-13);
  CheckConv<float>(*session, 2e-6);
}

// Two sequences in slots 2 and 0 of 3, in pieces of which some are shorter than the state.
TEST(ShortConv, DecodingInPiecesEqualsForwardAndLeavesOtherSlotsAlone) {
  const auto session = HybridSession();
  const auto op = MakeOp(*session, "short_conv", R"({"kernel_size":4})");
  ConvCase<double> c = RandomCase<double>();
  c.cu = {0, 6, 11};
  const std::vector<double> want = NaiveForward(c);
  const int64_t slot_size = (kTaps - 1) * kWidth;
  std::vector<double> state(static_cast<size_t>(3 * slot_size));
  std::fill_n(state.begin() + slot_size, slot_size, 77);  // slot 1: somebody else's
  std::vector<double> got(want.size());
  const std::vector<std::pair<int32_t, int32_t>> pieces = {{1, 2}, {3, 1}, {1, 1}, {1, 1}};
  int32_t a = 0, b = 6;
  for (const auto& [n_a, n_b] : pieces) {
    std::vector<double> x, y(static_cast<size_t>((n_a + n_b) * kWidth));
    x.insert(x.end(), c.x.begin() + a * kWidth, c.x.begin() + (a + n_a) * kWidth);
    x.insert(x.end(), c.x.begin() + b * kWidth, c.x.begin() + (b + n_b) * kWidth);
    std::vector<int32_t> cu = {0, n_a, n_a + n_b}, slot = {2, 0};
    Call call;
    AddInputs(call, c, x, cu);
    call.Add(call.out, y, {n_a + n_b, kWidth});
    call.Add(call.state, state, {3, kTaps - 1, kWidth});
    call.Add(call.slot, slot, {2});
    call.Run(*op, op->table().decode);
    std::copy_n(y.begin(), n_a * kWidth, got.begin() + a * kWidth);
    std::copy_n(y.begin() + n_a * kWidth, n_b * kWidth, got.begin() + b * kWidth);
    a += n_a, b += n_b;
  }
  ASSERT_EQ(a, 6);
  ASSERT_EQ(b, 11);
  ExpectNear(got, want, 1e-13);
  for (int64_t i = 0; i < slot_size; ++i) {
    ASSERT_EQ(state[static_cast<size_t>(slot_size + i)], 77);
  }
}

}  // namespace
}  // namespace retort::host
