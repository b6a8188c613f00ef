// Gradients must not depend on what is kept and what is computed again, nor on whether the pass
// works in their memory, to the bit; nor, up to rounding, on whether linear nodes run as one
// product.
// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "core/engine/edge.h"
#include "core/engine/gradients.h"
#include "core/engine/pass.h"
#include "core/graph/merge.h"
#include "tests/unit/engine/tiny_model.h"

namespace retort::engine::test {
namespace {

constexpr int kThreads = 2;

// The weights of a model in one block, as a store lays them out.
class Stacked {
 public:
  explicit Stacked(const TinyModel<float>& model) : views_(model.views) {
    size_t total = 0;
    for (const auto& values : model.storage) total += (values.size() + 15) / 16 * 16;
    block_.resize(total);
    size_t offset = 0;
    for (int32_t index : graph::ParamOrder(model.graph)) {
      const auto p = static_cast<size_t>(index);
      std::copy(model.storage[p].begin(), model.storage[p].end(), block_.begin() + offset);
      views_[p].data = block_.data() + offset;
      offset += (model.storage[p].size() + 15) / 16 * 16;
    }
  }
  std::span<const TensorView> views() const { return views_; }

 private:
  std::vector<float> block_;
  std::vector<TensorView> views_;
};

struct Outcome {
  std::vector<float> hidden;
  std::vector<std::vector<float>> gradients;
  int64_t arena_elements = 0, arena_bytes = 0;
  size_t n_groups = 0, n_recomputed = 0;
};

const std::vector<std::vector<int32_t>> kTwoBatches = {{9, 23, 1}, {40, 7}};

// Writes where the head would: all over its memory, and into the gradient of its weight.
void UseAsHead(const Pass& pass, Gradients& grads, int32_t weight) {
  const std::span<unsigned char> memory = pass.HeadMemory();
  std::fill(memory.begin(), memory.end(), static_cast<unsigned char>(0xFF));
  if (!grads.Wanted(weight)) return;
  const TensorView& gradient = grads.ForAdding(weight);
  for (int64_t i = 0; i < gradient.numel(); ++i) gradient.as<float>()[i] += 0.25F;
}

// Micro-batches of different sizes, with a gradient of the hidden state made up from it. `lends`:
// each may work in the memory of the gradients, which hold rubbish, and nothing is added up.
Outcome RunPass(const TinyModel<float>& model, std::span<const TensorView> views, int32_t level,
                const std::vector<std::vector<int32_t>>& batches = kTwoBatches,
                bool lends = false) {
  SetThreads(kThreads);
  Pass pass(model.graph, views, Mode::kTraining, kThreads, -1, level);
  Gradients grads(model.graph, DType::kF32);
  Outcome outcome;
  const PassMemory::Lent lent{
      .data = grads.data(), .gradients = &grads.space(), .head_bytes = 70000};
  grads.Begin();
  for (const std::vector<int32_t>& lengths : batches) {
    const MicroBatch batch = Documents(lengths, model.graph.vocab());
    if (lends) {
      grads.Begin();
      std::fill_n(reinterpret_cast<float*>(grads.data()), grads.space().elements, std::nanf(""));
    }
    const TensorView hidden = pass.Forward(RowsOf(batch), nullptr, lends ? &lent : nullptr);
    outcome.hidden.assign(hidden.as<float>(), hidden.as<float>() + hidden.numel());
    const TensorView d_hidden = pass.HiddenGradient();
    for (size_t i = 0; i < outcome.hidden.size(); ++i) {
      d_hidden.as<float>()[i] = std::sin(outcome.hidden[i] * 3 + static_cast<float>(i % 7));
    }
    UseAsHead(pass, grads, model.graph.head);
    pass.Backward(grads);
  }
  grads.Finish();
  for (size_t p = 0; p < model.graph.params.size(); ++p) {
    const TensorView& view = grads.view(static_cast<int32_t>(p));
    if (!grads.Wanted(static_cast<int32_t>(p))) continue;
    outcome.gradients.emplace_back(view.as<float>(), view.as<float>() + view.numel());
  }
  outcome.arena_elements = pass.plan().row_elements;
  outcome.arena_bytes = pass.arena_bytes();
  outcome.n_groups = pass.plan().groups.size();
  outcome.n_recomputed = pass.plan().recomputed.size();
  return outcome;
}

void ExpectSameBits(const Outcome& a, const Outcome& b) {
  ASSERT_EQ(a.gradients.size(), b.gradients.size());
  for (size_t p = 0; p < a.gradients.size(); ++p) {
    ASSERT_EQ(std::memcmp(a.gradients[p].data(), b.gradients[p].data(),
                          a.gradients[p].size() * sizeof(float)),
              0)
        << "gradient " << p;
  }
}

void CheckLevels(const TinySpec& spec, bool stacked) {
  const TinyModel<float> model(spec);
  const Stacked block(model);
  const std::span<const TensorView> views =
      stacked ? block.views() : std::span<const TensorView>(model.views);
  const Outcome kept = RunPass(model, views, 0);
  EXPECT_EQ(kept.n_recomputed, 0U);
  for (int32_t level = 1; level <= kRecomputeMost; ++level) {
    const Outcome again = RunPass(model, views, level);
    EXPECT_GT(again.n_recomputed, 0U);
    EXPECT_LT(again.arena_elements, kept.arena_elements) << level;
    ExpectSameBits(kept, again);
  }
}

TEST(Recompute, GradientsAreTheSameBits) {
  for (const bool stacked : {false, true}) {
    CheckLevels({.layers = 3}, stacked);
    CheckLevels({.layers = 3, .heads = 8, .kv_heads = 4}, stacked);
    CheckLevels({.layers = 3, .branch_first = true}, stacked);
  }
}
TEST(Recompute, GradientsAreTheSameBitsWithCustomOps) {
  CheckLevels({.layers = 3, .custom_ops = true}, false);
  CheckLevels({.layers = 3, .custom_ops = true, .frozen_mix = RETORT_PARAM_FROZEN}, true);
}
TEST(Recompute, GradientsAreTheSameBitsWithRowOps) {
  CheckLevels({.layers = 3, .row_ops = true}, false);
  CheckLevels({.layers = 3, .frozen_rows = RETORT_PARAM_FROZEN, .row_ops = true}, true);
}
TEST(Recompute, GradientsAreTheSameBitsWithExperts) {
  for (const bool stacked : {false, true}) {
    CheckLevels({.layers = 3, .experts = true, .aux_coef = 0.3}, stacked);
  }
}
TEST(Recompute, GradientsAreTheSameBitsWithAFrozenEmbedding) {
  CheckLevels({.layers = 3, .tied = false, .frozen_embedding = RETORT_PARAM_FROZEN}, true);
}

// The layout of the first pass, a larger one, and one that has more room than it needs.
void CheckLent(const TinySpec& spec) {
  const TinyModel<float> model(spec);
  const Stacked block(model);
  const std::vector<int32_t> few = {9, 23, 1}, many = {40, 7};
  for (int32_t level = 0; level <= kRecomputeMost; ++level) {
    const Outcome small = RunPass(model, block.views(), level, {few});
    const Outcome large = RunPass(model, block.views(), level, {many});
    const Outcome lent = RunPass(model, block.views(), level, {few}, /*lends=*/true);
    ExpectSameBits(small, lent);
    ExpectSameBits(large, RunPass(model, block.views(), level, {few, many}, true));
    ExpectSameBits(small, RunPass(model, block.views(), level, {many, few}, true));
    ASSERT_EQ(std::memcmp(small.hidden.data(), lent.hidden.data(), 4 * lent.hidden.size()), 0);
  }
}

TEST(Lent, GradientsAreTheSameBits) {
  for (const bool tied : {false, true}) {
    CheckLent({.layers = 3, .heads = 8, .kv_heads = 4, .tied = tied});
    CheckLent({.layers = 3, .tied = tied, .branch_first = true});
  }
  CheckLent({.layers = 3, .tied = false, .frozen_embedding = RETORT_PARAM_FROZEN});
  CheckLent({.layers = 3, .custom_ops = true});
  CheckLent({.layers = 3, .row_ops = true});
  CheckLent({.layers = 3, .experts = true, .aux_coef = 0.3});
}

TEST(Lent, APassOverFewRowsFindsRoomInTheGradients) {
  const TinyModel<float> model({.layers = 8, .width = 128, .head_dim = 32, .hidden = 512});
  const Stacked block(model);
  const Outcome own = RunPass(model, block.views(), 0, {{90}});
  const Outcome lent = RunPass(model, block.views(), 0, {{90}}, true);
  ExpectSameBits(own, lent);
  EXPECT_LT(lent.arena_bytes, own.arena_bytes / 2);
}

TEST(Merge, GradientsAreThoseOfSeparateProducts) {
  for (const bool row_ops : {false, true}) {
    const TinyModel<float> model({.layers = 2, .heads = 8, .kv_heads = 4, .row_ops = row_ops});
    const Stacked block(model);
    const Outcome apart = RunPass(model, model.views, 0), merged = RunPass(model, block.views(), 0);
    EXPECT_EQ(apart.n_groups, 0U);
    EXPECT_EQ(merged.n_groups, 4U);
    for (size_t i = 0; i < apart.hidden.size(); ++i) {
      ASSERT_NEAR(apart.hidden[i], merged.hidden[i], 2e-5);
    }
    for (size_t p = 0; p < apart.gradients.size(); ++p) {
      float largest = 0;
      for (float g : apart.gradients[p]) largest = std::max(largest, std::abs(g));
      for (size_t i = 0; i < apart.gradients[p].size(); ++i) {
        ASSERT_NEAR(apart.gradients[p][i], merged.gradients[p][i], 1e-5F * (1 + largest))
            << model.graph.params[p].name << " [" << i << "]";
      }
    }
  }
}

}  // namespace
}  // namespace retort::engine::test
