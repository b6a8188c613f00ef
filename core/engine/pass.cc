// Set-up, checks and forward; backward is in pass_backward.cc.
// SPDX-License-Identifier: Apache-2.0
#include "core/engine/pass.h"

#include <algorithm>
#include <string>

#include "core/base/features.h"
#include "core/base/status.h"
#include "core/graph/shared_rows.h"

namespace retort::engine {
namespace {

using graph::Node;
using graph::Op;

bool SameRope(const graph::RopeSpec& a, const graph::RopeSpec& b) {
  return a.rotary_dim == b.rotary_dim && a.max_positions == b.max_positions && a.theta == b.theta &&
         a.scaling_json == b.scaling_json;
}

// Of activations: weights that aren't trained may be narrower, in blocks even.
DType ActivationType(std::span<const TensorView> params) {
  const auto is_f64 = [](const TensorView& param) { return param.dtype == DType::kF64; };
  return std::any_of(params.begin(), params.end(), is_f64) ? DType::kF64 : DType::kF32;
}

// The params of a group's nodes as one view, or one without data: they don't lie side by side.
TensorView Stacked(const graph::Graph& graph, const graph::MergeGroup& group,
                   std::span<const TensorView> views, size_t slot) {
  const auto at = [&](size_t k) -> const TensorView& {
    const Node& node = graph.nodes[static_cast<size_t>(group.nodes[k])];
    return views[static_cast<size_t>(node.params[slot])];
  };
  TensorView all = at(0);
  if (all.dtype != DType::kF32 && all.dtype != DType::kF64) return {};
  for (size_t k = 1; k < group.nodes.size(); ++k) {
    const TensorView& next = at(k);
    const char* end = static_cast<const char*>(all.data) + all.bytes();
    if (next.dtype != all.dtype || next.data != end) return {};
    all.shape[0] += next.shape[0];
  }
  return all;
}

// Groups whose weights in memory are what they must be.
std::vector<graph::MergeGroup> GroupsInMemory(const graph::Graph& graph,
                                              std::span<const TensorView> params) {
  if (IsDisabled("merge")) return {};
  std::vector<graph::MergeGroup> groups = graph::MergeGroups(graph);
  std::erase_if(groups, [&](const graph::MergeGroup& group) {
    const bool biased = graph.nodes[static_cast<size_t>(group.nodes[0])].params[1] >= 0;
    return Stacked(graph, group, params, 0).data == nullptr ||
           (biased && Stacked(graph, group, params, 1).data == nullptr);
  });
  return groups;
}

// The node after the last one that looks at other rows, or at the batch.
size_t RowByRowFrom(const graph::Graph& graph) {
  size_t from = graph.nodes.size();
  while (from > 0) {
    const Op op = graph.nodes[from - 1].op;
    if (op == Op::kAttention || op == Op::kCustom || op == Op::kRope || op == Op::kEmbed) break;
    --from;
  }
  return from;
}

}  // namespace

ops::NormSpec NormOf(const Node& node, int64_t width) {
  return {.groups = node.op == Op::kHeadNorm ? width / node.head_dim : 1,
          .eps = node.eps,
          .weight_offset = node.weight_offset};
}

Pass::Pass(const graph::Graph& graph, std::span<const TensorView> params, Mode mode, int n_threads,
           int32_t adapter, int32_t recompute)
    : graph_(graph),
      params_(params),
      mode_(mode),
      n_threads_(n_threads),
      adapter_(adapter),
      dtype_(ActivationType(params)),
      plan_(MakePlan(graph, {.mode = mode,
                             .dtype = dtype_,
                             .adapter = adapter,
                             .recompute = recompute,
                             .groups = GroupsInMemory(graph, params)})),
      memory_(graph, plan_, dtype_),
      custom_ops_(graph, plan_, params, n_threads),
      moe_tallies_(graph),
      angles_of_(graph.nodes.size(), -1),
      may_share_rows_(graph::TextsMayShareRows(graph)),
      row_by_row_from_(RowByRowFrom(graph)) {
  for (const graph::MergeGroup& group : plan_.groups) {
    const bool biased = NodeAt(static_cast<size_t>(group.nodes[0])).params[1] >= 0;
    groups_.push_back({.weight = Stacked(graph, group, params, 0),
                       .bias = biased ? Stacked(graph, group, params, 1) : TensorView{}});
  }
  std::vector<const graph::RopeSpec*> specs;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    if (NodeAt(i).op == Op::kEmbed) {
      const int64_t rows = ParamAt(NodeAt(i), 0).shape[0];
      vocab_ = vocab_ == 0 ? rows : std::min(vocab_, rows);
    }
    if (NodeAt(i).op != Op::kRope) continue;
    const graph::RopeSpec& spec = NodeAt(i).rope;
    const auto same = [&](const graph::RopeSpec* s) { return SameRope(*s, spec); };
    const auto found = std::find_if(specs.begin(), specs.end(), same);
    angles_of_[i] = static_cast<int32_t>(found - specs.begin());
    if (found != specs.end()) continue;
    specs.push_back(&spec);
    angles_.emplace_back(spec, dtype());
  }
}

TensorView Pass::View(BufferId id) const {
  if (id < 0) return {};
  const Buffer& buffer = plan_.buffers[static_cast<size_t>(id)];
  unsigned char* data = memory_.At(id) + first_row_ * RowStride(plan_, id) * DTypeSize(dtype());
  TensorView view = TensorView::Contiguous(data, dtype(), {rows_, buffer.width});
  view.strides[0] = RowStride(plan_, id);
  return view;
}

void Pass::CheckBatch(const RowBatch& batch) const {
  const auto bad = [](const std::string& what) { throw Error(InvalidArgument("batch: " + what)); };
  const auto rows = static_cast<int32_t>(batch.ids.size());
  if (batch.ids.empty()) bad("it has no tokens");
  if (batch.positions.size() != batch.ids.size()) bad("ids and positions differ in length");
  if (batch.cu_seqlens.size() < 2 || batch.cu_seqlens.front() != 0 ||
      batch.cu_seqlens.back() != rows ||
      !std::is_sorted(batch.cu_seqlens.begin(), batch.cu_seqlens.end())) {
    bad("cu_seqlens must rise from 0 to the number of tokens, " + std::to_string(rows));
  }
  for (int32_t id : batch.ids) {
    if (id >= 0 && id < vocab_) continue;
    bad("token id " + std::to_string(id) + " is outside the model's vocabulary of " +
        std::to_string(vocab_) + "; is this the model's tokenizer?");
  }
  for (int32_t position : batch.positions) {
    if (position < 0) bad("position " + std::to_string(position) + " is negative");
  }
  if (!batch.lengths.empty() && batch.lengths.size() + 1 != batch.cu_seqlens.size()) {
    bad("it has " + std::to_string(batch.cu_seqlens.size() - 1) + " sequences, but " +
        std::to_string(batch.lengths.size()) + " lengths");
  }
  if (batch.hidden_rows < -1 || batch.hidden_rows > rows) {
    bad("hidden_rows is " + std::to_string(batch.hidden_rows) + "; it has " + std::to_string(rows) +
        " rows (-1: all)");
  }
}

void Pass::CheckPrefixes(const RowBatch& batch, const AttentionStore* store) const {
  if (batch.prefixes.empty()) return;
  const auto bad = [](const std::string& what) { throw Error(InvalidArgument("batch: " + what)); };
  const PackedRows packed = PackedRowsOf(batch);
  if (store != nullptr || !may_share_rows_) bad("sequences of this model can't share rows");
  if (batch.prefixes.size() != packed.n_sequences()) {
    bad("it has " + std::to_string(packed.n_sequences()) + " sequences, but " +
        std::to_string(batch.prefixes.size()) + " prefixes");
  }
  for (size_t s = 0; s < batch.prefixes.size(); ++s) {
    const Prefix& prefix = batch.prefixes[s];
    if (prefix.sequence < 0 && prefix.rows == 0) continue;
    const auto of = static_cast<size_t>(prefix.sequence);
    if (prefix.sequence >= 0 && of < s && batch.prefixes[of].sequence < 0 && prefix.rows >= 0 &&
        prefix.rows <= packed.length(of)) {
      continue;
    }
    bad("sequence " + std::to_string(s) + " goes on from " + std::to_string(prefix.rows) +
        " rows of sequence " + std::to_string(prefix.sequence) +
        "; that must be an earlier one with so many rows of its own, and nothing before them");
  }
}

void Pass::KeepLastRows() {
  if (batch_.hidden_rows < 0 || mode_ == Mode::kTraining) return;  // backward reads all
  first_row_ = rows_ - batch_.hidden_rows;
  rows_ = batch_.hidden_rows;
}

TensorView Pass::Forward(const RowBatch& batch, AttentionStore* store,
                         const PassMemory::Lent* lent) {
  CheckBatch(batch);
  CheckPrefixes(batch, store);
  for (ops::RopeAngles& angles : angles_) {
    angles.Cover(batch.positions, batch.cu_seqlens, batch.lengths);
  }
  batch_ = batch;
  generates_ = store != nullptr;
  rows_ = static_cast<int64_t>(batch.ids.size());
  first_row_ = 0;
  memory_.Prepare(rows_, lent);
  for (size_t i = 0; i < row_by_row_from_; ++i) {
    ForwardNode(i, plan_.nodes[i], store);
    if (plan_.nodes[i].fuse_next) ++i;
  }
  KeepLastRows();
  for (size_t i = row_by_row_from_; i < graph_.nodes.size() && rows_ > 0; ++i) {
    ForwardNode(i, plan_.nodes[i], store);
    if (plan_.nodes[i].fuse_next) ++i;
  }
  return View(plan_.hidden);
}

void Pass::ForwardAttention(const Node& node, const NodePlan& plan, AttentionStore* store) {
  const TensorView q = View(plan.in[0].value), k = View(plan.in[1].value);
  const TensorView v = View(plan.in[2].value), out = View(plan.out);
  if (store != nullptr) return store->Attend(node, q, k, v, out);
  if (plan.saved < 0) {
    return ops::AttentionForward(node.attention, PackedRowsOf(batch_), q, k, v, out, nullptr,
                                 workspace_, n_threads_);
  }
  const TensorView lse = View(plan.saved);
  ops::AttentionForward(node.attention, PackedRowsOf(batch_), q, k, v, out, &lse, workspace_,
                        n_threads_);
}

void Pass::ForwardLayerNorm(const Node& node, const NodePlan& plan) {
  const TensorView stats = plan.saved < 0 ? TensorView{} : View(plan.saved);
  ops::LayerNormForward(View(plan.in[0].value), ParamAt(node, 0),
                        node.params[1] < 0 ? nullptr : &ParamAt(node, 1), node.eps, View(plan.out),
                        plan.saved < 0 ? nullptr : &stats, n_threads_);
}

void Pass::ForwardConcat(const Node& node, const NodePlan& plan) {
  EachConcatPart(graph_, node, [&](size_t k, const ops::ConcatPart& part) {
    ops::ConcatForward(View(plan.in[k].value), part, View(plan.out), n_threads_);
  });
}

void Pass::ForwardNode(size_t i, const NodePlan& plan, AttentionStore* store) {
  const Node& node = NodeAt(i);
  if (plan.skip) return;
  if (node.op == Op::kCustom) return custom_ops_.Forward(i, plan, Frame(), store);
  const TensorView y = View(plan.out);
  const auto x = [&](size_t k) { return View(plan.in[k].value); };
  switch (node.op) {
    case Op::kEmbed:
      return ops::EmbedForward(ParamAt(node, 0), batch_.ids, node.scale, y, n_threads_);
    case Op::kLinear: return ForwardLinear(node, plan);
    case Op::kRmsNorm:
    case Op::kHeadNorm: {
      const TensorView rstd = plan.saved < 0 ? TensorView{} : View(plan.saved);
      return ops::NormForward(NormOf(node, y.cols()), x(0), ParamAt(node, 0), y,
                              plan.saved < 0 ? nullptr : &rstd, n_threads_);
    }
    case Op::kLayerNorm: return ForwardLayerNorm(node, plan);
    case Op::kRope:
      return ops::Rope(node, angles_[static_cast<size_t>(angles_of_[i])], ops::Rotation::kForward,
                       batch_.positions, x(0), y, n_threads_);
    case Op::kAttention: return ForwardAttention(node, plan, store);
    case Op::kActivation: return ops::ActivationForward(node.activation, x(0), y, n_threads_);
    case Op::kGated: return ops::GatedForward(node.activation, x(0), x(1), y, n_threads_);
    case Op::kAdd: {
      if (!node.params.empty()) {
        return ops::AddWeightForward(x(0), ParamAt(node, 0), y, n_threads_);
      }
      if (!plan.fuse_next) return ops::AddForward(x(0), x(1), y, n_threads_);
      const Node& norm = NodeAt(i + 1);
      const NodePlan& next = plan_.nodes[i + 1];
      const TensorView rstd = next.saved < 0 ? TensorView{} : View(next.saved);
      return ops::AddNormForward(NormOf(norm, y.cols()), x(0), x(1), ParamAt(norm, 0), y,
                                 View(next.out), next.saved < 0 ? nullptr : &rstd, n_threads_);
    }
    case Op::kMul:
      if (!node.params.empty()) {
        return ops::MulWeightForward(x(0), ParamAt(node, 0), y, n_threads_);
      }
      return ops::MulForward(x(0), x(1), y, n_threads_);
    case Op::kScale: return ops::ScaleForward(x(0), node.scale, y, n_threads_);
    case Op::kSlice: return ops::SliceForward(x(0), node.n_heads, node.begin, y, n_threads_);
    case Op::kConcat: return ForwardConcat(node, plan);
    case Op::kMoe: return ForwardMoe(i, plan);
    case Op::kCustom: return;  // above: its outputs are many
  }
}

}  // namespace retort::engine
