// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "core/model/peft.h"
#include "tests/unit/adapters/adapted_model.h"

namespace retort::engine::test {
namespace {

using model::MergeAdapter;
using model::MergeReport;

TEST(MergeAdapter, EqualsThePlainProductInEveryRow) {
  for (const bool fused : {false, true}) {
    AdaptedModel<float> merged(Specs{{.r = 3, .alpha = 5}}, fused),
        plain(Specs{{.r = 3, .alpha = 5}}, fused);
    const auto report = MergeAdapter(merged.graph, 0, merged.views, {}, 2);
    ASSERT_TRUE(report.ok()) << report.status().ToString();
    for (const std::string at : {"layers.0.", "layers.1."}) {
      for (const std::string name : {"q", "k", "v", "o", "gate", "up", "down"}) {
        const int64_t b_begin = !fused ? 0 : name == "k" ? 16 : name == "v" ? 24 : 0;
        const bool cut = fused && (name == "q" || name == "k" || name == "v");
        if (fused && name == "up") {
          MergePlainly(plain, at + "up.weight", at + "up1", "default", 5.0 / 3, 0, 0, 8);
          MergePlainly(plain, at + "up.weight", at + "up2", "default", 5.0 / 3, 0, 8, 16);
        } else {
          MergePlainly(plain, at + name + ".weight", at + (cut ? "qkv" : name), "default", 5.0 / 3,
                       b_begin);
        }
      }
    }
    for (size_t p = 0; p < plain.storage.size(); ++p) {
      for (size_t i = 0; i < plain.storage[p].size(); ++i) {
        ASSERT_NEAR(merged.storage[p][i], plain.storage[p][i], 1e-7)
            << plain.graph.params[p].name << " " << fused;
      }
    }
    EXPECT_EQ(report->n_weights, 14);
    EXPECT_LT(report->max_error, 3e-7);  // half a unit in the last place of numbers below 4
    EXPECT_GT(report->rms_error, 0);
    EXPECT_GT(report->rms_change, 0.1);
  }
}

TEST(MergeAdapter, ReportsWhatRoundingLoses) {
  AdaptedModel<float> model(Specs{{.r = 3, .alpha = 5, .targets = {"q"}}});
  AdaptedModel<double> exact(Specs{{.r = 3, .alpha = 5, .targets = {"q"}}});
  for (size_t p = 0; p < exact.storage.size(); ++p) {
    std::copy(model.storage[p].begin(), model.storage[p].end(), exact.storage[p].begin());
  }
  const auto report = MergeAdapter(model.graph, 0, model.views, model::RoundToBf16);
  ASSERT_TRUE(report.ok());
  double worst = 0, squares = 0, n = 0;
  for (const std::string name : {"layers.0.q", "layers.1.q"}) {
    MergePlainly(exact, name + ".weight", name, "default", 5.0 / 3);
    const std::vector<double>& want = exact.Values(name + ".weight");
    const std::vector<float>& got = model.Values(name + ".weight");
    for (size_t i = 0; i < want.size(); ++i) {
      const double off = static_cast<double>(got[i]) - want[i];
      EXPECT_LE(std::abs(off), std::abs(want[i]) * (1.0 / 256) + 1e-12);  // bf16: 8 bits
      worst = std::max(worst, std::abs(off));
      squares += off * off;
      n += 1;
    }
  }
  EXPECT_DOUBLE_EQ(report->max_error, worst);
  EXPECT_NEAR(report->rms_error, std::sqrt(squares / n), 1e-12);
  EXPECT_EQ(report->n_elements, static_cast<int64_t>(n));
}

TEST(MergeAdapter, RefusesWhatItCantChange) {
  AdaptedModel<float> model(Specs{{.r = 3}});
  EXPECT_EQ(MergeAdapter(model.graph, 1, model.views).status().code(), Code::kInvalidArgument);
  AdaptedModel<double> wide(Specs{{.r = 3}});
  EXPECT_EQ(MergeAdapter(wide.graph, 0, wide.views).status().code(), Code::kUnimplemented);
}

TEST(RoundToBf16, RoundsToNearestEven) {
  const graph::Param param;
  std::vector<float> values = {1.0F, 1.00390625F, 1.01171875F, 1.0039065F, -3.14159265F};
  model::RoundToBf16(param, values.data(), 5);
  EXPECT_EQ(values, (std::vector<float>{1.0F, 1.0F, 1.015625F, 1.0078125F, -3.140625F}));
}

}  // namespace
}  // namespace retort::engine::test
