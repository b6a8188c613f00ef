// SPDX-License-Identifier: Apache-2.0
#include "core/generate/kv_cache.h"

#include <sys/mman.h>

#include <cstring>
#include <string>

#include "core/base/checked.h"
#include "core/generate/kv_blocks.h"

namespace retort::generate {
namespace {

static_assert(kKvBlock == RETORT_KERNELS_KV_BLOCK);

// -1: no type of keys and values.
int KernelType(DType dtype) {
  switch (dtype) {
    case DType::kF32: return RETORT_KERNELS_KV_F32;
    case DType::kBF16: return RETORT_KERNELS_KV_BF16;
    case DType::kI8: return RETORT_KERNELS_KV_INT8;
    default: return -1;
  }
}

// Keys, or values, of one layer in a block.
int64_t LayerBytes(const graph::AttentionSpec& spec, int kv_type) {
  return spec.n_kv_heads * retort_kv_head_bytes(kv_type, spec.head_dim);
}

}  // namespace

void Unmap::operator()(unsigned char* p) const { ::munmap(p, bytes); }

Result<int64_t> KvCache::BytesPerBlock(const graph::Graph& graph, DType dtype) {
  const int kv_type = KernelType(dtype);
  if (kv_type < 0) {
    return InvalidArgument("kv_dtype: keys and values are kept in float32, bfloat16 or int8, not " +
                           std::string(DTypeName(dtype)));
  }
  int64_t bytes = 0;
  for (const graph::Node& node : graph.nodes) {
    if (node.op == graph::Op::kAttention) bytes += 2 * LayerBytes(node.attention, kv_type);
  }
  return bytes;
}

// Zero pages, huge ones where the system gives them.
Result<Pages> KvCache::Map(int64_t blocks, int64_t block_bytes) {
  const auto failure = [&] {
    return ResourceExhausted("KV cache: no memory for " + std::to_string(blocks) + " blocks of " +
                             std::to_string(kKvBlock) + " tokens x " + std::to_string(block_bytes) +
                             " bytes; lower max_batch or max_tokens, set kv_memory, or choose a "
                             "smaller kv_dtype");
  };
  size_t bytes = 0;
  if (!CheckedMul(static_cast<size_t>(blocks), static_cast<size_t>(block_bytes), &bytes)) {
    return failure();
  }
  if (bytes == 0) return Pages(nullptr, Unmap{});
  void* p =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, /*fd=*/-1, 0);
  if (p == MAP_FAILED) return failure();
  ::madvise(p, bytes, MADV_HUGEPAGE);
  return Pages(static_cast<unsigned char*>(p), Unmap{bytes});
}

Result<std::unique_ptr<KvCache>> KvCache::Create(const graph::Graph& graph,
                                                 const Options& options) {
  std::unique_ptr<KvCache> cache(new KvCache);
  cache->n_threads_ = options.n_threads;
  RETORT_ASSIGN_OR_RETURN(cache->block_bytes_, BytesPerBlock(graph, options.dtype));
  RETORT_ASSIGN_OR_RETURN(cache->memory_, Map(options.blocks, cache->block_bytes_));
  cache->layers_.resize(static_cast<size_t>(graph.n_layers));
  const int kv_type = KernelType(options.dtype);
  unsigned char* next = cache->memory_.get();
  for (const graph::Node& node : graph.nodes) {
    if (node.op != graph::Op::kAttention) continue;
    const graph::AttentionSpec& spec = node.attention;
    if (spec.head_dim > RETORT_KERNELS_KV_MAX_HEAD_DIM) {
      return Unimplemented("decoding: the model's head_dim " + std::to_string(spec.head_dim) +
                           " is above " + std::to_string(RETORT_KERNELS_KV_MAX_HEAD_DIM));
    }
    const int64_t bytes = LayerBytes(spec, kv_type);
    cache->layers_[static_cast<size_t>(node.layer)] = {.keys = next,
                                                       .values = next + bytes,
                                                       .block_stride = cache->block_bytes_,
                                                       .n_kv_heads = spec.n_kv_heads,
                                                       .head_dim = spec.head_dim,
                                                       .kv_type = kv_type,
                                                       .reserved = 0};
    next += 2 * bytes;
  }
  cache->sequences_.reserve(static_cast<size_t>(options.slots));
  cache->slots_.reserve(static_cast<size_t>(options.slots));
  RETORT_ASSIGN_OR_RETURN(cache->states_, OpStateMemory::Create(graph, options.slots));
  return cache;
}

void KvCache::SetRows(std::span<const Rows> rows) {
  sequences_.clear();
  slots_.clear();
  for (const Rows& r : rows) {
    sequences_.push_back({.table = r.blocks.data(), .n_past = r.past, .n_rows = r.rows});
    slots_.push_back(r.slot);
  }
}

void KvCache::CopyBlock(int32_t from, int32_t to) {
  if (block_bytes_ == 0) return;
  std::memcpy(memory_.get() + to * block_bytes_, memory_.get() + from * block_bytes_,
              static_cast<size_t>(block_bytes_));
}

void KvCache::Attend(const graph::Node& node, const TensorView& q, const TensorView& k,
                     const TensorView& v, const TensorView& out) {
  if (q.dtype != DType::kF32) {
    throw Error(Unimplemented("decoding runs in f32, not " + std::string(DTypeName(q.dtype))));
  }
  const retort_kv_cache& layer = layers_[static_cast<size_t>(node.layer)];
  const auto n = static_cast<int64_t>(sequences_.size());
  retort_kv_append_f32(&layer, sequences_.data(), n, k.as<float>(), k.strides[0], v.as<float>(),
                       v.strides[0], n_threads_);
  const graph::AttentionSpec& spec = node.attention;
  const retort_kv_attention_shape shape = {.n_heads = spec.n_heads,
                                           .window = spec.window,
                                           .scale = spec.scale,
                                           .soft_cap = spec.soft_cap};
  retort_kv_attention_f32(&shape, &layer, sequences_.data(), n, q.as<float>(), q.strides[0],
                          out.as<float>(), out.strides[0], n_threads_);
}

}  // namespace retort::generate
