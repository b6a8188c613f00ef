// Custom ops in C++: a class with
//   OpPlan Infer(std::span<const TensorSpec> in)                    what comes out, what is kept
//   template <class T> void Forward(const Call&, const OpArgs<T>&)  T: float, and double in checks
// optionally, both templates like Forward,
//   Backward    without it the op can't be trained through
//   Decode      new tokens after those in the state; without it Forward serves
// and `static constexpr uint32_t kFlags` (RETORT_OP_*); then one line:
//   RETORT_OP("my_op", MyOp, "one line for people", kSchema);
// An instance is one node of a graph; the node's attributes are its config.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_SDK_OP_H_
#define RETORT_SDK_OP_H_

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "retort/abi/draft/op.h"
#include "retort/sdk/plugin.h"
#include "retort/sdk/tensor.h"

namespace retort::sdk {

struct TensorSpec {
  retort_dtype dtype{RETORT_DTYPE_FLOAT, 32, 1};
  std::vector<int64_t> shape;
};

// See retort_op_shapes.
struct OpPlan {
  std::vector<TensorSpec> out, saved = {}, state = {};
  uint64_t backward_in = 0, backward_out = 0;  // bits: what Backward reads
};

// One call. Vectors (a param of one dimension) are matrices with one column, or flat spans.
template <class T>
class OpArgs {
 public:
  explicit OpArgs(const retort_op_args* raw) : raw_(raw) {}
  const retort_op_args& raw() const { return *raw_; }

  Matrix<const T> in(size_t i) const { return MatrixOf<const T>(*Need(raw_->in, i), "in"); }
  std::span<const T> param(size_t i) const { return FlatOf<const T>(*Need(raw_->in, i), "in"); }
  Matrix<T> out(size_t i) const { return MatrixOf<T>(*Need(raw_->out, i), "out"); }
  // False where nothing is to be kept: no Backward follows this Forward.
  bool keeps() const { return raw_->n_saved > 0; }
  template <class U = T>
  std::span<U> saved(size_t i) const {
    return FlatOf<U>(*Need(raw_->saved, i), "saved");
  }
  Matrix<const T> d_out(size_t i) const {
    return MatrixOf<const T>(*Need(raw_->d_out, i), "d_out");
  }
  bool wants(size_t i) const { return raw_->d_in[i] != nullptr; }  // d_in(i), in Backward
  Matrix<T> d_in(size_t i) const { return MatrixOf<T>(*Need(raw_->d_in, i), "d_in"); }
  std::span<T> d_param(size_t i) const { return FlatOf<T>(*Need(raw_->d_in, i), "d_in"); }

  size_t n_sequences() const { return static_cast<size_t>(raw_->cu_seqlens->shape[0]) - 1; }
  // Rows of sequence s: [first_row(s), first_row(s + 1)).
  int64_t first_row(size_t s) const {
    return FlatOf<const int32_t>(*raw_->cu_seqlens, "cu_seqlens")[s];
  }
  std::span<const int32_t> positions() const {
    return FlatOf<const int32_t>(*raw_->positions, "positions");
  }
  bool has_state() const { return raw_->n_state > 0; }
  // State tensor i of sequence s, flat.
  template <class U = T>
  std::span<U> state(size_t i, size_t s) const {
    const retort_tensor& all = *Need(raw_->state, i);
    const std::span<U> flat = FlatOf<U>(all, "state");
    const auto slot = static_cast<size_t>(FlatOf<const int32_t>(*raw_->slot, "slot")[s]);
    const size_t size = flat.size() / static_cast<size_t>(all.shape[0]);
    return flat.subspan(slot * size, size);
  }

 private:
  template <class Tensor>
  static Tensor* Need(Tensor* const* tensors, size_t i) {
    if (tensors != nullptr && tensors[i] != nullptr) return tensors[i];
    throw Failure(RETORT_INVALID_ARGUMENT, "the host left out a tensor (number " +
                                               std::to_string(i) + ") that this call needs");
  }
  const retort_op_args* raw_;
};

namespace internal {

template <class T>
concept HasBackward = requires(T t, const Call& c, const OpArgs<float>& a) {
  t.template Backward<float>(c, a);
};
template <class T>
concept HasDecode = requires(T t, const Call& c, const OpArgs<float>& a) {
  t.template Decode<float>(c, a);
};

inline void WriteSpecs(const std::vector<TensorSpec>& specs, const char* what,
                       retort_tensor* tensors) {
  if (specs.size() > RETORT_OP_MAX_OUTPUTS) {
    throw Failure(RETORT_INVALID_ARGUMENT, std::string("more than 8 tensors of ") + what);
  }
  for (size_t i = 0; i < specs.size(); ++i) {
    const std::vector<int64_t>& shape = specs[i].shape;
    if (shape.size() > RETORT_OP_MAX_DIMS) {
      throw Failure(RETORT_INVALID_ARGUMENT, std::string(what) + ": more than 8 dimensions");
    }
    tensors[i].ndim = static_cast<int32_t>(shape.size());
    tensors[i].dtype = specs[i].dtype;
    std::copy(shape.begin(), shape.end(), tensors[i].shape);
  }
}

template <class T>
class OpInstance final : public Instance {
 public:
  explicit OpInstance(const Config& config) : op_(config) {
    if constexpr (requires { T::kFlags; }) table_.flags = T::kFlags;
    if constexpr (HasBackward<T>) table_.backward = Backward;
    if constexpr (HasDecode<T>) table_.decode = Decode;
  }
  const void* GetInterface(std::string_view id) override {
    return id == RETORT_OP_INTERFACE ? &table_ : nullptr;
  }

 private:
  static T& Of(retort_instance* p) { return static_cast<OpInstance&>(Instance::Of(p)).op_; }
  static retort_status Infer(retort_instance* p, const retort_call* call,
                             retort_op_shapes* shapes) noexcept {
    return Guard(call, [&] {
      std::vector<TensorSpec> in;
      for (uint32_t i = 0; i < shapes->n_in; ++i) {
        const retort_tensor& t = *shapes->in[i];
        if (!IsType<float>(t.dtype) && !IsType<double>(t.dtype)) {
          throw Failure(RETORT_UNIMPLEMENTED,
                        "input " + std::to_string(i) + ": the op runs in f32 and f64 only");
        }
        in.push_back({t.dtype, {t.shape, t.shape + t.ndim}});
      }
      const OpPlan plan = Of(p).Infer(std::span<const TensorSpec>(in));
      if (plan.out.size() != shapes->n_out) {
        throw Failure(RETORT_INVALID_ARGUMENT, "the op has " + std::to_string(plan.out.size()) +
                                                   " outputs, the graph asks for " +
                                                   std::to_string(shapes->n_out));
      }
      WriteSpecs(plan.out, "out", shapes->out);
      WriteSpecs(plan.saved, "saved", shapes->saved);
      WriteSpecs(plan.state, "state", shapes->state);
      shapes->n_saved = static_cast<uint32_t>(plan.saved.size());
      shapes->n_state = static_cast<uint32_t>(plan.state.size());
      shapes->backward_in = plan.backward_in;
      shapes->backward_out = plan.backward_out;
    });
  }
  // fn with OpArgs of the type that the values have.
  template <class Fn>
  static retort_status Run(const retort_call* raw, const retort_tensor* value,
                           const retort_op_args* args, Fn&& fn) noexcept {
    return Guard(raw, [&] {
      if (value != nullptr && IsType<double>(value->dtype)) {
        fn(Call(raw), OpArgs<double>(args));
      } else {
        fn(Call(raw), OpArgs<float>(args));
      }
    });
  }
  static retort_status Forward(retort_instance* p, const retort_call* raw,
                               const retort_op_args* args) noexcept {
    return Run(raw, args->out[0], args, [p]<class V>(const Call& call, const OpArgs<V>& a) {
      Of(p).template Forward<V>(call, a);
    });
  }
  static retort_status Backward(retort_instance* p, const retort_call* raw,
                                const retort_op_args* args) noexcept {
    return Run(raw, args->d_out[0], args, [p]<class V>(const Call& call, const OpArgs<V>& a) {
      if constexpr (HasBackward<T>) Of(p).template Backward<V>(call, a);
    });
  }
  static retort_status Decode(retort_instance* p, const retort_call* raw,
                              const retort_op_args* args) noexcept {
    return Run(raw, args->out[0], args, [p]<class V>(const Call& call, const OpArgs<V>& a) {
      if constexpr (HasDecode<T>) Of(p).template Decode<V>(call, a);
    });
  }

  T op_;
  retort_op_v1 table_ = {sizeof(retort_op_v1), 0, Infer, Forward, nullptr, nullptr};
};

}  // namespace internal
}  // namespace retort::sdk

#define RETORT_OP(ID, CLASS, SUMMARY, SCHEMA)                                                  \
  RETORT_SDK_REGISTER(RETORT_KIND_OP, ID, ::retort::sdk::internal::OpInstance<CLASS>, SUMMARY, \
                      SCHEMA)

#endif  // RETORT_SDK_OP_H_
