// A builder with short-hands, for tests of what it accepts and refuses.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/graph/graph.h"

namespace retort::graph {

class BuilderTest : public testing::Test {
 protected:
  retort_param Param(const char* name, std::vector<int64_t> shape,
                     std::vector<retort_slice> sources = {}) {
    retort_param_spec spec{};
    spec.struct_size = sizeof(spec);
    spec.name = name;
    spec.shape = shape.data();
    spec.ndim = static_cast<uint32_t>(shape.size());
    spec.sources = sources.data();
    spec.n_sources = static_cast<uint32_t>(sources.size());
    spec.source_stride = sizeof(retort_slice);
    return t_->param(t_->ctx, &spec);
  }
  retort_value Embedded() { return t_->embed(t_->ctx, Param("embed", {7, 8}), 1); }
  void Result(retort_value x) { t_->result(t_->ctx, x, Param("head", {7, 8}), 1, 0); }
  void ExpectError(const std::string& rule, Code code = Code::kInvalidArgument) {
    const auto graph = builder_.Finish();
    ASSERT_FALSE(graph.ok()) << "accepted; expected: " << rule;
    EXPECT_EQ(graph.status().code(), code);
    EXPECT_NE(graph.status().message().find(rule), std::string::npos) << graph.status().ToString();
  }

  // Finishes; a graph that is refused fails the test.
  Graph Finished() {
    auto graph = builder_.Finish();
    EXPECT_TRUE(graph.ok()) << graph.status().ToString();
    return graph.ok() ? std::move(graph).value() : Graph{};
  }

  Builder builder_{"test"};
  const retort_builder_v1* t_ = builder_.table();
};

}  // namespace retort::graph
