// The optimizers against their oracles over 50 steps (tests/golden/optimizers.jsonl), and what
// holds for each of them beyond the conformance rules.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <fstream>
#include <map>

#include "core/json/json.h"
#include "host/check/optimizer_slot.h"
#include "tests/unit/check_numeric/numeric_harness.h"

namespace retort::host::check {
namespace {

constexpr int64_t kSteps = 50;

Subject Plugin(const std::string& id, const std::string& config) {
  return SubjectOf(std::string(RETORT_PLUGIN_DIR) + "/libretort_optimizer_" + id + ".so",
                   "optimizer", id, config);
}

// As in tests/peers/make_plugin_goldens.py: multiples of 1/1024 in [-4, 4).
class Dyadic {
 public:
  explicit Dyadic(uint32_t seed) : state_(seed) {}
  double Next() {
    state_ = state_ * 1664525U + 1013904223U;
    return (static_cast<double>((state_ >> 8) % 8192) - 4096) / 1024;
  }

 private:
  uint32_t state_;
};

struct Case {
  std::string name, plugin, config;
  double learning_rate = 0, weight_decay = 0;
  std::vector<ParamDescription> params;
  std::vector<int64_t> strides;
  std::vector<std::vector<double>> values;
};

std::vector<double> Numbers(json::Value array) {
  std::vector<double> numbers;
  for (size_t i = 0; i < array.size(); ++i) numbers.push_back(array[i].AsDouble().value());
  return numbers;
}

std::vector<Case> ReadCases() {
  std::vector<Case> cases;
  std::ifstream file(RETORT_SOURCE_DIR "/tests/golden/optimizers.jsonl");
  for (std::string line; std::getline(file, line);) {
    const json::Document document = json::Document::Parse(line, "golden").value();
    const json::Value root = document.root(), tensors = root["tensors"];
    Case& c = cases.emplace_back();
    c.name = root["name"].StringOr("");
    c.plugin = root["plugin"].StringOr("");
    c.config = root["config"].Dump();
    c.learning_rate = root["learning_rate"].AsDouble().value();
    c.weight_decay = root["weight_decay"].AsDouble().value();
    for (size_t i = 0; i < tensors.size(); ++i) {
      const json::Value tensor = tensors[i], shape = tensor["shape"];
      ParamDescription& param = c.params.emplace_back();
      param.name = tensor["name"].StringOr("");
      for (size_t d = 0; d < shape.size(); ++d) param.shape.push_back(shape[d].AsInt().value());
      param.roles = static_cast<uint32_t>(tensor["roles"].AsInt().value());
      param.group = static_cast<uint32_t>(tensor["group"].AsInt().value());
      c.strides.push_back(tensor["stride"].AsInt().value());
      c.values.push_back(Numbers(tensor["values"]));
    }
  }
  return cases;
}

// The params after the steps; both sides draw the same numbers in the same order.
std::vector<Slot> RunCase(const Case& c) {
  const Optimizer optimizer = Optimizer::Open(Plugin(c.plugin, c.config)).value();
  Rng unused({1, 1});
  std::vector<Slot> slots = optimizer.Slots(c.params, &unused).value();
  Dyadic numbers(17);
  for (Slot& slot : slots) {
    for (int64_t i = 0; i < slot.param.size(); ++i) slot.param.Set(i, numbers.Next());
  }
  for (int64_t step = 0; step < kSteps; ++step) {
    for (Slot& slot : slots) {
      for (int64_t i = 0; i < slot.param.size(); ++i) {
        slot.grad.Set(i, numbers.Next() * 0.25 + slot.param.At(i) * 0.5);
      }
    }
    const double rate = c.learning_rate * static_cast<double>(1 + step % 3);
    const Status status = optimizer.Step(slots, step + 1,
                                         {.learning_rate = {rate, rate},
                                          .weight_decay = {c.weight_decay, 0},
                                          .grad_scale = {},
                                          .n_threads = 2});
    EXPECT_TRUE(status.ok()) << status.ToString();
  }
  return slots;
}

double MaxError(const Case& c, const std::vector<Slot>& slots) {
  double worst = 0;
  for (size_t t = 0; t < slots.size(); ++t) {
    for (size_t k = 0; k < c.values[t].size(); ++k) {
      const double found = slots[t].param.At(static_cast<int64_t>(k) * c.strides[t]);
      worst = std::max(worst, std::abs(found - c.values[t][k]));
    }
  }
  return worst;
}

// Params lie in [-4, 4): an f32 there has half units of 2.4e-7, and 50 steps round 50 times.
constexpr double kF32 = 5e-6;
double Tolerance(const std::string& name) {
  // torch's Newton-Schulz products are bf16: 2^-9 of updates whose elements are around 0.01.
  if (name.starts_with("torch Muon")) return 4e-3;
  // Its CPU op gives small second moments other codes than the nearest (see the script).
  if (name == "bitsandbytes AdamW8bit") return 2e-2;
  return kF32;
}

TEST(OptimizerGoldens, EachEqualsItsOracleAfter50Steps) {
  const std::vector<Case> cases = ReadCases();
  ASSERT_EQ(cases.size(), 19U);
  for (const Case& c : cases) {
    const double error = MaxError(c, RunCase(c));
    RecordProperty(c.name, std::to_string(error));
    std::printf("%-45s %.3g\n", c.name.c_str(), error);
    EXPECT_LE(error, Tolerance(c.name)) << c.name;
  }
}

}  // namespace
}  // namespace retort::host::check
