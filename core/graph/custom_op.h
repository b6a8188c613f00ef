// Custom ops: plugins of kind "op" as nodes of the graph. Core knows only their C table; whoever
// builds a graph brings a factory that makes the instances.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/plugin_call.h"
#include "core/base/status.h"
#include "core/base/tensor.h"
#include "retort/abi/draft/op.h"

namespace retort::graph {

inline constexpr uint32_t kMaxOpInputs = 64;  // backward_in has a bit for each

// An instance with its table; destroying it destroys the instance.
class OpHandle {
 public:
  virtual ~OpHandle() = default;
  virtual const retort_op_v1& table() const = 0;
  virtual retort_instance* instance() const = 0;
};

// Makes an instance of op `id` with `attributes` (canonical JSON) as its config. The failure's
// text stands behind the node's name; a config error begins with the JSON pointer of the key.
using OpFactory = std::function<Result<std::unique_ptr<OpHandle>>(const std::string& id,
                                                                  const std::string& attributes)>;

// A saved or state tensor as `infer` declares it.
struct OpTensorSpec {
  DType dtype = DType::kF32;
  bool per_row = false;             // the first dimension is T; `shape` then lacks it
  std::vector<int64_t> shape = {};  // a state: of one slot
  // Of one row, of the whole tensor, or of one slot.
  int64_t bytes() const;
};

// What `infer` says about a node, the same for every number of rows.
struct OpSpec {
  std::vector<int64_t> out_widths = {};
  std::vector<OpTensorSpec> saved = {}, state = {};
  uint64_t backward_in = 0, backward_out = 0;  // bits: what backward reads
};

// An input: token rows of a width, or a weight with its shape.
struct OpInput {
  int64_t width = 0;
  std::span<const int64_t> weight_shape = {};  // empty: rows [T, width]
};

struct CustomOp {
  std::string id;
  std::string attributes;  // canonical JSON: keys sorted, no blanks
  std::unique_ptr<OpHandle> handle;
  OpSpec spec;  // with f32 inputs

  bool rowwise() const { return (handle->table().flags & RETORT_OP_ROWWISE) != 0; }
  bool can_train() const { return handle->table().backward != nullptr; }
  // Without a decode of its own, forward goes on from the state, or needs none row by row.
  bool can_decode() const {
    return rowwise() || !spec.state.empty() || handle->table().decode != nullptr;
  }
};

// Asks `infer` at several numbers of rows and checks that only first dimensions follow them.
Result<OpSpec> InferOp(const OpHandle& handle, std::span<const OpInput> inputs, uint32_t n_out,
                       DType dtype);

// One line with sorted keys; refuses what is no JSON object. "" is {}.
Result<std::string> CanonicalAttributes(std::string_view json);

// A tensor of the ABI with room for its shape. Its address must stay while `tensor` is used.
struct OpTensor {
  std::array<int64_t, RETORT_OP_MAX_DIMS> shape{}, strides{};
  retort_tensor tensor{};

  // Contiguous; data NULL where only shapes count.
  void Set(void* data, DType dtype, int64_t rows, std::span<const int64_t> rest);  // [rows, rest]
  void Set(void* data, DType dtype, std::span<const int64_t> dims);

 private:
  void Finish(void* data, DType dtype, int32_t ndim);
};

}  // namespace retort::graph
