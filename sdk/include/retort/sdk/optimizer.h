// Optimizers in C++: a class with
//   OptimizerSpec Spec(const retort_param_info&) const     a pure function of config and info
//   void Step(const Call&, const Update&)                  one tensor or shard
// or, instead of Step, void StepAll(const Call&, std::span<const Update>): all of a step at once;
// optionally `std::string Save() const` and `void Load(std::string_view)` for scalar state; then
//   RETORT_OPTIMIZER("my_optimizer", MyOptimizer, "one line for people", kSchema);
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_SDK_OPTIMIZER_H_
#define RETORT_SDK_OPTIMIZER_H_

#include <array>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "retort/abi/draft/optimizer.h"
#include "retort/sdk/plugin.h"
#include "retort/sdk/stream.h"
#include "retort/sdk/tensor.h"

namespace retort::sdk {

// One state tensor of a param; names are string literals. A name alone: f32 zeros like the param.
struct StateSpec {
  StateSpec(const char* state_name, uint32_t state_dtype = RETORT_STATE_F32, double start = 0)
      : name(state_name), dtype(state_dtype), init_value(start) {}
  // One f32 zero per `elements` of the param.
  static StateSpec PerBlock(const char* name, uint64_t elements) {
    StateSpec spec(name);
    spec.shape = RETORT_STATE_SHAPE_PER_BLOCK;
    spec.block = elements;
    return spec;
  }
  // f32 zeros of a shape of its own; with RETORT_GRAIN_WHOLE.
  static StateSpec Explicit(const char* name, std::vector<int64_t> dims) {
    StateSpec spec(name);
    spec.shape = RETORT_STATE_SHAPE_EXPLICIT;
    spec.dims = std::move(dims);
    return spec;
  }
  bool operator==(const StateSpec&) const = default;

  const char* name;
  uint32_t dtype, shape = RETORT_STATE_SHAPE_AS_PARAM;
  double init_value;
  uint64_t block = 0;
  std::vector<int64_t> dims = {};
};

struct OptimizerSpec {
  uint32_t grain = RETORT_GRAIN_ELEMENTWISE;
  std::vector<StateSpec> states = {};
  bool operator==(const OptimizerSpec&) const = default;
};

// One tensor to update. Gradients are to be multiplied by grad_scale first.
class Update {
 public:
  Update(const retort_optimizer_args& args, const retort_optimizer_tensor& tensor,
         double grad_scale)
      : args_(&args), tensor_(&tensor), grad_scale_(grad_scale) {}
  const retort_param_info& info() const { return *tensor_->info; }
  const retort_optimizer_tensor& raw() const { return *tensor_; }
  std::span<float> param() const { return FlatOf<float>(*tensor_->param, "param"); }
  std::span<float> grad() const { return FlatOf<float>(*tensor_->grad, "grad"); }
  template <class T = float>
  std::span<T> state(size_t i) const {
    return FlatOf<T>(*tensor_->states[i], "state");
  }
  int64_t step() const { return tensor_->step; }  // from 1
  double learning_rate() const { return args_->learning_rate[info().group]; }
  double weight_decay() const { return args_->weight_decay[info().group]; }
  double grad_scale() const { return grad_scale_; }
  // Throws unless `size`, of the gradient or a state, is `expected`.
  void ExpectSize(size_t size, size_t expected) const {
    if (size == expected) return;
    throw Failure(RETORT_INVALID_ARGUMENT,
                  std::string(info().name) + ": its gradient or a state has " +
                      std::to_string(size) + " elements, must have " + std::to_string(expected));
  }

 private:
  const retort_optimizer_args* args_;
  const retort_optimizer_tensor* tensor_;
  double grad_scale_;
};

// config["betas"]: two decays from 0 on, below 1.
inline std::array<double, 2> BetasOf(const Config& config) {
  const JsonValue betas = config["betas"];
  if (betas.size() != 2) {
    throw Failure(RETORT_INVALID_ARGUMENT,
                  "/betas: has " + std::to_string(betas.size()) + " numbers, must have 2");
  }
  std::array<double, 2> values{};
  for (size_t i = 0; i < 2; ++i) {
    values[i] = betas.at(i).AsDouble();
    if (values[i] < 0 || values[i] >= 1) {
      throw Failure(RETORT_INVALID_ARGUMENT, betas.at(i).name() + ": must be below 1");
    }
  }
  return values;
}

namespace internal {

// Rounds to nearest even; NaN stays NaN.
inline uint16_t ToBf16(float x) {
  uint32_t bits = 0;
  std::memcpy(&bits, &x, sizeof bits);
  if (x != x) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline void FillLowPrecision(const retort_optimizer_tensor& t) {
  if (t.low_precision == nullptr) return;
  if (t.low_precision->dtype.code != RETORT_DTYPE_BFLOAT) {
    throw Failure(RETORT_UNIMPLEMENTED, "low_precision is not bf16");
  }
  const std::span<const float> from = FlatOf<const float>(*t.param, "param");
  auto* to = static_cast<uint16_t*>(t.low_precision->data);
  for (size_t i = 0; i < from.size(); ++i) to[i] = ToBf16(from[i]);
}

template <class T>
class OptimizerInstance final : public Instance {
 public:
  explicit OptimizerInstance(const Config& config) : optimizer_(config) {
    if constexpr (requires(const T& t) { t.Save(); }) {
      table_.save = Save;
      table_.load = Load;
    }
  }
  const void* GetInterface(std::string_view id) override {
    return id == RETORT_OPTIMIZER_INTERFACE ? &table_ : nullptr;
  }

 private:
  struct Stored {  // addresses stay: kept in a deque
    OptimizerSpec spec;
    std::vector<retort_state_spec> states;
    retort_optimizer_spec raw{};
  };
  static OptimizerInstance& Of(retort_instance* p) {
    return static_cast<OptimizerInstance&>(Instance::Of(p));
  }
  const retort_optimizer_spec* Store(OptimizerSpec spec) {
    for (const Stored& s : specs_) {
      if (s.spec == spec) return &s.raw;
    }
    Stored& s = specs_.emplace_back();
    s.spec = std::move(spec);
    for (const StateSpec& state : s.spec.states) {
      s.states.push_back({state.name, state.dtype, state.shape, RETORT_STATE_INIT_CONSTANT,
                          static_cast<uint32_t>(state.dims.size()), state.init_value, state.block,
                          state.dims.empty() ? nullptr : state.dims.data()});
    }
    s.raw = {sizeof(s.raw),   0,
             s.spec.grain,    static_cast<uint32_t>(s.states.size()),
             s.states.data(), sizeof(retort_state_spec)};
    return &s.raw;
  }
  static retort_status Spec(retort_instance* p, const retort_call* call,
                            const retort_param_info* info,
                            const retort_optimizer_spec** out) noexcept {
    return Guard(call, [&] { *out = Of(p).Store(Of(p).optimizer_.Spec(*info)); });
  }
  static retort_status Step(retort_instance* p, const retort_call* raw,
                            const retort_optimizer_args* args) noexcept {
    return Guard(raw, [&] {
      const Call call(raw);
      const double scale = args->grad_scale == nullptr
                               ? 1.0
                               : double{FlatOf<const float>(*args->grad_scale, "grad_scale")[0]};
      std::vector<Update>& updates = Of(p).updates_;
      updates.clear();
      const char* at = reinterpret_cast<const char*>(args->tensors);
      for (uint64_t i = 0; i < args->n; ++i, at += args->tensor_stride) {
        const auto& tensor = *reinterpret_cast<const retort_optimizer_tensor*>(at);
        if (tensor.info->group >= args->n_groups) {
          throw Failure(RETORT_INVALID_ARGUMENT,
                        std::string(tensor.info->name) + ": its group has no learning rate");
        }
        updates.emplace_back(*args, tensor, scale);
      }
      T& optimizer = Of(p).optimizer_;
      if constexpr (requires { optimizer.StepAll(call, std::span<const Update>(updates)); }) {
        optimizer.StepAll(call, std::span<const Update>(updates));
      } else {
        for (const Update& update : updates) optimizer.Step(call, update);
      }
      for (const Update& update : updates) FillLowPrecision(update.raw());
    });
  }
  static retort_status Save(retort_instance* p, const retort_call* call,
                            const retort_sink* sink) noexcept {
    return Guard(call, [&] {
      if constexpr (requires(const T& t) { t.Save(); }) WriteAll(*sink, Of(p).optimizer_.Save());
    });
  }
  static retort_status Load(retort_instance* p, const retort_call* call,
                            const retort_reader* reader) noexcept {
    return Guard(call, [&] {
      if constexpr (requires(T & t) { t.Load({}); }) Of(p).optimizer_.Load(ReadAll(*reader));
    });
  }

  T optimizer_;
  std::deque<Stored> specs_;
  std::vector<Update> updates_;  // of the step at hand
  retort_optimizer_v1 table_ = {sizeof(retort_optimizer_v1), 0, Spec, Step, nullptr, nullptr};
};

}  // namespace internal
}  // namespace retort::sdk

#define RETORT_OPTIMIZER(ID, CLASS, SUMMARY, SCHEMA) \
  RETORT_SDK_REGISTER(RETORT_KIND_OPTIMIZER, ID,     \
                      ::retort::sdk::internal::OptimizerInstance<CLASS>, SUMMARY, SCHEMA)

#endif  // RETORT_SDK_OPTIMIZER_H_
