// SPDX-License-Identifier: Apache-2.0
#include "core/train/state_specs.h"

#include <cmath>
#include <span>

#include "core/base/checked.h"
#include "core/engine/plan.h"

namespace retort::train {
namespace {

Result<DType> StateDType(const retort_state_spec& state) {
  switch (state.dtype) {
    case RETORT_STATE_F32:
    case RETORT_STATE_AS_PARAM: return DType::kF32;
    case RETORT_STATE_BF16: return DType::kBF16;
    case RETORT_STATE_U8: return DType::kU8;
    default: return Unimplemented("dtype " + std::to_string(state.dtype) + " is unknown");
  }
}

// The shape that a state has for this param, or why it can't have one.
Result<std::vector<int64_t>> StateShape(const retort_state_spec& state, bool elementwise,
                                        const TensorView& param) {
  const std::span<const int64_t> shape(param.shape.data(), static_cast<size_t>(param.ndim));
  switch (state.shape) {
    case RETORT_STATE_SHAPE_AS_PARAM: return std::vector<int64_t>(shape.begin(), shape.end());
    case RETORT_STATE_SHAPE_PER_BLOCK: {
      if (state.block == 0) return InvalidArgument("its block is 0");
      const auto elements = static_cast<uint64_t>(param.numel());
      return std::vector<int64_t>{static_cast<int64_t>((elements + state.block - 1) / state.block)};
    }
    case RETORT_STATE_SHAPE_EXPLICIT: break;
    default: return Unimplemented("shape rule " + std::to_string(state.shape) + " is unknown");
  }
  int64_t numel = 0;
  if (elementwise) return InvalidArgument("explicit dimensions don't go with ELEMENTWISE");
  if (state.ndim > TensorView::kMaxDims || (state.ndim > 0 && state.dims == nullptr) ||
      !CheckedNumel({state.dims, state.ndim}, &numel)) {
    return InvalidArgument("its explicit dimensions make no sense");
  }
  return std::vector<int64_t>(state.dims, state.dims + state.ndim);
}

Status CheckInit(const retort_state_spec& state, DType dtype, const TensorView& view,
                 const TensorView& param) {
  if (state.init == RETORT_STATE_INIT_COPY_PARAM) {
    if (dtype == param.dtype && view.numel() == param.numel()) return OkStatus();
    return InvalidArgument("COPY_PARAM needs the param's own dtype and size");
  }
  if (state.init != RETORT_STATE_INIT_CONSTANT) {
    return Unimplemented("init rule " + std::to_string(state.init) + " is unknown");
  }
  const bool byte = state.init_value >= 0 && state.init_value <= 255 &&
                    state.init_value == std::floor(state.init_value);
  if (!std::isfinite(state.init_value) || (dtype == DType::kU8 && !byte)) {
    return InvalidArgument("its init value doesn't fit its dtype");
  }
  return OkStatus();
}

Status CheckGrain(const retort_optimizer_spec* spec, const std::string& where) {
  if (spec == nullptr) return Internal(where + " gave nothing");
  if (spec->grain == RETORT_GRAIN_ELEMENTWISE || spec->grain == RETORT_GRAIN_WHOLE) {
    return OkStatus();
  }
  return Unimplemented(where + ": grain " + std::to_string(spec->grain) + " is unknown");
}

// State `index` of a param, into `states`.
Status DeclareState(uint32_t index, const TensorView& param, DeclaredStates& states) {
  const retort_state_spec& state = StateAt(*states.spec, index);
  RETORT_ASSIGN_OR_RETURN(const DType dtype, StateDType(state));
  RETORT_ASSIGN_OR_RETURN(const std::vector<int64_t> shape,
                          StateShape(state, states.elementwise, param));
  states.views.push_back(TensorView::Contiguous(nullptr, dtype, shape));
  states.names.emplace_back(state.name);
  return CheckInit(state, dtype, states.views.back(), param);
}

}  // namespace

const retort_state_spec& StateAt(const retort_optimizer_spec& spec, uint32_t i) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(spec.states);
  return *reinterpret_cast<const retort_state_spec*>(bytes + i * spec.state_stride);
}

int64_t PlacedBytes(const TensorView& state) {
  constexpr int64_t kAlignment = 64;
  return (state.bytes() + kAlignment - 1) / kAlignment * kAlignment;
}

Result<DeclaredStates> DeclareStates(const engine::Optimizer& optimizer, PluginCall& call,
                                     const retort_param_info& info) {
  const std::string plugin = "optimizer \"" + optimizer.name + "\": ", name = info.name;
  DeclaredStates states;
  const retort_status status =
      optimizer.table->spec(optimizer.instance, call.Begin(), &info, &states.spec);
  RETORT_RETURN_IF_ERROR(call.End(status, "spec of " + name));
  RETORT_RETURN_IF_ERROR(CheckGrain(states.spec, plugin + "spec of " + name));
  states.elementwise = states.spec->grain == RETORT_GRAIN_ELEMENTWISE;
  TensorView param = TensorView::Contiguous(nullptr, DType::kF32, {info.shape, info.ndim});
  if (states.elementwise) param = TensorView::Contiguous(nullptr, DType::kF32, {param.numel()});
  for (uint32_t i = 0; i < states.spec->n_states; ++i) {
    const char* state = StateAt(*states.spec, i).name;
    const std::string where =
        plugin + "state \"" + (state == nullptr ? "" : state) + "\" of " + name;
    if (state == nullptr || *state == 0) return InvalidArgument(where + " has no name");
    RETORT_RETURN_IF_ERROR(DeclareState(i, param, states).WithContext(where));
  }
  return states;
}

Result<int64_t> StateBytes(const engine::Optimizer& optimizer, const graph::Graph& graph,
                           int32_t adapter) {
  PluginCall call("optimizer \"" + optimizer.name + "\"");
  int64_t bytes = 0;
  for (const graph::Param& param : graph.params) {
    if (!engine::IsTrained(param, adapter)) continue;
    const retort_param_info info = {.struct_size = sizeof(info),
                                    .roles = param.roles,
                                    .name = param.name.c_str(),
                                    .shape = param.shape.data(),
                                    .ndim = static_cast<uint32_t>(param.shape.size()),
                                    .group = 0};
    RETORT_ASSIGN_OR_RETURN(const DeclaredStates states, DeclareStates(optimizer, call, info));
    for (const TensorView& state : states.views) bytes += PlacedBytes(state);
  }
  return bytes;
}

}  // namespace retort::train
