// Quantisers: the same bytes as gguf's and bitsandbytes' (quant_goldens.txt), errors no larger than
// llama.cpp's where the choice is ours, and bounds that hold for any weights.
// SPDX-License-Identifier: Apache-2.0
#include <fstream>
#include <map>
#include <sstream>

#include "tests/unit/packed/packed_testing.h"

namespace retort::kernels {
namespace {

// As in tests/peers/make_quant_goldens.py.
std::vector<float> Weights(int64_t n, uint32_t state) {
  std::vector<float> w;
  for (int64_t i = 0; i < n; ++i) {
    int32_t total = 0;
    for (int k = 0; k < 4; ++k) {
      state = state * 1664525u + 1013904223u;
      total += static_cast<int32_t>(state >> 20) - 2048;
    }
    w.push_back(static_cast<float>(total * (1 + i / 64 % 7)) * 0x1p-16f);
  }
  return w;
}
std::vector<float> WeightsAndEdges() {
  auto w = Weights(256, 1);
  const auto append = [&](auto value) {
    for (int i = 0; i < 32; ++i) w.push_back(value(i));
  };
  append([](int) { return 0.0f; });
  append([](int) { return 0.5f; });
  append([](int i) { return i == 5 ? 3.0f : 0.0f; });
  append([](int i) { return i == 31 ? -3.0f : 0.0f; });
  append([](int i) { return static_cast<float>(i) - 15.5f; });
  append([tiny = Weights(32, 9)](int i) { return tiny[size_t(i)] * 0x1p-20f; });
  return w;
}

std::map<std::string, std::string> Goldens() {
  std::map<std::string, std::string> lines;
  std::ifstream in(std::string(RETORT_SOURCE_DIR) + "/tests/unit/packed/quant_goldens.txt");
  for (std::string line; std::getline(in, line);) {
    lines[line.substr(0, line.find(' '))] = line.substr(line.find(' ') + 1);
  }
  return lines;
}
std::string Hex(const uint8_t* bytes, size_t n) {
  std::string text;
  for (size_t i = 0; i < n; ++i) {
    text += "0123456789abcdef"[bytes[i] >> 4];
    text += "0123456789abcdef"[bytes[i] & 15];
  }
  return text;
}
std::vector<double> Numbers(const std::string& text) {
  std::istringstream in(text);
  std::vector<double> values;
  for (double v; in >> v;) values.push_back(v);
  return values;
}

std::vector<float> RoundTrip(int type, const std::vector<float>& w) {
  const Packed packed(type, 1, static_cast<int64_t>(w.size()), Quantized(type, w));
  return packed.Rows();
}

TEST(Quantize, LegacyTypesEqualGgufsBytes) {
  const auto goldens = Goldens();
  const auto w = WeightsAndEdges();
  for (int type : {RETORT_PACKED_Q8_0, RETORT_PACKED_Q4_0, RETORT_PACKED_Q4_1}) {
    const auto bytes = Quantized(type, w);
    EXPECT_EQ(Hex(bytes.data(), bytes.size()), goldens.at(TypeName(type))) << TypeName(type);
  }
}

TEST(Quantize, KQuantsAreAsCloseAsLlamaCpps) {
  const auto goldens = Goldens();
  const auto w = Weights(16384, 2);
  for (int type : {RETORT_PACKED_Q4_K, RETORT_PACKED_Q6_K}) {
    const auto back = RoundTrip(type, w);
    double error = 0;
    for (size_t i = 0; i < w.size(); ++i) error += std::pow(double(back[i]) - double(w[i]), 2);
    error /= double(w.size());
    EXPECT_LE(error, 1.02 * Numbers(goldens.at(TypeName(type) + std::string("_error")))[0])
        << TypeName(type);
  }
}

// Half a step of the block's range, and what rounding the step to 16 bits adds.
TEST(Quantize, ErrorsStayWithinHalfAStep) {
  struct Case {
    int type;
    int64_t block;
    double steps;  // of the block's largest magnitude (its range: Q4_1)
    double slack;
  };
  // Q4_0 clips the end opposite to the extreme weight: a whole step. The K-quants round scales to
  // 6 or 8 bits on top, and fit them to the weights in the mean.
  const Case cases[] = {{RETORT_PACKED_Q8_0, 32, 127, 0.6}, {RETORT_PACKED_Q4_0, 32, 8, 1.01},
                        {RETORT_PACKED_Q4_1, 32, 15, 0.6},  {RETORT_PACKED_Q4_K, 32, 15, 1.5},
                        {RETORT_PACKED_Q6_K, 16, 32, 1.5},  {RETORT_PACKED_NF4, 64, 6, 1.0}};
  for (uint32_t seed = 1; seed <= 5; ++seed) {
    const auto w = Random<float>(4096, seed);
    for (const Case& c : cases) {
      const auto back = RoundTrip(c.type, w);
      for (size_t begin = 0; begin < w.size(); begin += size_t(c.block)) {
        double low = 0, high = 0, worst = 0;
        for (size_t i = begin; i < begin + size_t(c.block); ++i) {
          low = std::min(low, double(w[i]));
          high = std::max(high, double(w[i]));
          worst = std::max(worst, std::fabs(double(w[i]) - double(back[i])));
        }
        const bool affine = c.type == RETORT_PACKED_Q4_1 || c.type == RETORT_PACKED_Q4_K;
        const double range = affine ? high - low : std::max(high, -low);
        ASSERT_LE(worst, c.slack * range / c.steps) << TypeName(c.type) << " block at " << begin;
      }
    }
  }
}

TEST(Quantize, ZerosStayZeros) {
  const std::vector<float> zeros(256, 0.0f);
  for (int type = 0; type < RETORT_PACKED_TYPES; ++type) {
    for (float v : RoundTrip(type, zeros)) ASSERT_EQ(v, 0.0f) << TypeName(type);
  }
}

TEST(Quantize, WeightsOfOneSignKeepItsSign) {
  for (float sign : {1.0f, -1.0f}) {
    auto w = Random<float>(512, 7);
    for (float& v : w) v = sign * (0.5f + std::fabs(v));
    for (int type = RETORT_PACKED_Q8_0; type < RETORT_PACKED_TYPES; ++type) {
      for (float v : RoundTrip(type, w)) ASSERT_GT(v * sign, 0.0f) << TypeName(type);
    }
  }
}

// Its mean is ours in f64, theirs a sum in f32: hence 1e-6. One absmax in a hundred may become the
// neighbouring code: theirs decides near-ties (1e-5 from the middle) by a rounding of its own.
TEST(Nf4, EqualsBitsandbytesWithDoubleQuantisation) {
  const auto goldens = Goldens();
  const int64_t rows = 24, cols = 704;
  const auto code = Numbers(goldens.at("nf4_code"));
  for (size_t i = 0; i < 16; ++i) EXPECT_EQ(double(retort_nf4_code()[i]), double(float(code[i])));

  const Packed packed(RETORT_PACKED_NF4, rows, cols,
                      Quantized(RETORT_PACKED_NF4, Weights(rows * cols, 3)));
  std::vector<uint8_t> file(size_t(rows * cols / 64 * 36));
  retort_unpack_rows(&packed.matrix, 0, rows, file.data());
  std::string codes;
  std::vector<bool> equal;
  const auto absmax = Numbers(goldens.at("nf4_absmax"));
  ASSERT_EQ(absmax.size(), size_t(rows * cols / 64));
  for (size_t b = 0; b < absmax.size(); ++b) {
    codes += Hex(file.data() + 36 * b, 32);
    float value = 0;
    std::memcpy(&value, file.data() + 36 * b + 32, sizeof(value));
    EXPECT_NEAR(double(value), absmax[b], 0.005 * absmax[b]) << b;
    equal.push_back(std::fabs(double(value) - absmax[b]) <= 1e-6 * absmax[b]);
  }
  EXPECT_LE(std::count(equal.begin(), equal.end(), false), 2);
  EXPECT_EQ(codes, goldens.at("nf4_codes"));
  const auto back = packed.Rows();
  const auto some = Numbers(goldens.at("nf4_every_97th"));
  for (size_t i = 0; i < some.size(); ++i) {
    if (!equal[97 * i / 64]) continue;
    EXPECT_NEAR(double(back[97 * i]), some[i], 1e-6 * std::fabs(some[i])) << i;
  }
}

}  // namespace
}  // namespace retort::kernels
