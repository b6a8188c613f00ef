// SPDX-License-Identifier: Apache-2.0
#include "core/train/optimizer_state.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "core/base/abi_tensor.h"
#include "core/base/features.h"

namespace retort::train {
namespace {

TensorView Flat(const TensorView& view) {
  return TensorView::Contiguous(view.data, view.dtype, {view.numel()});
}

void Init(const retort_state_spec& state, const TensorView& param, const TensorView& view) {
  if (state.init == RETORT_STATE_INIT_COPY_PARAM) {
    std::memcpy(view.data, param.data, static_cast<size_t>(view.bytes()));
    return;
  }
  if (state.init_value == 0) return;  // a fresh arena is zero
  const auto n = static_cast<size_t>(view.numel());
  const auto value = static_cast<float>(state.init_value);
  if (view.dtype == DType::kF32) std::fill_n(view.as<float>(), n, value);
  if (view.dtype == DType::kU8) std::fill_n(view.as<uint8_t>(), n, static_cast<uint8_t>(value));
  if (view.dtype == DType::kBF16) {
    uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    const auto rounded = static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
    std::fill_n(view.as<uint16_t>(), n, rounded);
  }
}

}  // namespace

OptimizerState::OptimizerState(const engine::Optimizer& optimizer, ParamGroups groups)
    : one_by_one_(IsDisabled("multitensor")),
      optimizer_(optimizer),
      call_("optimizer \"" + optimizer.name + "\""),
      groups_(std::move(groups)),
      learning_rates_(groups_.lr_scale.size()) {}

Result<std::unique_ptr<OptimizerState>> OptimizerState::Make(const engine::Optimizer& optimizer,
                                                             const graph::Graph& graph,
                                                             std::span<const TensorView> params,
                                                             const engine::Gradients& grads,
                                                             ParamGroups groups) {
  if (optimizer.table == nullptr) return InvalidArgument("training needs an optimizer");
  std::unique_ptr<OptimizerState> made(new OptimizerState(optimizer, std::move(groups)));
  for (size_t p = 0; p < graph.params.size(); ++p) {
    const auto index = static_cast<int32_t>(p);
    if (!grads.Wanted(index)) continue;
    RETORT_RETURN_IF_ERROR(
        made->AddSlot(graph.params[p], made->groups_.of_param[p], params[p], grads.view(index)));
  }
  made->PlaceAndInit();
  return made;
}

Status OptimizerState::AddSlot(const graph::Param& param, uint32_t group, const TensorView& weights,
                               const TensorView& grad) {
  Slot& slot = slots_.emplace_back();
  slot.name = param.name;
  slot.shape = param.shape;
  slot.info = {.struct_size = sizeof(slot.info),
               .roles = param.roles,
               .name = slot.name.c_str(),
               .shape = slot.shape.data(),
               .ndim = static_cast<uint32_t>(slot.shape.size()),
               .group = group};
  RETORT_ASSIGN_OR_RETURN(slot.states, DeclareStates(optimizer_, call_, slot.info));
  slot.param = slot.states.elementwise ? Flat(weights) : weights;
  slot.grad = slot.states.elementwise ? Flat(grad) : grad;
  return OkStatus();
}

int64_t OptimizerState::bytes() const {
  int64_t total = 0;
  for (const Slot& slot : slots_) {
    for (const TensorView& state : slot.states.views) total += PlacedBytes(state);
  }
  return total;
}

void OptimizerState::PlaceAndInit() {
  arena_.Reserve(bytes());
  int64_t offset = 0;
  for (Slot& slot : slots_) {
    slot.param_tensor = AbiTensor(slot.param);
    slot.grad_tensor = AbiTensor(slot.grad);
    slot.state_tensors.reserve(slot.states.views.size());
    for (uint32_t i = 0; i < slot.states.spec->n_states; ++i) {
      TensorView& state = slot.states.views[i];
      state.data = arena_.data() + offset;
      offset += PlacedBytes(state);
      Init(StateAt(*slot.states.spec, i), slot.param, state);
      slot.state_tensors.push_back(AbiTensor(state));
      slot.state_pointers.push_back(&slot.state_tensors.back());
    }
    tensors_.push_back({.info = &slot.info,
                        .param = &slot.param_tensor,
                        .low_precision = nullptr,
                        .grad = &slot.grad_tensor,
                        .states = slot.state_pointers.data(),
                        .shard_offset = 0,
                        .step = 0});
  }
}

Status OptimizerState::Step(const StepInputs& inputs, const PluginCallSettings& settings) {
  for (retort_optimizer_tensor& tensor : tensors_) tensor.step = inputs.step + 1;
  for (size_t g = 0; g < learning_rates_.size(); ++g) {
    learning_rates_[g] = inputs.learning_rate * groups_.lr_scale[g];
  }
  float scale = inputs.grad_scale;
  TensorView scale_view = TensorView::Contiguous(&scale, DType::kF32, {1});
  const retort_tensor scale_tensor = AbiTensor(scale_view);
  retort_optimizer_args args{};
  args.struct_size = sizeof(args);
  args.tensor_stride = sizeof(retort_optimizer_tensor);
  args.learning_rate = learning_rates_.data();
  args.weight_decay = groups_.weight_decay.data();
  args.n_groups = static_cast<uint32_t>(learning_rates_.size());
  args.grad_scale = &scale_tensor;
  const size_t per_call = one_by_one_ ? 1 : tensors_.size();
  for (size_t first = 0; first < tensors_.size(); first += per_call) {
    args.tensors = tensors_.data() + first;
    args.n = per_call;
    const retort_status status =
        optimizer_.table->step(optimizer_.instance, call_.Begin(settings), &args);
    RETORT_RETURN_IF_ERROR(call_.End(status, "step"));
  }
  return OkStatus();
}

std::vector<engine::StateTensor> OptimizerState::Views() const {
  std::vector<engine::StateTensor> views;
  for (const Slot& slot : slots_) {
    for (size_t i = 0; i < slot.states.views.size(); ++i) {
      views.push_back({slot.name + "." + slot.states.names[i], slot.states.views[i]});
    }
  }
  return views;
}

Result<std::string> OptimizerState::SaveScalars() {
  std::string bytes;
  if (optimizer_.table->save == nullptr) return bytes;
  const retort_sink sink{.ctx = &bytes, .write = [](void* ctx, const void* data, uint64_t n) {
                           static_cast<std::string*>(ctx)->append(static_cast<const char*>(data),
                                                                  n);
                           return static_cast<int64_t>(n);
                         }};
  const retort_status status = optimizer_.table->save(optimizer_.instance, call_.Begin(), &sink);
  RETORT_RETURN_IF_ERROR(call_.End(status, "save"));
  return bytes;
}

Status OptimizerState::LoadScalars(std::string_view bytes) {
  if (optimizer_.table->load == nullptr) {
    if (bytes.empty()) return OkStatus();
    return DataLoss("optimizer \"" + optimizer_.name + "\" keeps no scalar state, but the " +
                    "checkpoint holds " + std::to_string(bytes.size()) +
                    " bytes of it: was it written with another optimizer?");
  }
  std::string_view rest = bytes;
  const retort_reader reader{.ctx = &rest, .read = [](void* ctx, void* data, uint64_t n) {
                               auto& left = *static_cast<std::string_view*>(ctx);
                               const uint64_t taken = std::min<uint64_t>(n, left.size());
                               std::memcpy(data, left.data(), taken);
                               left.remove_prefix(taken);
                               return static_cast<int64_t>(taken);
                             }};
  const retort_status status = optimizer_.table->load(optimizer_.instance, call_.Begin(), &reader);
  return call_.End(status, "load");
}

}  // namespace retort::train
