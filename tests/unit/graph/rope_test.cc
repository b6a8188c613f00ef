// Rotary frequencies of every scaling against transformers (oracle:
// tests/peers/make_engine_goldens.py), and what is refused.
// SPDX-License-Identifier: Apache-2.0
#include "core/graph/rope.h"

#include <gtest/gtest.h>

#include "tests/unit/engine/golden_values.h"

namespace retort::graph {
namespace {

RopeSpec RopeOf(const std::string& scaling, int64_t rotary_dim = 32) {
  return {.layout = 0,
          .rotary_dim = rotary_dim,
          .max_positions = 8192,
          .theta = 10000,
          .scaling_json = scaling};
}

// "[first, first + step, ...]" of 16 numbers.
std::string Ramp(double first, double step) {
  std::string text = "[";
  for (int j = 0; j < 16; ++j) {
    text += (j > 0 ? ", " : "") + std::to_string(first + step * j);
  }
  return text + "]";
}

std::string Longrope(const std::string& short_factor, const std::string& long_factor,
                     const std::string& rest) {
  return R"({"rope_type": "longrope", "short_factor": )" + short_factor + R"(, "long_factor": )" +
         long_factor + rest + "}";
}

struct Case {
  std::string name, scaling;
  std::vector<int64_t> lengths = {};  // beside 0
};

// The scalings of the script.
std::vector<Case> Cases() {
  return {
      {"default", R"({"rope_type": "default"})"},
      {"linear", R"({"type": "linear", "factor": 4.0})"},
      {"llama3",
       R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
           "high_freq_factor": 4.0, "original_max_position_embeddings": 1024})"},
      {"yarn", R"({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048})"},
      {"yarn untruncated",
       R"({"rope_type": "yarn", "factor": 4.0, "truncate": false, "beta_fast": 16.0,
           "original_max_position_embeddings": 2048, "attention_factor": 1.5})"},
      {"yarn mscale",
       R"({"rope_type": "yarn", "factor": 40.0, "mscale": 1.0, "mscale_all_dim": 0.7,
           "original_max_position_embeddings": 1024})"},
      {"yarn by positions",
       R"({"rope_type": "yarn", "factor": null, "original_max_position_embeddings": 1024})"},
      {"dynamic", R"({"type": "dynamic", "factor": 2.0})", {8192, 8193, 20000}},
      {"longrope",
       Longrope(Ramp(1, 0.01), Ramp(2, 0.25), R"(, "original_max_position_embeddings": 1024)"),
       {1024, 1025}},
      {"longrope with factor",
       Longrope(Ramp(1.25, 0), Ramp(4.5, 0),
                R"(, "factor": 16.0, "original_max_position_embeddings": 512)")},
      {"proportional",
       R"({"rope_type": "proportional", "partial_rotary_factor": 0.3, "factor": 2.0})"}};
}

void ExpectGolden(const Case& c, int64_t length,
                  const std::pair<std::string, std::vector<double>>& golden) {
  const auto& [name, want] = golden;
  ASSERT_EQ(name, c.name + (length > 0 ? " at " + std::to_string(length) : ""));
  const auto table = MakeRopeTable(RopeOf(c.scaling), length);
  ASSERT_TRUE(table.ok()) << table.status().ToString();
  ASSERT_EQ(table->inv_freq.size() + 1, want.size());
  EXPECT_NEAR(table->attention_factor, want[0], 1e-12) << name;
  for (size_t j = 1; j < want.size(); ++j) {  // theirs are f32
    const double tolerance = 1e-6 * want[j];  // of powers with an f32 exponent
    EXPECT_NEAR(table->inv_freq[j - 1], want[j], tolerance) << name << " " << j;
  }
}

TEST(RopeTable, EqualsTransformers) {
  const auto golden = engine::test::ReadGolden("tests/unit/graph/rope.golden");
  size_t next = 0;
  for (const Case& c : Cases()) {
    ASSERT_LT(next, golden.size());
    ExpectGolden(c, 0, golden[next++]);
    for (const int64_t length : c.lengths) {
      ASSERT_LT(next, golden.size());
      ExpectGolden(c, length, golden[next++]);
    }
  }
  EXPECT_EQ(next, golden.size());
}

TEST(RopeTable, WrongScalingIsRefusedByKey) {
  const auto expect = [](const std::string& scaling, const std::string& part) {
    const std::string message = MakeRopeTable(RopeOf(scaling)).status().message();
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  expect(R"({"rope_type": "linear"})", "\"factor\" is missing");
  expect(R"({"rope_type": "linear", "factor": -2})", "above 0");
  expect(R"({"rope_type": "yarn", "factor": 2, "mscale": "x"})", "mscale");
  expect("[]", "must be a JSON object");
  expect(R"({"rope_type": "longrope", "short_factor": [1, 2]})",
         "\"short_factor\" must be a list of 16 numbers, one per rotated pair of a head; it has 2");
  expect(Longrope(Ramp(1, 0), Ramp(1, -0.2), ""), "\"long_factor\" has 0.0");
  expect(R"({"rope_type": "dynamic"})", "\"factor\" is missing");
  EXPECT_FALSE(MakeRopeTable(RopeOf(R"({"type": "dynamic", "factor": 2})", 2)).ok());
}

TEST(RopeLengths, SayWhichTextsHaveFrequenciesOfTheirOwn) {
  const auto of = [](const std::string& scaling) { return RopeLengthsOf(RopeOf(scaling)).value(); };
  EXPECT_EQ(of("").limit, 0);
  EXPECT_EQ(of(R"({"type": "linear", "factor": 4})").limit, 0);
  // transformers doesn't read the original length of this type.
  const RopeLengths dynamic =
      of(R"({"type": "dynamic", "factor": 2, "original_max_position_embeddings": 100})");
  EXPECT_EQ(dynamic.limit, 8192);
  EXPECT_FALSE(dynamic.stale_above);
  const RopeLengths longrope =
      of(Longrope(Ramp(1, 0), Ramp(2, 0), R"(, "original_max_position_embeddings": 100)"));
  EXPECT_EQ(longrope.limit, 100);
  EXPECT_TRUE(longrope.stale_above);
}

TEST(RopeTable, DynamicIsPlainUpToItsLimit) {
  const auto table = MakeRopeTable(RopeOf(R"({"type": "dynamic", "factor": 2})"), 8192);
  EXPECT_EQ(table->inv_freq, MakeRopeTable(RopeOf(""))->inv_freq);
}

}  // namespace
}  // namespace retort::graph
