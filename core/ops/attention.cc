// Cuts the packed rows into sequences and picks the path of each.
// SPDX-License-Identifier: Apache-2.0
#include "core/ops/attention_paths.h"

namespace retort::ops {
namespace {

// The flash kernel knows neither soft cap nor window; a window that covers the sequence is none.
bool NeedsPlain(const graph::AttentionSpec& spec, int64_t length) {
  return spec.soft_cap > 0 || (spec.window > 0 && spec.window < length);
}

}  // namespace

void AttentionForward(const graph::AttentionSpec& spec, std::span<const int32_t> cu_seqlens,
                      const TensorView& q, const TensorView& k, const TensorView& v,
                      const TensorView& out, const TensorView* lse, int n_threads) {
  for (size_t s = 0; s + 1 < cu_seqlens.size(); ++s) {
    const int64_t begin = cu_seqlens[s], end = cu_seqlens[s + 1];
    if (begin == end) continue;
    const TensorView lse_rows = lse == nullptr ? TensorView{} : lse->Rows(begin, end);
    const AttentionOperands x{.q = q.Rows(begin, end),
                              .k = k.Rows(begin, end),
                              .v = v.Rows(begin, end),
                              .out = out.Rows(begin, end),
                              .lse = lse == nullptr ? nullptr : &lse_rows};
    if (NeedsPlain(spec, end - begin)) {
      PlainForward(spec, x, n_threads);
    } else {
      FlashForward(spec, x);
    }
  }
}

void AttentionBackward(const graph::AttentionSpec& spec, std::span<const int32_t> cu_seqlens,
                       const TensorView& d_out, const TensorView& q, const TensorView& k,
                       const TensorView& v, const TensorView& out, const TensorView& lse,
                       const AttentionGradients& grads, int n_threads) {
  for (size_t s = 0; s + 1 < cu_seqlens.size(); ++s) {
    const int64_t begin = cu_seqlens[s], end = cu_seqlens[s + 1];
    if (begin == end) continue;
    const TensorView lse_rows = lse.Rows(begin, end);
    const AttentionOperands x{.q = q.Rows(begin, end),
                              .k = k.Rows(begin, end),
                              .v = v.Rows(begin, end),
                              .out = out.Rows(begin, end),
                              .lse = &lse_rows};
    const AttentionGradients rows{.dq = grads.dq.Rows(begin, end),
                                  .dk = grads.dk.Rows(begin, end),
                                  .dv = grads.dv.Rows(begin, end)};
    if (NeedsPlain(spec, end - begin)) {
      PlainBackward(spec, d_out.Rows(begin, end), x, rows, n_threads);
    } else {
      FlashBackward(spec, d_out.Rows(begin, end), x, rows);
    }
  }
}

}  // namespace retort::ops
