// SPDX-License-Identifier: Apache-2.0
#include "core/graph/merge.h"

#include <algorithm>

namespace retort::graph {
namespace {

constexpr int64_t kAlignedElements = 16;  // 64 bytes of f32

class Merger {
 public:
  explicit Merger(const Graph& graph)
      : graph_(graph), readers_(graph.values.size()), uses_(graph.params.size()) {
    for (size_t i = 0; i < graph.nodes.size(); ++i) {
      const Node& node = graph.nodes[i];
      for (int32_t v : node.in) readers_[At(v)].push_back(static_cast<int32_t>(i));
      for (int32_t p : node.params) {
        if (p >= 0) ++uses_[At(p)];
      }
    }
    for (const Value& value : graph.values) {
      if (value.param >= 0) ++uses_[At(value.param)];
    }
    if (graph.head >= 0) ++uses_[At(graph.head)];
  }

  std::vector<MergeGroup> Groups() const {
    std::vector<MergeGroup> groups;
    std::vector<bool> taken(graph_.nodes.size());
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (taken[i] || !MayMerge(static_cast<int32_t>(i))) continue;
      MergeGroup group{.nodes = {static_cast<int32_t>(i)}};
      for (size_t j = i + 1; j < graph_.nodes.size(); ++j) {
        if (!taken[j] && MayMerge(static_cast<int32_t>(j)) && Alike(i, j)) {
          group.nodes.push_back(static_cast<int32_t>(j));
        }
      }
      for (int32_t n : group.nodes) taken[At(n)] = true;
      if (group.nodes.size() > 1 && Fits(group)) groups.push_back(std::move(group));
    }
    return groups;
  }

 private:
  static size_t At(int32_t index) { return static_cast<size_t>(index); }
  const Node& NodeAt(int32_t i) const { return graph_.nodes[At(i)]; }
  const Param& ParamAt(int32_t p) const { return graph_.params[At(p)]; }

  // Whether the only reader of a value takes rows with a stride. Rope may turn a value in place, so
  // that its reader sees the stride, too.
  bool ReadWithStride(int32_t value) const {
    if (value == graph_.hidden || readers_[At(value)].size() != 1) return false;
    const Node& reader = NodeAt(readers_[At(value)][0]);
    switch (reader.op) {
      case Op::kRope: return ReadWithStride(reader.out);
      case Op::kAttention:
      case Op::kGated:
      case Op::kHeadNorm:
      case Op::kRmsNorm: return true;
      default: return false;
    }
  }

  bool MayMerge(int32_t i) const {
    const Node& node = NodeAt(i);
    if (node.op != Op::kLinear || !ReadWithStride(node.out)) return false;
    return std::all_of(node.params.begin(), node.params.end(),
                       [&](int32_t p) { return p < 0 || uses_[At(p)] == 1; });
  }

  bool Alike(size_t i, size_t j) const {
    const Node &a = graph_.nodes[i], &b = graph_.nodes[j];
    const Param &wa = ParamAt(a.params[0]), &wb = ParamAt(b.params[0]);
    const bool biases = (a.params[1] < 0) == (b.params[1] < 0);
    return a.in == b.in && a.block == b.block && biases && wa.shape[1] == wb.shape[1] &&
           wa.flags == wb.flags && wa.adapter == wb.adapter &&
           (a.params[1] < 0 || ParamAt(a.params[1]).flags == ParamAt(b.params[1]).flags);
  }

  // No gap where each is aligned; and gate and up, whose kernels know one stride, both or neither.
  bool Fits(const MergeGroup& group) const {
    for (size_t k = 0; k < group.nodes.size(); ++k) {
      const Node& node = NodeAt(group.nodes[k]);
      const bool last = k + 1 == group.nodes.size();
      for (int32_t p : node.params) {
        if (!last && p >= 0 && ParamAt(p).numel() % kAlignedElements != 0) return false;
      }
      const Node& reader = NodeAt(readers_[At(node.out)][0]);
      if (reader.op != Op::kGated) continue;
      for (int32_t v : reader.in) {
        const int32_t producer = graph_.values[At(v)].producer;
        if (std::count(group.nodes.begin(), group.nodes.end(), producer) == 0) return false;
      }
    }
    return true;
  }

  const Graph& graph_;
  std::vector<std::vector<int32_t>> readers_;
  std::vector<int32_t> uses_;
};

}  // namespace

std::vector<MergeGroup> MergeGroups(const Graph& graph) { return Merger(graph).Groups(); }

std::vector<int32_t> ParamOrder(const Graph& graph) {
  std::vector<std::vector<int32_t>> run(graph.params.size());  // of its first param
  std::vector<bool> follows(graph.params.size());
  for (const MergeGroup& group : MergeGroups(graph)) {
    for (size_t slot = 0; slot < 2; ++slot) {
      std::vector<int32_t> params;
      for (int32_t i : group.nodes) {
        const int32_t p = graph.nodes[static_cast<size_t>(i)].params[slot];
        if (p >= 0) params.push_back(p);
      }
      if (params.empty()) continue;
      for (size_t k = 1; k < params.size(); ++k) follows[static_cast<size_t>(params[k])] = true;
      run[static_cast<size_t>(params[0])] = std::move(params);
    }
  }
  std::vector<int32_t> order;
  for (size_t p = 0; p < graph.params.size(); ++p) {
    if (follows[p]) continue;
    if (run[p].empty()) {
      order.push_back(static_cast<int32_t>(p));
    } else {
      order.insert(order.end(), run[p].begin(), run[p].end());
    }
  }
  return order;
}

}  // namespace retort::graph
