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
#include "core/graph/merge.h"
#include "core/model/init.h"
#include "core/model/packed.h"
#include "core/model/row_writer.h"

namespace retort::model {
namespace {

// Bytes per weight that stay above those of any type, with the padding of matrices of few rows.
constexpr int64_t kWidest = 64 * 4;

Status CheckStore(const graph::Graph& graph, const ParamStore& store) {
  if (store.size() == graph.params.size()) return OkStatus();
  return Internal("the param store was made for another graph");
}

}  // namespace

Result<ParamStore> ParamStore::Allocate(const graph::Graph& graph, std::span<const DType> dtypes) {
  if (!dtypes.empty() && dtypes.size() != graph.params.size()) {
    return Internal("the types of weights are those of another graph");
  }
  const auto type_of = [&](size_t i) { return dtypes.empty() ? DType::kF32 : dtypes[i]; };
  std::vector<int64_t> offsets(graph.params.size());
  int64_t total = 0;
  for (int32_t index : graph::ParamOrder(graph)) {  // so that some lie side by side
    const auto i = static_cast<size_t>(index);
    const graph::Param& param = graph.params[i];
    offsets[i] = total;
    int64_t n = 0, widest = 0;  // no type takes more than f32 and the padding of few rows
    const bool fits = CheckedNumel(param.shape, &n) && CheckedMul(n, kWidest, &widest) &&
                      CheckedAdd(widest, total, &widest);
    if (!fits) return OutOfRange("param \"" + param.name + "\": the model's size overflows");
    const int64_t bytes = StoredBytes(type_of(i), param.shape);
    if (bytes < 0) {
      return Internal("param \"" + param.name + "\": its rows can't be " +
                      std::string(DTypeName(type_of(i))));
    }
    total += (bytes + kStoreAlignment - 1) / kStoreAlignment * kStoreAlignment;
  }
  ParamStore store;
  if (total > 0) {
    void* memory = ::mmap(nullptr, static_cast<size_t>(total), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
      return ResourceExhausted("no memory for " + std::to_string(total) + " bytes of weights (" +
                               std::to_string(graph.params.size()) + " params)" +
                               (dtypes.empty() ? "" : "; a narrower storage takes less"));
    }
    (void)::madvise(memory, static_cast<size_t>(total), MADV_HUGEPAGE);  // a wish
    store.memory_ = memory;
    store.bytes_ = total;
  }
  for (size_t i = 0; i < graph.params.size(); ++i) {
    store.views_.push_back(TensorView::Contiguous(static_cast<char*>(store.memory_) + offsets[i],
                                                  type_of(i), graph.params[i].shape));
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

namespace {

// Box-Muller over pairs: element i of the param takes half i%2 of pair i/2, so that the numbers
// don't depend on how the work is split.
void Fill(const graph::Param& param, uint64_t seed, float* out) {
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

}  // namespace

Status InitParam(const graph::Param& param, uint64_t seed, const TensorView& view) {
  if (view.dtype == DType::kF32) {
    Fill(param, seed, view.as<float>());
    return OkStatus();
  }
  std::vector<float> values(static_cast<size_t>(param.numel()));
  Fill(param, seed, values.data());
  RowWriter writer(view);
  writer.Stage();
  for (int64_t begin = 0; begin < view.rows();) {
    const int64_t end = writer.SliceEnd(begin, view.rows());
    RETORT_RETURN_IF_ERROR(writer.WriteF32(begin, end, values.data() + begin * view.cols(),
                                           "param \"" + param.name + "\""));
    begin = end;
  }
  writer.Unstage();
  return OkStatus();
}

Status InitParams(const graph::Graph& graph, uint64_t seed, const ParamStore& store,
                  int32_t n_threads) {
  RETORT_RETURN_IF_ERROR(CheckStore(graph, store));
  std::vector<Status> results(graph.params.size());
  ParallelFor(static_cast<int64_t>(graph.params.size()), n_threads,
              [&](int64_t begin, int64_t end) {
                for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
                  results[i] = InitParam(graph.params[i], seed, store.view(i));
                }
              });
  for (const Status& status : results) RETORT_RETURN_IF_ERROR(status);
  return OkStatus();
}

}  // namespace retort::model
