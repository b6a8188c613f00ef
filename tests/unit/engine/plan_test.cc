// SPDX-License-Identifier: Apache-2.0
#include "core/engine/plan.h"

#include "tests/unit/engine/tiny_model.h"

namespace retort::engine::test {
namespace {

bool LiveTogether(const Buffer& a, const Buffer& b) {
  if (a.parent >= 0 || b.parent >= 0) return false;  // columns: checked as their whole
  return a.first <= b.last && b.first <= a.last;
}
bool Overlap(const Buffer& a, const Buffer& b) {
  return a.offset < b.offset + b.width && b.offset < a.offset + a.width;
}

void CheckNoOverlap(const Plan& plan) {
  for (size_t a = 0; a < plan.buffers.size(); ++a) {
    EXPECT_LE(plan.buffers[a].offset + plan.buffers[a].width, plan.row_elements);
    for (size_t b = a + 1; b < plan.buffers.size(); ++b) {
      if (!LiveTogether(plan.buffers[a], plan.buffers[b])) continue;
      EXPECT_FALSE(Overlap(plan.buffers[a], plan.buffers[b])) << a << " and " << b;
    }
  }
}

TEST(Plan, BuffersThatLiveTogetherDoNotOverlap) {
  for (const bool branch_first : {false, true}) {
    const graph::Graph graph = TinyFamily({.layers = 3, .branch_first = branch_first}).Build();
    CheckNoOverlap(MakePlan(graph, Mode::kInference));
    const auto groups = graph::MergeGroups(graph);
    for (int32_t level = 0; level <= kRecomputeMost; ++level) {
      CheckNoOverlap(MakePlan(graph, {.mode = Mode::kTraining, .recompute = level}));
      CheckNoOverlap(
          MakePlan(graph, {.mode = Mode::kTraining, .recompute = level, .groups = groups}));
    }
  }
}

TEST(Plan, InferenceMemoryDoesNotGrowWithDepth) {
  const graph::Graph shallow = TinyFamily({.layers = 2}).Build();
  const graph::Graph deep = TinyFamily({.layers = 9}).Build();
  EXPECT_EQ(MakePlan(shallow, Mode::kInference).row_elements,
            MakePlan(deep, Mode::kInference).row_elements);
}

TEST(Plan, ResidualGradientsAreSharedNotCopied) {
  const graph::Graph graph = TinyFamily({.layers = 2}).Build();
  const Plan plan = MakePlan(graph, Mode::kTraining);
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    if (graph.nodes[i].op != graph::Op::kAdd) continue;
    EXPECT_EQ(plan.backward[i].in[0].delivery, Delivery::kPassThrough);
    EXPECT_EQ(plan.backward[i].in[1].delivery, Delivery::kPassThrough);
    EXPECT_TRUE(plan.nodes[i].fuse_next);
  }
}

int64_t RowElements(const graph::Graph& graph, int32_t level) {
  return MakePlan(graph, {.mode = Mode::kTraining, .recompute = level}).row_elements;
}

TEST(Plan, EachRecomputeLevelTakesLess) {
  const graph::Graph graph = TinyFamily({.layers = 6}).Build();
  EXPECT_LT(RowElements(graph, 1), RowElements(graph, 0));
  EXPECT_LT(RowElements(graph, 2), RowElements(graph, 1));
}

// What a block more costs at level 2 is its input alone: two sums of the residual stream, of which
// the one inside the block is rebuilt.
TEST(Plan, AtLevelTwoADeeperModelKeepsOneRowMoreForEachBlock) {
  const TinySpec spec;
  const graph::Graph few = TinyFamily({.layers = 6}).Build(),
                     many = TinyFamily({.layers = 7}).Build();
  EXPECT_EQ(RowElements(many, 2) - RowElements(few, 2), spec.width);
}

TEST(Plan, NothingBelowTheFirstTrainedParamHasABackward) {
  graph::Graph graph = TinyFamily({.layers = 3, .tied = false}).Build();
  for (graph::Param& param : graph.params) {
    const bool trained = param.name.rfind("layers.1.", 0) == 0 || param.name == "norm.weight";
    if (!trained) param.flags |= RETORT_PARAM_FROZEN;
  }
  const Plan plan = MakePlan(graph, Mode::kTraining);
  for (const BackwardStep& step : plan.steps) {
    EXPECT_GE(graph.nodes[static_cast<size_t>(step.node)].block, 1);
  }
  bool linear_keeps_input = false;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const graph::Node& node = graph.nodes[i];
    if (node.op == graph::Op::kLinear && node.block == 2) {
      linear_keeps_input = linear_keeps_input || plan.backward[i].in[0].value >= 0;
    }
  }
  EXPECT_FALSE(linear_keeps_input);  // frozen: nothing reads it again
}

TEST(MergeGroups, AreQueryKeyValueAndGateUp) {
  const graph::Graph graph = TinyFamily({.layers = 2}).Build();
  const auto groups = graph::MergeGroups(graph);
  ASSERT_EQ(groups.size(), 2U);  // gate and up; biases of 8 floats don't line up
  const graph::Graph wide = TinyFamily({.layers = 2, .heads = 8, .kv_heads = 4}).Build();
  const auto wide_groups = graph::MergeGroups(wide);
  ASSERT_EQ(wide_groups.size(), 4U);
  EXPECT_EQ(wide_groups[0].nodes.size(), 3U);
  EXPECT_EQ(wide_groups[1].nodes.size(), 2U);
  const std::vector<int32_t> order = graph::ParamOrder(wide);
  std::vector<bool> seen(wide.params.size());
  for (int32_t p : order) {
    ASSERT_FALSE(seen[static_cast<size_t>(p)]);
    seen[static_cast<size_t>(p)] = true;
  }
  EXPECT_EQ(order.size(), wide.params.size());
}

}  // namespace
}  // namespace retort::engine::test
