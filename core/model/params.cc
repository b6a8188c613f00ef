// The store of all params, and their first values.
// SPDX-License-Identifier: Apache-2.0
#include "core/model/params.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/checked.h"
#include "core/base/rng.h"
#include "core/base/threads.h"
#include "core/model/init.h"

namespace retort::model {
namespace {

constexpr int64_t kAlignment = 64;

Status CheckStore(const graph::Graph& graph, const ParamStore& store) {
  if (store.size() == graph.params.size()) return OkStatus();
  return Internal("the param store was made for another graph");
}

}  // namespace

Result<ParamStore> ParamStore::Allocate(const graph::Graph& graph) {
  std::vector<int64_t> offsets;
  int64_t total = 0;
  for (const graph::Param& param : graph.params) {
    int64_t n = 0, bytes = 0;
    const bool fits = CheckedNumel(param.shape, &n) &&
                      CheckedMul(n, static_cast<int64_t>(sizeof(float)), &bytes) &&
                      CheckedAdd(bytes, kAlignment - 1, &bytes);
    offsets.push_back(total);
    if (!fits || !CheckedAdd(total, bytes / kAlignment * kAlignment, &total)) {
      return OutOfRange("param \"" + param.name + "\": the model's size overflows");
    }
  }
  ParamStore store;
  if (total > 0) {
    void* memory = ::mmap(nullptr, static_cast<size_t>(total), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
      return ResourceExhausted("no memory for " + std::to_string(total) + " bytes of weights (" +
                               std::to_string(graph.params.size()) + " params, f32)");
    }
    (void)::madvise(memory, static_cast<size_t>(total), MADV_HUGEPAGE);  // a wish
    store.memory_ = memory;
    store.bytes_ = total;
  }
  for (size_t i = 0; i < graph.params.size(); ++i) {
    store.views_.push_back(TensorView::Contiguous(static_cast<char*>(store.memory_) + offsets[i],
                                                  DType::kF32, graph.params[i].shape));
  }
  return store;
}

ParamStore::ParamStore(ParamStore&& other) noexcept
    : memory_(std::exchange(other.memory_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      views_(std::move(other.views_)) {}

ParamStore& ParamStore::operator=(ParamStore&& other) noexcept {
  std::swap(memory_, other.memory_);
  std::swap(bytes_, other.bytes_);
  std::swap(views_, other.views_);
  return *this;
}

ParamStore::~ParamStore() {
  if (memory_ != nullptr) ::munmap(memory_, static_cast<size_t>(bytes_));
}

// Box-Muller over pairs: element i of the param takes half i%2 of pair i/2, so that the numbers
// don't depend on how the work is split.
void InitParam(const graph::Param& param, uint64_t seed, float* out) {
  const int64_t n = param.numel();
  const auto value = static_cast<float>(param.init_value);
  if (param.init != RETORT_INIT_NORMAL) return void(std::fill(out, out + n, value));
  Rng rng(Derive(RootKey(seed, "init"), param.name));
  for (int64_t i = 0; i < n; i += 2) {
    const auto [a, b] = rng.NormalPair();
    out[i] = static_cast<float>(a * param.init_value);
    if (i + 1 < n) out[i + 1] = static_cast<float>(b * param.init_value);
  }
}

Status InitParams(const graph::Graph& graph, uint64_t seed, const ParamStore& store,
                  int32_t n_threads) {
  RETORT_RETURN_IF_ERROR(CheckStore(graph, store));
  ParallelFor(static_cast<int64_t>(graph.params.size()), n_threads,
              [&](int64_t begin, int64_t end) {
                for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
                  InitParam(graph.params[i], seed, store.data(i));
                }
              });
  return OkStatus();
}

}  // namespace retort::model
