// SPDX-License-Identifier: Apache-2.0
#include <ATen/ops/cat.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>

#include <cstring>

#include "core/ops/ops.h"
#include "tests/unit/ops/op_check.h"

namespace retort::ops::test {
namespace {

constexpr int kThreads = 2;

struct Shape {
  graph::AttentionSpec spec;
  std::vector<int32_t> cu_seqlens;
  std::vector<Prefix> prefixes = {};

  PackedRows rows() const { return {.cu_seqlens = cu_seqlens, .prefixes = prefixes}; }
  // Rows of the batch that make up a whole text.
  std::vector<int64_t> TextOf(size_t s) const {
    std::vector<int64_t> text;
    const Prefix prefix = prefixes.empty() ? Prefix{} : prefixes[s];
    for (int32_t r = 0; r < prefix.rows; ++r) {
      text.push_back(cu_seqlens[static_cast<size_t>(prefix.sequence)] + r);
    }
    for (int32_t r = cu_seqlens[s]; r < cu_seqlens[s + 1]; ++r) text.push_back(r);
    return text;
  }
};

// Softmax over an explicit mask, head by head and sequence by sequence.
at::Tensor Reference(const Shape& shape, const std::vector<at::Tensor>& in) {
  const graph::AttentionSpec& s = shape.spec;
  std::vector<at::Tensor> sequences;
  for (size_t i = 0; i + 1 < shape.cu_seqlens.size(); ++i) {
    const std::vector<int64_t> text = shape.TextOf(i);
    const auto length = static_cast<int64_t>(text.size());
    const int64_t own = shape.cu_seqlens[i + 1] - shape.cu_seqlens[i];
    const at::Tensor rows =
        at::from_blob(const_cast<int64_t*>(text.data()), {length}, at::kLong).clone();
    at::Tensor mask = at::full({length, length}, -INFINITY, at::kDouble).triu(1);
    if (s.window > 0) {
      mask = mask + at::full({length, length}, -INFINITY, at::kDouble).tril(-s.window);
    }
    mask = mask.nan_to_num(-INFINITY, INFINITY, -INFINITY);
    std::vector<at::Tensor> heads;
    for (int64_t h = 0; h < s.n_heads; ++h) {
      const int64_t g = h / (s.n_heads / s.n_kv_heads);
      const auto part = [&](const at::Tensor& x, int64_t head) {
        return x.index_select(0, rows).narrow(1, head * s.head_dim, s.head_dim);
      };
      at::Tensor scores = part(in[0], h).matmul(part(in[1], g).t()) * s.scale;
      if (s.soft_cap > 0) scores = (scores / s.soft_cap).tanh() * s.soft_cap;
      heads.push_back((scores + mask).softmax(-1).matmul(part(in[2], g)));
    }
    sequences.push_back(at::cat(heads, 1).narrow(0, length - own, own));
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
                 AttentionForward(s, shape.rows(), q.view(), k.view(), v.view(), y.view(), &l,
                                  workspace, kThreads);
               },
           .backward =
               [&] {
                 AttentionBackward(
                     s, shape.rows(), dy.view(), q.view(), k.view(), v.view(), y.view(), lse.view(),
                     {.dq = dq.view(), .dk = dk.view(), .dv = dv.view()}, workspace, kThreads);
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
TEST(AttentionBackward, TextsShareTheRowsOfTheirBeginning) {
  const std::vector<Prefix> prefixes = {{}, {0, 4}, {}, {0, 4}, {0, 2}, {2, 3}};
  CheckAttention({kGrouped, {0, 6, 9, 12, 13, 15, 19}, prefixes});
  CheckAttention({With(3, 1.5), {0, 6, 9, 12, 13, 15, 19}, prefixes});
}
// Beside whole texts, which are checked above: own rows have the same bits, however many turns it
// takes; gradients of shared keys are sums over the texts.
TEST(AttentionBackward, MoreSharedRowsThanOneTurnTakes) {
  constexpr int32_t kRows = 500, kOwn = 40;
  const graph::AttentionSpec spec = {.n_heads = 2, .n_kv_heads = 1, .head_dim = 2, .scale = 0.7};
  const std::vector<int32_t> shared_at = {0, kRows, kRows + kOwn, kRows + 2 * kOwn};
  const std::vector<Prefix> prefixes = {{}, {0, kRows}, {0, kRows}};
  const int64_t rows = shared_at.back();
  Array q({rows, 4}, 1), k({rows, 2}, 2), v({rows, 2}, 3), dy({rows, 4}, 4);
  const auto run = [&](const PackedRows& packed, Array& y, Array& dk) {
    Array lse = Array::Zeros({rows, 2}), dq = y, dv = dk;
    Workspace workspace;
    const TensorView l = lse.view();
    AttentionForward(spec, packed, q.view(), k.view(), v.view(), y.view(), &l, workspace, kThreads);
    AttentionBackward(spec, packed, dy.view(), q.view(), k.view(), v.view(), y.view(), l,
                      {.dq = dq.view(), .dk = dk.view(), .dv = dv.view()}, workspace, kThreads);
  };
  Array y = Array::Zeros({rows, 4}), dk = Array::Zeros({rows, 2});
  run({.cu_seqlens = shared_at, .prefixes = prefixes}, y, dk);
  // The first continuation lies right behind the shared rows: together they are one whole text.
  const std::vector<int32_t> whole_at = {0, kRows + kOwn, kRows + 2 * kOwn};
  Array whole = Array::Zeros({rows, 4}), d_whole = Array::Zeros({rows, 2});
  run({.cu_seqlens = whole_at}, whole, d_whole);
  const auto bytes = static_cast<size_t>((kRows + kOwn) * 4 * DTypeSize(y.view().dtype));
  EXPECT_EQ(std::memcmp(y.view().data, whole.view().data, bytes), 0);
  const int64_t own = DTypeSize(y.view().dtype) * 2 * kRows;
  EXPECT_EQ(std::memcmp(static_cast<char*>(dk.view().data) + own,
                        static_cast<char*>(d_whole.view().data) + own,
                        static_cast<size_t>(kOwn * 2 * DTypeSize(y.view().dtype))),
            0);
  EXPECT_NE(std::memcmp(dk.view().data, d_whole.view().data, static_cast<size_t>(own)), 0);
}
TEST(AttentionBackward, WindowAndSoftCap) { CheckAttention({With(3, 1.5), {0, 7}}); }

}  // namespace
}  // namespace retort::ops::test
