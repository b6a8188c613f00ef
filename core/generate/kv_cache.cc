// SPDX-License-Identifier: Apache-2.0
#include "core/generate/kv_cache.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>

namespace retort::generate {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

std::string Numbers(int64_t slots, int64_t context, int64_t bytes_per_token) {
  return std::to_string(slots) + " slots x " + std::to_string(context) + " tokens x " +
         std::to_string(bytes_per_token) + " bytes a token";
}

// Untouched memory on huge pages where the system gives them; NULL if there is none.
float* Reserve(size_t bytes) {
  const size_t rounded = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  void* p = std::aligned_alloc(kHugePage, rounded);
  if (p != nullptr) ::madvise(p, rounded, MADV_HUGEPAGE);
  return static_cast<float*>(p);
}

}  // namespace

void KvCache::Free::operator()(float* p) const { std::free(p); }

int64_t KvCache::BytesPerToken(const graph::Graph& graph) {
  int64_t elements = 0;
  for (const graph::Node& node : graph.nodes) {
    if (node.op != graph::Op::kAttention) continue;
    elements += 2 * node.attention.n_kv_heads * node.attention.head_dim;
  }
  return elements * static_cast<int64_t>(sizeof(float));
}

Result<std::unique_ptr<KvCache>> KvCache::Create(const graph::Graph& graph, int64_t slots,
                                                 int64_t context, int n_threads) {
  std::unique_ptr<KvCache> cache(new KvCache);
  cache->context_ = context;
  cache->n_threads_ = n_threads;
  cache->layers_.resize(static_cast<size_t>(graph.n_layers));
  for (const graph::Node& node : graph.nodes) {
    if (node.op != graph::Op::kAttention) continue;
    const graph::AttentionSpec& spec = node.attention;
    if (spec.head_dim > RETORT_KERNELS_MAX_HEAD_DIM) {
      return Unimplemented("decoding: the model's head_dim " + std::to_string(spec.head_dim) +
                           " is above " + std::to_string(RETORT_KERNELS_MAX_HEAD_DIM));
    }
    cache->layers_[static_cast<size_t>(node.layer)] = {cache->slot_elements_, spec.n_kv_heads,
                                                       spec.head_dim};
    cache->slot_elements_ += context * spec.n_kv_heads * spec.head_dim;
  }
  const int64_t per_token = BytesPerToken(graph);
  const int64_t most = std::numeric_limits<int64_t>::max() / 2;
  if (per_token > 0 && context > most / per_token / slots) {
    return ResourceExhausted("KV cache: " + Numbers(slots, context, per_token) +
                             " is more than any machine has; lower max_batch or max_context");
  }
  const size_t bytes = static_cast<size_t>(slots * cache->slot_elements_) * sizeof(float);
  cache->keys_.reset(Reserve(bytes));
  cache->values_.reset(Reserve(bytes));
  if (bytes > 0 && (cache->keys_ == nullptr || cache->values_ == nullptr)) {
    return ResourceExhausted("KV cache: no memory for " + Numbers(slots, context, per_token) +
                             "; lower max_batch or max_context");
  }
  cache->rows_.reserve(static_cast<size_t>(slots));
  cache->slots_.reserve(static_cast<size_t>(slots));
  RETORT_ASSIGN_OR_RETURN(cache->states_, OpStateMemory::Create(graph, slots));
  return cache;
}

void KvCache::SetRows(std::span<const Rows> rows) {
  rows_.assign(rows.begin(), rows.end());
  slots_.clear();
  for (const Rows& r : rows_) slots_.push_back(r.slot);
}

void KvCache::CopyPrefix(int32_t from, int32_t to, int64_t n) {
  states_.Restore(to);
  if (from == to) return;
  for (const Layer& layer : layers_) {
    const size_t bytes = static_cast<size_t>(n * layer.head_dim) * sizeof(float);
    for (int64_t g = 0; g < layer.n_kv_heads; ++g) {
      const int64_t head = g * context_ * layer.head_dim;
      const int64_t source = OffsetOf(from, layer) + head, target = OffsetOf(to, layer) + head;
      std::memcpy(keys_.get() + target, keys_.get() + source, bytes);
      std::memcpy(values_.get() + target, values_.get() + source, bytes);
    }
  }
}

void KvCache::Append(const Layer& layer, const TensorView& rows_TGH, float* cache) const {
  const float* row = rows_TGH.as<float>();
  const size_t bytes = static_cast<size_t>(layer.head_dim) * sizeof(float);
  for (const Rows& r : rows_) {
    float* slot = cache + OffsetOf(r.slot, layer);
    for (int64_t t = r.past; t < r.past + r.rows; ++t, row += rows_TGH.strides[0]) {
      for (int64_t g = 0; g < layer.n_kv_heads; ++g) {
        std::memcpy(slot + (g * context_ + t) * layer.head_dim, row + g * layer.head_dim, bytes);
      }
    }
  }
}

void KvCache::Attend(const graph::Node& node, const TensorView& q, const TensorView& k,
                     const TensorView& v, const TensorView& out) {
  if (q.dtype != DType::kF32) {
    throw Error(Unimplemented("decoding runs in f32, not " + std::string(DTypeName(q.dtype))));
  }
  const Layer& layer = layers_[static_cast<size_t>(node.layer)];
  Append(layer, k, keys_.get());
  Append(layer, v, values_.get());
  const graph::AttentionSpec& spec = node.attention;
  const retort_attention_shape shape = {.n_heads = spec.n_heads,
                                        .n_kv_heads = spec.n_kv_heads,
                                        .head_dim = spec.head_dim,
                                        .window = spec.window,
                                        .scale = spec.scale,
                                        .soft_cap = spec.soft_cap,
                                        .kv_head_stride = context_ * spec.head_dim,
                                        .kv_row_stride = spec.head_dim};
  sequences_.clear();
  int64_t row = 0;
  for (const Rows& r : rows_) {
    sequences_.push_back({.q = q.as<float>() + row * q.strides[0],
                          .k = keys_.get() + OffsetOf(r.slot, layer),
                          .v = values_.get() + OffsetOf(r.slot, layer),
                          .out = out.as<float>() + row * out.strides[0],
                          .q_stride = q.strides[0],
                          .out_stride = out.strides[0],
                          .n_q = r.rows,
                          .n_past = r.past});
    row += r.rows;
  }
  retort_cached_attention_f32(&shape, sequences_.data(), static_cast<int64_t>(sequences_.size()),
                              n_threads_);
}

}  // namespace retort::generate
