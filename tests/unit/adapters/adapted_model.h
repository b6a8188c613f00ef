// The tiny decoder of the engine's tests with adapters: random weights in f32 or f64, B included.
// `fused`: as phi3's checkpoint, where q, k and v are rows of one module; up is stacked from two.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "core/graph/lora.h"
#include "tests/unit/engine/tiny_model.h"

namespace retort::engine::test {

inline graph::Param& ParamNamed(graph::Graph& graph, const std::string& name) {
  for (graph::Param& param : graph.params) {
    if (param.name == name) return param;
  }
  ADD_FAILURE() << "no param " << name;
  return graph.params[0];
}

inline void Fuse(graph::Graph& graph, const TinySpec& spec) {
  const int64_t wide = spec.heads * spec.head_dim, narrow = spec.kv_heads * spec.head_dim;
  const auto rows = [&](const std::string& param, std::vector<graph::Source> sources) {
    ParamNamed(graph, param).sources = std::move(sources);
  };
  for (int64_t i = 0; i < spec.layers; ++i) {
    const std::string at = "layers." + std::to_string(i) + ".", fused = at + "qkv.weight";
    rows(at + "q.weight", {{.checkpoint_name = fused, .row_begin = 0, .row_end = wide}});
    rows(at + "k.weight",
         {{.checkpoint_name = fused, .row_begin = wide, .row_end = wide + narrow}});
    rows(at + "v.weight",
         {{.checkpoint_name = fused, .row_begin = wide + narrow, .row_end = wide + 2 * narrow}});
    const int64_t cut = spec.hidden / 3;
    rows(at + "up.weight",
         {{.checkpoint_name = at + "up1.weight", .row_begin = 0, .row_end = cut},
          {.checkpoint_name = at + "up2.weight", .row_begin = 0, .row_end = spec.hidden - cut}});
  }
}

using Specs = std::vector<graph::LoraSpec>;

template <class T>
struct AdaptedModel {
  explicit AdaptedModel(const Specs& adapters, bool fused = false, const TinySpec& spec = {})
      : graph(TinyFamily(spec).Build()) {
    if (fused) Fuse(graph, spec);
    for (const graph::LoraSpec& adapter : adapters) {
      const Status added = graph::AddLora(graph, adapter);
      EXPECT_TRUE(added.ok()) << added.ToString();
    }
    Rng rng(RngKey{0, 1});
    for (const graph::Param& param : graph.params) {
      const bool norm = (param.roles & RETORT_ROLE_NORM) != 0;
      std::vector<T>& values = storage.emplace_back(static_cast<size_t>(param.numel()));
      for (T& v : values) v = static_cast<T>((norm ? 1.0 : 0.0) + 0.3 * rng.Normal());
      views.push_back(TensorView::Contiguous(
          values.data(), sizeof(T) == 8 ? DType::kF64 : DType::kF32, param.shape));
    }
  }

  size_t IndexOf(const std::string& name) const {
    for (size_t p = 0; p < graph.params.size(); ++p) {
      if (graph.params[p].name == name) return p;
    }
    ADD_FAILURE() << "no param " << name;
    return 0;
  }
  std::vector<T>& Values(const std::string& name) { return storage[IndexOf(name)]; }

  graph::Graph graph;
  std::vector<std::vector<T>> storage;
  std::vector<TensorView> views;
};

// weight[row_begin + j] += scale * B[j] A, in the type of the weights.
template <class T>
void MergePlainly(AdaptedModel<T>& model, const std::string& weight, const std::string& module,
                  const std::string& adapter, double scale, int64_t b_begin = 0,
                  int64_t out_begin = 0, int64_t n_out = -1) {
  const size_t a_index = model.IndexOf(module + ".lora_A." + adapter + ".weight");
  const std::vector<T>&a = model.storage[a_index],
        &b = model.Values(module + ".lora_B." + adapter + ".weight");
  std::vector<T>& w = model.Values(weight);
  const int64_t r = model.graph.params[a_index].shape[0];
  const int64_t in = model.graph.params[a_index].shape[1];
  if (n_out < 0) n_out = static_cast<int64_t>(w.size()) / in;
  for (int64_t j = 0; j < n_out; ++j) {
    for (int64_t i = 0; i < in; ++i) {
      double sum = 0;
      for (int64_t k = 0; k < r; ++k) {
        sum += static_cast<double>(b[static_cast<size_t>((b_begin + j) * r + k)]) *
               static_cast<double>(a[static_cast<size_t>(k * in + i)]);
      }
      T& value = w[static_cast<size_t>((out_begin + j) * in + i)];
      value = static_cast<T>(static_cast<double>(value) + scale * sum);
    }
  }
}

}  // namespace retort::engine::test
