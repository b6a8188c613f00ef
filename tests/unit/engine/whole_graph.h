// What holds for every graph, whatever ops are in it: packing changes nothing, and a pass that
// keeps nothing gives the bits of one that trains. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "core/engine/pass.h"
#include "tests/unit/engine/tiny_model.h"

namespace retort::engine::test {

template <class T>
std::vector<T> Values(const TensorView& view) {
  return {view.as<T>(), view.as<T>() + view.numel()};
}

inline void ExpectPackedAsIfAlone(const TinySpec& spec) {
  TinyModel<double> model(spec);
  Inference inference(model.graph, model.views, /*n_threads=*/1);
  const std::vector<int32_t> lengths = {5, 1, 9};
  std::vector<double> want;
  for (size_t d = 0; d < lengths.size(); ++d) {
    const MicroBatch one = Documents({lengths[d]}, spec.vocab, d);
    const auto alone = Values<double>(inference.Forward(RowsOf(one), nullptr));
    want.insert(want.end(), alone.begin(), alone.end());
  }
  const MicroBatch packed = Documents(lengths, spec.vocab);
  const auto got = Values<double>(inference.Forward(RowsOf(packed), nullptr));
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-12) << i;
}

inline void ExpectInferenceEqualsTraining(const TinySpec& spec) {
  TinyModel<float> model(spec);
  Inference inference(model.graph, model.views, /*n_threads=*/1);
  Pass training(model.graph, model.views, Mode::kTraining, /*n_threads=*/1);
  const MicroBatch batch = Documents({30, 5, 17}, spec.vocab);
  const auto want = Values<float>(training.Forward(RowsOf(batch), nullptr));
  EXPECT_EQ(Values<float>(inference.Forward(RowsOf(batch), nullptr)), want);
}

// A param of a graph that a test builds by hand.
inline retort_param AddParam(const retort_builder_v1* table, const char* name,
                             const std::vector<int64_t>& shape) {
  retort_param_spec spec{};
  spec.struct_size = sizeof(spec);
  spec.name = name;
  spec.shape = shape.data();
  spec.ndim = static_cast<uint32_t>(shape.size());
  return table->param(table->ctx, &spec);
}

}  // namespace retort::engine::test
