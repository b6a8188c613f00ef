// One custom op under test: what infer says for given inputs, and the tensors of its calls.
// Letters: T packed token rows, S sequences.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "host/check/raw_plugin.h"
#include "host/check/rule.h"
#include "host/check/tensors.h"
#include "retort/abi/draft/op.h"

namespace retort::host::check {

// Shapes of the inputs, kRows where T goes, and the number of outputs.
struct OpLayout {
  static constexpr int64_t kRows = -1;
  std::vector<std::vector<int64_t>> in;
  uint32_t n_out = 1;
  bool is_value(size_t i) const { return !in[i].empty() && in[i][0] == kRows; }
  std::string Text() const;  // "Tx64,64"
};

struct ShapeCopy {
  Elem elem = Elem::kF32;
  std::vector<int64_t> shape;
  bool operator==(const ShapeCopy&) const = default;
};
struct OpShapesCopy {
  std::vector<ShapeCopy> out, saved, state;
  uint64_t backward_in = 0, backward_out = 0;
  bool operator==(const OpShapesCopy&) const = default;
};

class Op {
 public:
  // OK without a table: not an op.
  static Result<Op> Open(const Subject& subject);
  bool there() const { return table_ != nullptr; }
  const retort_op_v1& table() const { return *table_; }
  retort_instance* instance() const { return plugin_.get(); }
  bool has(uint32_t flag) const { return (table_->flags & flag) != 0; }

  // What infer says, checked for what no host could work with.
  Result<OpShapesCopy> Infer(const OpLayout& layout, int64_t rows, Elem elem) const;
  // The status alone; a misuse of the call is the failure.
  Result<retort_status> InferStatus(const OpLayout& layout, int64_t rows, Elem elem) const;
  // The subject's inputs, else the first of many layouts that infer takes. NOT_FOUND: none.
  Result<OpLayout> FindLayout(const Subject& subject) const;
  // f64 where the op takes it.
  Elem BestElem(const OpLayout& layout) const;

 private:
  explicit Op(RawInstance plugin) : plugin_(std::move(plugin)) {}
  retort_status CallInfer(const OpLayout& layout, int64_t rows, Elem elem, RawCall* call,
                          OpShapesCopy* copy, Status* problem) const;
  RawInstance plugin_;
  const retort_op_v1* table_ = nullptr;
};

// All tensors of forward, backward and decode over sequences of the given lengths. Outputs are
// poisoned before each call.
class OpRun {
 public:
  // State has a row for each sequence and two more, in another order; zero.
  OpRun(const OpLayout& layout, OpShapesCopy shapes, const std::vector<int64_t>& lengths, Elem elem,
        Rng* rng);

  std::vector<Tensor> in, out, saved, state, d_out, d_in;
  Tensor cu_seqlens, positions, slot;
  std::vector<bool> want_d_in;  // all true

  struct How {
    bool keep_saved = true, with_state = false, in_place = false;
    int32_t n_threads = 1;
    Growth growth = Growth::kExact;
  };
  Status Forward(const Op& op, const How& how);
  Status Forward(const Op& op) { return Forward(op, How{}); }
  // After Forward. Inputs and outputs that backward does not claim to read are NULL.
  Status Backward(const Op& op, int32_t n_threads = 1, Growth growth = Growth::kExact);
  Status Decode(const Op& op);

  // The same inputs for these rows, as sequences of these lengths, `first` the position of each
  // one's first row; state and slots as they are here. `shapes`: for that number of rows.
  OpRun Part(const OpShapesCopy& shapes, const std::vector<int64_t>& picked,
             const std::vector<int64_t>& lengths, const std::vector<int64_t>& first) const;
  // The sum of d_out * out.
  double Scalar() const;
  int64_t rows() const { return positions.size(); }
  const OpLayout& layout() const { return layout_; }
  // "" or an input that changed, a byte out of bounds, an output element that is not finite.
  std::string ForwardProblem(const How& how) const;
  std::string BackwardProblem() const;

 private:
  retort_op_args Args(bool backward, bool with_saved, bool with_state);
  void Remember(std::vector<Tensor>* tensors) const;
  OpLayout layout_;
  OpShapesCopy shapes_;
  std::vector<const retort_tensor*> in_pointers_, d_out_pointers_;
  std::vector<retort_tensor*> out_pointers_, saved_pointers_, state_pointers_, d_in_pointers_;
};

}  // namespace retort::host::check
