// SPDX-License-Identifier: Apache-2.0
#include "core/engine/plan.h"

#include "tests/unit/engine/tiny_model.h"

namespace retort::engine::test {
namespace {

bool LiveTogether(const Buffer& a, const Buffer& b) {
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
    CheckNoOverlap(MakePlan(graph, Mode::kTraining));
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
    EXPECT_EQ(plan.nodes[i].in[0].delivery, Delivery::kPassThrough);
    EXPECT_EQ(plan.nodes[i].in[1].delivery, Delivery::kPassThrough);
    EXPECT_TRUE(plan.nodes[i].fuse_next);
  }
}

}  // namespace
}  // namespace retort::engine::test
