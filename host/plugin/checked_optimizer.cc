// Optimizers: a sane spec of state. The host itself checks gradients before a step.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "host/plugin/checked_call.h"

namespace retort::host {
namespace {

constexpr uint32_t kMaxDims = 8, kMaxStates = 64;

Status CheckState(const retort_state_spec& state, uint32_t grain) {
  if (state.name == nullptr || *state.name == '\0') return InvalidArgument("a state has no name");
  const std::string what = std::string("state ") + state.name + ": ";
  if (state.dtype > RETORT_STATE_U8) return Unimplemented(what + "unknown dtype");
  if (state.init > RETORT_STATE_INIT_COPY_PARAM) return Unimplemented(what + "unknown init");
  if (state.shape > RETORT_STATE_SHAPE_EXPLICIT) return Unimplemented(what + "unknown shape");
  if (state.shape == RETORT_STATE_SHAPE_PER_BLOCK && state.block == 0) {
    return InvalidArgument(what + "PER_BLOCK needs a block size");
  }
  if (state.shape == RETORT_STATE_SHAPE_EXPLICIT) {
    if (grain == RETORT_GRAIN_ELEMENTWISE || state.dims == nullptr || state.ndim > kMaxDims) {
      return InvalidArgument(what + "EXPLICIT needs grain WHOLE and 0 to 8 dims");
    }
    for (uint32_t i = 0; i < state.ndim; ++i) {
      if (state.dims[i] <= 0) return InvalidArgument(what + "every dim must be above 0");
    }
  }
  if (state.init == RETORT_STATE_INIT_CONSTANT && !std::isfinite(state.init_value)) {
    return InvalidArgument(what + "its init value is not finite");
  }
  return OkStatus();
}

Status CheckSpec(const retort_optimizer_spec* spec) {
  if (spec == nullptr) return InvalidArgument("spec succeeded without a result");
  if (spec->struct_size < sizeof(retort_optimizer_spec)) {
    return InvalidArgument("spec has struct_size " + std::to_string(spec->struct_size) +
                           ", expected at least " + std::to_string(sizeof(retort_optimizer_spec)));
  }
  if (spec->grain > RETORT_GRAIN_WHOLE) {
    return Unimplemented("unknown grain " + std::to_string(spec->grain));
  }
  if (spec->n_states > 0 &&
      (spec->states == nullptr || spec->state_stride < sizeof(retort_state_spec))) {
    return InvalidArgument("spec has states without an array or with too small a stride");
  }
  if (spec->n_states > kMaxStates) {
    return InvalidArgument("spec has " + std::to_string(spec->n_states) + " states, at most " +
                           std::to_string(kMaxStates) + " are allowed");
  }
  const char* at = reinterpret_cast<const char*>(spec->states);
  for (uint32_t i = 0; i < spec->n_states; ++i, at += spec->state_stride) {
    RETORT_RETURN_IF_ERROR(
        CheckState(*reinterpret_cast<const retort_state_spec*>(at), spec->grain));
  }
  return OkStatus();
}

retort_status Spec(retort_instance* handle, const retort_call* call, const retort_param_info* info,
                   const retort_optimizer_spec** out) {
  CheckedInstance& self = CheckedInstance::Of(handle);
  CallRelay relay(call);
  *out = nullptr;
  const retort_status status = RunGuarded(self, &relay, false, [&] {
    return self.in.optimizer->spec(self.inner, relay.call(), info, out);
  });
  if (status != RETORT_OK) return status;
  return Verify(relay, [&]() -> Status {
    return CheckSpec(*out).WithContext(std::string("for param ") + info->name);
  });
}

retort_status Step(retort_instance* handle, const retort_call* call,
                   const retort_optimizer_args* args) {
  CheckedInstance& self = CheckedInstance::Of(handle);
  CallRelay relay(call);
  return RunGuarded(self, &relay, false,
                    [&] { return self.in.optimizer->step(self.inner, relay.call(), args); });
}

retort_status Save(retort_instance* handle, const retort_call* call, const retort_sink* sink) {
  return RunSave(handle, call, sink, [](auto& self, auto* inner_call, auto* out) {
    return self.in.optimizer->save(self.inner, inner_call, out);
  });
}

retort_status Load(retort_instance* handle, const retort_call* call, const retort_reader* reader) {
  return RunLoad(handle, call, reader, [](auto& self, auto* inner_call, auto* in) {
    return self.in.optimizer->load(self.inner, inner_call, in);
  });
}

}  // namespace

void WrapOptimizer(CheckedInstance* self) {
  retort_optimizer_v1& out = self->out.optimizer;
  out = *self->in.optimizer;
  out.struct_size = sizeof(out);
  out.spec = Spec;
  out.step = Step;
  if (out.save != nullptr) out.save = Save;
  if (out.load != nullptr) out.load = Load;
}

}  // namespace retort::host
