// SPDX-License-Identifier: Apache-2.0
#include "host/check/optimizer_slot.h"

#include <cmath>
#include <cstring>
#include <numeric>
#include <set>

#include "host/check/differences.h"
#include "host/check/guarded.h"

namespace retort::host::check {
namespace {

constexpr int64_t kShardUnit = 64;

Elem ElemOfState(uint32_t dtype) {
  if (dtype == RETORT_STATE_BF16) return Elem::kBF16;
  return dtype == RETORT_STATE_U8 ? Elem::kU8 : Elem::kF32;
}

std::vector<int64_t> StateShape(const StateCopy& state, const Tensor& param) {
  if (state.shape == RETORT_STATE_SHAPE_EXPLICIT) return state.dims;
  if (state.shape == RETORT_STATE_SHAPE_AS_PARAM) return param.shape();
  const auto block = static_cast<int64_t>(state.block);
  return {(param.size() + block - 1) / block};
}

std::vector<int64_t> ParamShape(const ParamDescription& d, const OptimizerSpecCopy& spec) {
  return spec.grain == RETORT_GRAIN_ELEMENTWISE ? std::vector<int64_t>{d.size()} : d.shape;
}

bool IsStateName(std::string_view name) {
  return !name.empty() &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == std::string_view::npos;
}

Status CheckState(const retort_state_spec& s, uint32_t grain) {
  const std::string name = s.name == nullptr ? "" : s.name;
  const std::string what = "state \"" + name + "\": ";
  if (!IsStateName(name)) return InvalidArgument(what + "its name must be [a-z0-9_]+");
  if (s.dtype > RETORT_STATE_U8) return InvalidArgument(what + "unknown dtype");
  if (s.shape > RETORT_STATE_SHAPE_EXPLICIT) return InvalidArgument(what + "unknown shape");
  if (s.init > RETORT_STATE_INIT_COPY_PARAM) return InvalidArgument(what + "unknown init");
  if (!std::isfinite(s.init_value)) return InvalidArgument(what + "init_value is not finite");
  if (s.init == RETORT_STATE_INIT_COPY_PARAM && s.shape != RETORT_STATE_SHAPE_AS_PARAM) {
    return InvalidArgument(what + "INIT_COPY_PARAM needs SHAPE_AS_PARAM");
  }
  if (s.shape == RETORT_STATE_SHAPE_PER_BLOCK && (s.block == 0 || s.block > 1U << 30)) {
    return InvalidArgument(what + "PER_BLOCK with block " + std::to_string(s.block));
  }
  if (s.shape != RETORT_STATE_SHAPE_EXPLICIT) return OkStatus();
  if (grain == RETORT_GRAIN_ELEMENTWISE) {
    return InvalidArgument(what + "EXPLICIT can't be sharded: it needs grain WHOLE");
  }
  if (s.dims == nullptr || s.ndim < 1 || s.ndim > 4) {
    return InvalidArgument(what + "EXPLICIT needs dims, 1 to 4 of them");
  }
  int64_t size = 1;
  for (uint32_t i = 0; i < s.ndim; ++i) {
    if (s.dims[i] <= 0 || s.dims[i] > (int64_t{1} << 24) / size) {
      return InvalidArgument(what + "dims must be above 0, and sane");
    }
    size *= s.dims[i];
  }
  return OkStatus();
}

StateCopy CopyOf(const retort_state_spec& s) {
  StateCopy copy{.name = s.name,
                 .dtype = s.dtype,
                 .shape = s.shape,
                 .init = s.init,
                 .init_value = s.init_value,
                 .block = s.block,
                 .dims = {}};
  if (s.shape == RETORT_STATE_SHAPE_EXPLICIT) copy.dims.assign(s.dims, s.dims + s.ndim);
  return copy;
}

Result<OptimizerSpecCopy> CopySpec(const retort_optimizer_spec* spec) {
  if (spec == nullptr) return InvalidArgument("spec gave OK, but no spec");
  if (spec->struct_size < sizeof(*spec)) {
    return InvalidArgument("the spec's struct_size is " + std::to_string(spec->struct_size) +
                           ", must be at least " + std::to_string(sizeof(*spec)));
  }
  if ((spec->flags & 0xFFFF) != 0) return InvalidArgument("the spec has unknown flags");
  if (spec->grain > RETORT_GRAIN_WHOLE) return InvalidArgument("the spec has an unknown grain");
  if (spec->n_states > 64) return InvalidArgument("the spec has more than 64 states");
  if (spec->n_states > 0 &&
      (spec->states == nullptr || spec->state_stride < sizeof(retort_state_spec))) {
    return InvalidArgument("the spec has states, but no array or too small a stride");
  }
  OptimizerSpecCopy copy{.grain = spec->grain, .states = {}};
  std::set<std::string> names;
  const char* at = reinterpret_cast<const char*>(spec->states);
  for (uint32_t i = 0; i < spec->n_states; ++i, at += spec->state_stride) {
    const auto& state = *reinterpret_cast<const retort_state_spec*>(at);
    RETORT_RETURN_IF_ERROR(CheckState(state, spec->grain));
    copy.states.push_back(CopyOf(state));
    if (!names.insert(state.name).second) {
      return InvalidArgument("two states are named \"" + copy.states.back().name + "\"");
    }
  }
  return copy;
}

retort_param_info InfoOf(const ParamDescription& d) {
  retort_param_info info{};
  info.struct_size = sizeof(info);
  info.roles = d.roles;
  info.name = d.name.c_str();
  info.shape = d.shape.data();
  info.ndim = static_cast<uint32_t>(d.shape.size());
  info.group = d.group;
  return info;
}

}  // namespace

int64_t ParamDescription::size() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

std::vector<ParamDescription> SomeParams() {
  const std::string layer = "model.layers.0.";
  return {{"model.embed_tokens.weight", {37, 24}, RETORT_ROLE_EMBEDDING | RETORT_ROLE_HEAD, 0},
          {layer + "mlp.up_proj.weight", {49, 31}, RETORT_ROLE_MATRIX, 0},
          {layer + "mlp.up_proj.bias", {49}, RETORT_ROLE_BIAS, 1},
          {layer + "input_layernorm.weight", {31}, RETORT_ROLE_NORM, 1},
          {layer + "mlp.experts.down_proj", {3, 9, 16}, RETORT_ROLE_EXPERT, 0},
          {layer + "mlp.gate.weight", {3, 31}, RETORT_ROLE_MATRIX | RETORT_ROLE_ROUTER, 0},
          {layer + "mlp.up_proj.lora_A.weight", {4, 31}, RETORT_ROLE_MATRIX | RETORT_ROLE_LORA, 0}};
}

Slot::Slot(const ParamDescription& d, const OptimizerSpecCopy& s, Rng* rng)
    : description(d),
      spec(s),
      param("param of " + d.name, Elem::kF32, ParamShape(d, s)),
      grad("grad of " + d.name, Elem::kF32, ParamShape(d, s)) {
  param.Randomise(rng, 0.5);
  grad.Randomise(rng, 1);
  for (const StateCopy& state : spec.states) {
    Tensor& tensor = states.emplace_back(state.name + " of " + d.name, ElemOfState(state.dtype),
                                         StateShape(state, param));
    if (state.init == RETORT_STATE_INIT_CONSTANT) tensor.Fill(state.init_value);
    for (int64_t i = 0; state.init == RETORT_STATE_INIT_COPY_PARAM && i < tensor.size(); ++i) {
      tensor.Set(i, param.At(i));
    }
  }
}

int64_t Slot::Unit() const {
  int64_t unit = kShardUnit;
  for (const StateCopy& state : spec.states) {
    if (state.shape == RETORT_STATE_SHAPE_PER_BLOCK) {
      unit = std::lcm(unit, static_cast<int64_t>(state.block));
    }
  }
  return unit;
}

Slot Slot::Shard(int64_t begin, int64_t end) const {
  Slot shard = *this;
  shard.shard_offset = begin;
  shard.param = param.Rows(begin, end);
  shard.grad = grad.Rows(begin, end);
  if (low_precision.has_value()) shard.low_precision = low_precision->Rows(begin, end);
  for (size_t i = 0; i < states.size(); ++i) {
    const auto block = spec.states[i].shape == RETORT_STATE_SHAPE_PER_BLOCK
                           ? static_cast<int64_t>(spec.states[i].block)
                           : 1;
    shard.states[i] = states[i].Rows(begin / block, (end + block - 1) / block);
  }
  return shard;
}

std::vector<const Tensor*> Slot::Outputs() const {
  std::vector<const Tensor*> all = {&param};
  for (const Tensor& state : states) all.push_back(&state);
  if (low_precision.has_value()) all.push_back(&*low_precision);
  return all;
}

std::string Slot::Damage() const {
  for (const Tensor* tensor : Outputs()) {
    if (std::string text = tensor->Damage(); !text.empty()) return text;
  }
  return grad.Damage();
}

std::string SlotsDiffer(const Slot& found, const Slot& expected) {
  const std::vector<const Tensor*> a = found.Outputs(), b = expected.Outputs();
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::string text = FirstDifference(*a[i], *b[i], kSameBits); !text.empty()) return text;
  }
  return "";
}

// The arrays of one call over slots; all read-only but the tensors' data.
struct Optimizer::Args {
  Args(std::span<Slot> slots, int64_t step, const How& how)
      : learning_rate(how.learning_rate), weight_decay(how.weight_decay) {
    for (Slot& slot : slots) {
      infos.emplace_back(InfoOf(slot.description), how.growth);
      std::vector<retort_tensor*>& states = pointers.emplace_back();
      for (Tensor& state : slot.states) states.push_back(state.get());
      tensors.push_back(
          {.info = infos.back().get(),
           .param = slot.param.get(),
           .low_precision = slot.low_precision.has_value() ? slot.low_precision->get() : nullptr,
           .grad = slot.grad.get(),
           .states = states.data(),
           .shard_offset = static_cast<uint64_t>(slot.shard_offset),
           .step = step});
    }
    if (how.grad_scale.has_value()) {
      scale.Set(0, *how.grad_scale);
      scale.Remember();
    }
    array.emplace(std::span<const retort_optimizer_tensor>(tensors));
    retort_optimizer_args raw{};
    raw.struct_size = sizeof(raw);
    raw.tensor_stride = array->stride();
    raw.tensors = array->get();
    raw.n = slots.size();
    raw.learning_rate = learning_rate.data();
    raw.weight_decay = weight_decay.data();
    raw.n_groups = static_cast<uint32_t>(how.learning_rate.size());
    raw.grad_scale = how.grad_scale.has_value() ? scale.get() : nullptr;
    args.emplace(raw, how.growth);
    before = {learning_rate.values().begin(), learning_rate.values().end()};
  }

  Status Untouched(const How& how) const {
    bool same = array->untouched() && args->untouched();
    for (const auto& info : infos) same = same && info.untouched();
    if (!same) return Internal("step wrote into its argument structs");
    for (size_t g = 0; g < before.size(); ++g) {
      if (learning_rate.values()[g] != how.learning_rate[g] ||
          weight_decay.values()[g] != how.weight_decay[g]) {
        return Internal("step wrote into learning_rate or weight_decay");
      }
    }
    const std::string text = how.grad_scale.has_value() ? scale.Change() + scale.Damage() : "";
    return text.empty() ? OkStatus() : Internal(text);
  }

  std::deque<GuardedStruct<retort_param_info>> infos;
  std::deque<std::vector<retort_tensor*>> pointers;
  std::vector<retort_optimizer_tensor> tensors;
  ZonedArray<double> learning_rate, weight_decay;
  std::vector<double> before;
  Tensor scale{"grad_scale", Elem::kF32, {1}};
  std::optional<StridedArray<retort_optimizer_tensor>> array;
  std::optional<GuardedStruct<retort_optimizer_args>> args;
};

Result<Optimizer> Optimizer::Open(const Subject& subject) {
  RETORT_ASSIGN_OR_RETURN(RawInstance plugin, RawInstance::Create(subject));
  Optimizer optimizer(std::move(plugin));
  if (optimizer.plugin_.Find(RETORT_OPTIMIZER_INTERFACE) == nullptr) return optimizer;
  RETORT_ASSIGN_OR_RETURN(optimizer.table_,
                          optimizer.plugin_.Table<retort_optimizer_v1>(RETORT_OPTIMIZER_INTERFACE));
  return optimizer;
}

Result<OptimizerSpecCopy> Optimizer::Spec(const ParamDescription& description) const {
  GuardedStruct<retort_param_info> info(InfoOf(description));
  const retort_optimizer_spec* spec = nullptr;
  RawCall call;
  RETORT_RETURN_IF_ERROR(call.End(table_->spec(plugin_.get(), call.Begin(), info.get(), &spec),
                                  "spec of " + description.name));
  Result<OptimizerSpecCopy> copy = CopySpec(spec);
  if (!copy.ok()) return copy.status().WithContext("spec of " + description.name);
  return copy;
}

Result<std::vector<Slot>> Optimizer::Slots(std::span<const ParamDescription> descriptions,
                                           Rng* rng) const {
  std::vector<Slot> slots;
  for (const ParamDescription& description : descriptions) {
    RETORT_ASSIGN_OR_RETURN(const OptimizerSpecCopy spec, Spec(description));
    slots.emplace_back(description, spec, rng);
  }
  return slots;
}

Status Optimizer::Step(std::span<Slot> slots, int64_t step, const How& how) const {
  Args args(slots, step, how);
  RawCall call(how.growth);
  call.raw().step = step - 1;
  call.raw().n_threads = how.n_threads;
  RETORT_RETURN_IF_ERROR(call.End(table_->step(plugin_.get(), call.Begin(), args.args->get()),
                                  "step " + std::to_string(step)));
  return args.Untouched(how);
}

Result<retort_status> Optimizer::StepBroken(std::span<Slot> slots) const {
  Args args(slots, 1, How{});
  RawCall call;
  const retort_status status = table_->step(plugin_.get(), call.Begin(), args.args->get());
  if (const Status misuse = call.EndFailed(status, "step"); !misuse.ok()) return misuse;
  return status;
}

Result<std::string> Optimizer::Save() const {
  ByteSink bytes(5);
  const retort_sink sink = bytes.get();
  RawCall call;
  RETORT_RETURN_IF_ERROR(call.End(table_->save(plugin_.get(), call.Begin(), &sink), "save"));
  return bytes.bytes();
}

Result<retort_status> Optimizer::Load(const std::string& bytes, uint64_t max_step) const {
  ByteReader from(bytes, max_step);
  const retort_reader reader = from.get();
  RawCall call;
  const retort_status status = table_->load(plugin_.get(), call.Begin(), &reader);
  if (const Status misuse = call.EndFailed(status, "load"); !misuse.ok()) return misuse;
  return status;
}

}  // namespace retort::host::check
