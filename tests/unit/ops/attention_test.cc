// SPDX-License-Identifier: Apache-2.0
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>

#include "core/ops/ops.h"
#include "tests/unit/ops/op_check.h"

namespace retort::ops::test {
namespace {

constexpr int kThreads = 2;

struct Shape {
  graph::AttentionSpec spec;
  std::vector<int32_t> cu_seqlens;
};

// Softmax over an explicit mask, head by head and sequence by sequence.
at::Tensor Reference(const Shape& shape, const std::vector<at::Tensor>& in) {
  const graph::AttentionSpec& s = shape.spec;
  std::vector<at::Tensor> sequences;
  for (size_t i = 0; i + 1 < shape.cu_seqlens.size(); ++i) {
    const int64_t begin = shape.cu_seqlens[i], length = shape.cu_seqlens[i + 1] - begin;
    at::Tensor mask = at::full({length, length}, -INFINITY, at::kDouble).triu(1);
    if (s.window > 0) {
      mask = mask + at::full({length, length}, -INFINITY, at::kDouble).tril(-s.window);
    }
    mask = mask.nan_to_num(-INFINITY, INFINITY, -INFINITY);
    std::vector<at::Tensor> heads;
    for (int64_t h = 0; h < s.n_heads; ++h) {
      const int64_t g = h / (s.n_heads / s.n_kv_heads);
      const auto part = [&](const at::Tensor& x, int64_t head) {
        return x.narrow(0, begin, length).narrow(1, head * s.head_dim, s.head_dim);
      };
      at::Tensor scores = part(in[0], h).matmul(part(in[1], g).t()) * s.scale;
      if (s.soft_cap > 0) scores = (scores / s.soft_cap).tanh() * s.soft_cap;
      heads.push_back((scores + mask).softmax(-1).matmul(part(in[2], g)));
    }
    sequences.push_back(at::cat(heads, 1));
  }
  return at::cat(sequences, 0);
}

void CheckAttention(const Shape& shape) {
  const graph::AttentionSpec& s = shape.spec;
  const int64_t rows = shape.cu_seqlens.back();
  const int64_t wide = s.n_heads * s.head_dim, narrow = s.n_kv_heads * s.head_dim;
  Array q({rows, wide}, 1), k({rows, narrow}, 2), v({rows, narrow}, 3), dy({rows, wide}, 4);
  Array y = Array::Zeros({rows, wide}), lse = Array::Zeros({rows, s.n_heads});
  Array dq = y, dk = Array::Zeros({rows, narrow}), dv = dk;
  Workspace workspace;
  CheckOp({.inputs = {&q, &k, &v},
           .grads = {&dq, &dk, &dv},
           .y = y,
           .dy = dy,
           .forward =
               [&] {
                 const TensorView l = lse.view();
                 AttentionForward(s, shape.cu_seqlens, q.view(), k.view(), v.view(), y.view(), &l,
                                  workspace, kThreads);
               },
           .backward =
               [&] {
                 AttentionBackward(s, shape.cu_seqlens, dy.view(), q.view(), k.view(), v.view(),
                                   y.view(), lse.view(),
                                   {.dq = dq.view(), .dk = dk.view(), .dv = dv.view()}, workspace,
                                   kThreads);
               },
           .reference = [&](const std::vector<at::Tensor>& in) { return Reference(shape, in); }});
}

constexpr graph::AttentionSpec kGrouped = {
    .n_heads = 4, .n_kv_heads = 2, .head_dim = 8, .scale = 0.3};

graph::AttentionSpec With(int64_t window, double soft_cap) {
  graph::AttentionSpec spec = kGrouped;
  spec.window = window;
  spec.soft_cap = soft_cap;
  return spec;
}

TEST(AttentionBackward, GroupedHeadsOfOneSequence) { CheckAttention({kGrouped, {0, 6}}); }
TEST(AttentionBackward, PackedSequencesDoNotSeeEachOther) {
  CheckAttention({kGrouped, {0, 3, 4, 4, 9}});
}
TEST(AttentionBackward, EqualHeads) {
  CheckAttention({{.n_heads = 3, .n_kv_heads = 3, .head_dim = 4, .scale = 0.5}, {0, 5}});
}
TEST(AttentionBackward, Window) { CheckAttention({With(2, 0), {0, 6, 8}}); }
TEST(AttentionBackward, SoftCap) { CheckAttention({With(0, 1.5), {0, 5}}); }
TEST(AttentionBackward, MoreRowsThanABlock) {
  CheckAttention(
      {{.n_heads = 2, .n_kv_heads = 1, .head_dim = 2, .window = 30, .scale = 0.7}, {0, 50}});
}
TEST(AttentionBackward, WindowAndSoftCap) { CheckAttention({With(3, 1.5), {0, 7}}); }

}  // namespace
}  // namespace retort::ops::test
