// Attention of packed texts by the training kernels, which know sequences that lie whole and side
// by side. Where texts share the rows of their beginning, copies of some texts' rows are laid out
// so, a few texts at a time, and what concerns shared rows is added up in the order of the texts.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <vector>

#include "core/ops/dispatch.h"
#include "core/ops/ops.h"
#include "retort/kernels/attention_train.h"
#include "retort/kernels/parallel.h"

namespace retort::ops {
namespace {

retort_train_attention_shape Shape(const graph::AttentionSpec& spec) {
  return {.n_heads = spec.n_heads,
          .n_kv_heads = spec.n_kv_heads,
          .head_dim = spec.head_dim,
          .window = spec.window,
          .scale = spec.scale,
          .soft_cap = spec.soft_cap,
          .n_sequences = 0,
          .cu_seqlens = nullptr,
          .q_stride = 0,
          .k_stride = 0,
          .v_stride = 0,
          .out_stride = 0,
          .dq_stride = 0,
          .dk_stride = 0,
          .dv_stride = 0,
          .d_out_stride = 0};
}

retort_train_attention_shape Shape(const graph::AttentionSpec& spec,
                                   std::span<const int32_t> cu_seqlens, const TensorView& q,
                                   const TensorView& k, const TensorView& v,
                                   const TensorView& out) {
  retort_train_attention_shape shape = Shape(spec);
  shape.n_sequences = static_cast<int64_t>(cu_seqlens.size()) - 1;
  shape.cu_seqlens = cu_seqlens.data();
  shape.q_stride = q.strides[0];
  shape.k_stride = k.strides[0];
  shape.v_stride = v.strides[0];
  shape.out_stride = out.strides[0];
  return shape;
}

int64_t Longest(std::span<const int32_t> cu_seqlens) {
  int64_t longest = 0;
  for (size_t s = 0; s + 1 < cu_seqlens.size(); ++s) {
    longest = std::max<int64_t>(longest, cu_seqlens[s + 1] - cu_seqlens[s]);
  }
  return longest;
}

struct Tensors {
  TensorView q, k, v, out, lse;  // lse without data: not wanted
  TensorView d_out = {}, dq = {}, dk = {}, dv = {};
};

void Forward(const graph::AttentionSpec& spec, std::span<const int32_t> cu_seqlens,
             const Tensors& t, void* scratch, int n_threads) {
  const retort_train_attention_shape shape = Shape(spec, cu_seqlens, t.q, t.k, t.v, t.out);
  if (t.q.dtype == DType::kF32) {
    retort_train_attention_f32(&shape, t.q.as<float>(), t.k.as<float>(), t.v.as<float>(),
                               t.out.as<float>(), static_cast<float*>(t.lse.data), scratch,
                               n_threads);
  } else {
    retort_train_attention_f64(&shape, t.q.as<double>(), t.k.as<double>(), t.v.as<double>(),
                               t.out.as<double>(), static_cast<double*>(t.lse.data), scratch,
                               n_threads);
  }
}

void Backward(const graph::AttentionSpec& spec, std::span<const int32_t> cu_seqlens,
              const Tensors& t, void* scratch, int n_threads) {
  retort_train_attention_shape shape = Shape(spec, cu_seqlens, t.q, t.k, t.v, t.out);
  shape.dq_stride = t.dq.strides[0];
  shape.dk_stride = t.dk.strides[0];
  shape.dv_stride = t.dv.strides[0];
  shape.d_out_stride = t.d_out.strides[0];
  if (t.q.dtype == DType::kF32) {
    retort_train_attention_backward_f32(&shape, t.d_out.as<float>(), t.q.as<float>(),
                                        t.k.as<float>(), t.v.as<float>(), t.out.as<float>(),
                                        t.lse.as<float>(), t.dq.as<float>(), t.dk.as<float>(),
                                        t.dv.as<float>(), scratch, n_threads);
  } else {
    retort_train_attention_backward_f64(&shape, t.d_out.as<double>(), t.q.as<double>(),
                                        t.k.as<double>(), t.v.as<double>(), t.out.as<double>(),
                                        t.lse.as<double>(), t.dq.as<double>(), t.dk.as<double>(),
                                        t.dv.as<double>(), scratch, n_threads);
  }
}

size_t WholeLength(const PackedRows& packed, size_t s) {
  return static_cast<size_t>(packed.prefixes[s].rows + packed.length(s));
}

// Some texts of a batch, each whole: of every row of theirs, which row of the batch it is.
class WholeTexts {
 public:
  // As many from `begin` on as have kMostRows together; at least one.
  WholeTexts(const PackedRows& packed, size_t begin) {
    constexpr size_t kMostRows = 1024;
    size_t s = begin;
    do {
      const Prefix prefix = packed.prefixes[s];
      const int32_t from =
          prefix.sequence < 0 ? 0 : packed.cu_seqlens[static_cast<size_t>(prefix.sequence)];
      n_shared_.push_back(prefix.rows);
      for (int32_t r = 0; r < n_shared_.back(); ++r) rows_.push_back(from + r);
      for (int32_t r = packed.cu_seqlens[s]; r < packed.cu_seqlens[s + 1]; ++r) rows_.push_back(r);
      cu_seqlens_.push_back(static_cast<int32_t>(rows_.size()));
      ++s;
    } while (s < packed.n_sequences() && rows_.size() + WholeLength(packed, s) <= kMostRows);
    end_ = s;
  }
  size_t end() const { return end_; }
  int64_t n_rows() const { return static_cast<int64_t>(rows_.size()); }
  std::span<const int32_t> cu_seqlens() const { return cu_seqlens_; }

  // Calls fn(row here, row of the batch, whether another text has it, too), texts in order. Calls
  // for one row of the batch come from one thread.
  template <class Fn>
  void EachRow(int n_threads, Fn&& fn) const {
    struct Context {
      const WholeTexts& texts;
      Fn& fn;
      int32_t n_parts;
    } context{*this, fn, n_threads};
    const auto run = [](void* c, int64_t part) {
      const Context& of = *static_cast<const Context*>(c);
      of.texts.RunPart(static_cast<int32_t>(part), of.n_parts, of.fn);
    };
    retort_parallel_for(n_threads, n_threads, run, &context);
  }

 private:
  template <class Fn>
  void RunPart(int32_t part, int32_t n_parts, Fn& fn) const {
    for (size_t s = 0; s < n_shared_.size(); ++s) {
      const auto begin = static_cast<size_t>(cu_seqlens_[s]);
      const auto end = static_cast<size_t>(cu_seqlens_[s + 1]);
      for (size_t r = begin; r < end; ++r) {
        if (rows_[r] % n_parts != part) continue;
        fn(static_cast<int64_t>(r), rows_[r], r < begin + static_cast<size_t>(n_shared_[s]));
      }
    }
  }

  std::vector<int32_t> rows_, n_shared_, cu_seqlens_ = {0};
  size_t end_ = 0;
};

void CopyRow(const TensorView& from, int64_t row, const TensorView& to, int64_t to_row) {
  std::memcpy(to.Rows(to_row, to_row + 1).data, from.Rows(row, row + 1).data,
              static_cast<size_t>(from.cols() * DTypeSize(from.dtype)));
}

void ZeroRow(const TensorView& x, int64_t row) {
  std::memset(x.Rows(row, row + 1).data, 0, static_cast<size_t>(x.cols() * DTypeSize(x.dtype)));
}

void AddRow(const TensorView& from, int64_t row, const TensorView& to, int64_t to_row) {
  ByType(from, [&](auto zero) {
    using T = decltype(zero);
    const T* x = from.Rows(row, row + 1).as<T>();
    T* sum = to.Rows(to_row, to_row + 1).as<T>();
    for (int64_t c = 0; c < from.cols(); ++c) sum[c] += x[c];
  });
}

constexpr TensorView Tensors::*kInputs[] = {&Tensors::q, &Tensors::k, &Tensors::v};
constexpr TensorView Tensors::*kBackwardInputs[] = {&Tensors::q,   &Tensors::k,   &Tensors::v,
                                                    &Tensors::out, &Tensors::lse, &Tensors::d_out};
constexpr TensorView Tensors::*kForwardOutputs[] = {&Tensors::out, &Tensors::lse};
constexpr TensorView Tensors::*kGradients[] = {&Tensors::dq, &Tensors::dk, &Tensors::dv};

int64_t Aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// Room for copies of `rows` rows of all that t has, at `memory` (NULL: none yet), and how much.
Tensors CopiesOf(const Tensors& t, int64_t rows, unsigned char* memory, int64_t* bytes) {
  Tensors copies = t;
  *bytes = 0;
  for (TensorView Tensors::*member :
       {&Tensors::q, &Tensors::k, &Tensors::v, &Tensors::out, &Tensors::lse, &Tensors::d_out,
        &Tensors::dq, &Tensors::dk, &Tensors::dv}) {
    if ((t.*member).data == nullptr) continue;
    void* const at = memory == nullptr ? nullptr : memory + *bytes;
    copies.*member = TensorView::Contiguous(at, t.q.dtype, {rows, (t.*member).cols()});
    *bytes += Aligned((copies.*member).bytes());
  }
  return copies;
}

// Calls fn(texts, copies' memory, the kernels' scratch) for all texts, some at a time.
template <class Fn>
void EachWholeTexts(const graph::AttentionSpec& spec, const PackedRows& packed, const Tensors& t,
                    Workspace& workspace, int n_threads, Fn&& fn) {
  const bool backward = t.d_out.data != nullptr;
  for (size_t s = 0; s < packed.n_sequences();) {
    const WholeTexts texts(packed, s);
    int64_t bytes = 0;
    CopiesOf(t, texts.n_rows(), nullptr, &bytes);
    const int64_t scratch =
        AttentionWorkspaceBytes(spec, t.q.dtype, Longest(texts.cu_seqlens()), backward, n_threads);
    auto* const memory = static_cast<unsigned char*>(workspace.Reserve(bytes + scratch));
    fn(texts, CopiesOf(t, texts.n_rows(), memory, &bytes), memory + bytes);
    s = texts.end();
  }
}

void ForwardShared(const graph::AttentionSpec& spec, const PackedRows& packed, const Tensors& t,
                   Workspace& workspace, int n_threads) {
  EachWholeTexts(spec, packed, t, workspace, n_threads,
                 [&](const WholeTexts& texts, const Tensors& copies, void* scratch) {
                   texts.EachRow(n_threads, [&](int64_t here, int64_t row, bool) {
                     for (const auto m : kInputs) CopyRow(t.*m, row, copies.*m, here);
                   });
                   Forward(spec, texts.cu_seqlens(), copies, scratch, n_threads);
                   texts.EachRow(n_threads, [&](int64_t here, int64_t row, bool shared) {
                     for (const auto m : kForwardOutputs) {
                       if (shared || (t.*m).data == nullptr) continue;
                       CopyRow(copies.*m, here, t.*m, row);
                     }
                   });
                 });
}

// The queries of shared rows count once, in the text that has them: elsewhere their output's
// gradient is 0.
void BackwardShared(const graph::AttentionSpec& spec, const PackedRows& packed, const Tensors& t,
                    Workspace& workspace, int n_threads) {
  EachWholeTexts(spec, packed, t, workspace, n_threads,
                 [&](const WholeTexts& texts, const Tensors& copies, void* scratch) {
                   texts.EachRow(n_threads, [&](int64_t here, int64_t row, bool shared) {
                     for (const auto m : kBackwardInputs) CopyRow(t.*m, row, copies.*m, here);
                     if (shared) ZeroRow(copies.d_out, here);
                   });
                   Backward(spec, texts.cu_seqlens(), copies, scratch, n_threads);
                   texts.EachRow(n_threads, [&](int64_t here, int64_t row, bool shared) {
                     for (const auto m : kGradients) {
                       if (!shared) CopyRow(copies.*m, here, t.*m, row);
                     }
                   });
                   texts.EachRow(n_threads, [&](int64_t here, int64_t row, bool shared) {
                     if (!shared) return;
                     AddRow(copies.dk, here, t.dk, row);
                     AddRow(copies.dv, here, t.dv, row);
                   });
                 });
}

}  // namespace

int64_t AttentionWorkspaceBytes(const graph::AttentionSpec& spec, DType dtype, int64_t longest,
                                bool backward, int n_threads) {
  const retort_train_attention_shape shape = Shape(spec);
  const int both = backward ? 1 : 0;
  return dtype == DType::kF64
             ? retort_train_attention_scratch_f64(&shape, longest, both, n_threads)
             : retort_train_attention_scratch_f32(&shape, longest, both, n_threads);
}

void AttentionForward(const graph::AttentionSpec& spec, const PackedRows& rows, const TensorView& q,
                      const TensorView& k, const TensorView& v, const TensorView& out,
                      const TensorView* lse, Workspace& workspace, int n_threads) {
  const Tensors t{.q = q, .k = k, .v = v, .out = out, .lse = lse == nullptr ? TensorView{} : *lse};
  if (!rows.prefixes.empty()) return ForwardShared(spec, rows, t, workspace, n_threads);
  void* const scratch = workspace.Reserve(
      AttentionWorkspaceBytes(spec, q.dtype, Longest(rows.cu_seqlens), false, n_threads));
  Forward(spec, rows.cu_seqlens, t, scratch, n_threads);
}

void AttentionBackward(const graph::AttentionSpec& spec, const PackedRows& rows,
                       const TensorView& d_out, const TensorView& q, const TensorView& k,
                       const TensorView& v, const TensorView& out, const TensorView& lse,
                       const AttentionGradients& grads, Workspace& workspace, int n_threads) {
  const Tensors t{.q = q,
                  .k = k,
                  .v = v,
                  .out = out,
                  .lse = lse,
                  .d_out = d_out,
                  .dq = grads.dq,
                  .dk = grads.dk,
                  .dv = grads.dv};
  if (!rows.prefixes.empty()) return BackwardShared(spec, rows, t, workspace, n_threads);
  void* const scratch = workspace.Reserve(
      AttentionWorkspaceBytes(spec, q.dtype, Longest(rows.cu_seqlens), true, n_threads));
  Backward(spec, rows.cu_seqlens, t, scratch, n_threads);
}

}  // namespace retort::ops
