// Families: a score in range, and a builder whose callbacks can't throw into the plugin. The graph
// itself is checked by the builder.
// SPDX-License-Identifier: Apache-2.0
#include "host/plugin/checked_call.h"

namespace retort::host {
namespace {

// The builder of the caller, for the plugin: each function under the call's guard. A function that
// throws gives id 0 and fails the build.
struct BuilderRelay {
  CallRelay* relay;
  const retort_builder_v1* outer;
};

template <auto kFunction>
struct Guarded;
template <class R, class... A, R (*retort_builder_v1::*kFunction)(void*, A...)>
struct Guarded<kFunction> {
  static R Call(void* ctx, A... args) {
    const BuilderRelay& self = *static_cast<BuilderRelay*>(ctx);
    if constexpr (std::is_void_v<R>) {
      self.relay->Run([&] { (self.outer->*kFunction)(self.outer->ctx, args...); });
    } else {
      R result{};
      self.relay->Run([&] { result = (self.outer->*kFunction)(self.outer->ctx, args...); });
      return result;
    }
  }
};

// The same functions that the caller has; a NULL stays NULL.
template <auto kFunction>
void Put(const retort_builder_v1& outer, retort_builder_v1* inner) {
  if (outer.*kFunction != nullptr) inner->*kFunction = Guarded<kFunction>::Call;
}

template <auto... kFunctions>
void PutAll(const retort_builder_v1& outer, retort_builder_v1* inner) {
  (Put<kFunctions>(outer, inner), ...);
}

retort_builder_v1 TableOf(BuilderRelay* relay) {
  using B = retort_builder_v1;
  retort_builder_v1 table{};
  table.struct_size = sizeof(table);
  table.flags = relay->outer->flags;
  table.ctx = relay;
  PutAll<&B::param, &B::embed, &B::linear, &B::rms_norm, &B::layer_norm, &B::head_norm, &B::rope,
         &B::attention, &B::activation, &B::gated, &B::add, &B::mul, &B::scale, &B::slice,
         &B::concat, &B::value_of, &B::moe, &B::custom, &B::output_of, &B::block, &B::result>(
      *relay->outer, &table);
  return table;
}

retort_status Match(retort_instance* handle, const retort_call* call, retort_str config_json,
                    int32_t* score) {
  CheckedInstance& self = CheckedInstance::Of(handle);
  CallRelay relay(call);
  *score = 0;
  const retort_status status = RunGuarded(self, &relay, false, [&] {
    return self.in.family->match(self.inner, relay.call(), config_json, score);
  });
  if (status != RETORT_OK || (*score >= 0 && *score <= 100)) return status;
  const int32_t given = std::exchange(*score, 0);
  return Verify(relay, [&]() -> Status {
    return Internal("match gave " + std::to_string(given) + ", must be 0 to 100");
  });
}

retort_status Build(retort_instance* handle, const retort_call* call, retort_str config_json,
                    const retort_builder_v1* builder) {
  CheckedInstance& self = CheckedInstance::Of(handle);
  CallRelay relay(call);
  BuilderRelay to_builder{.relay = &relay, .outer = builder};
  const retort_builder_v1 inner = TableOf(&to_builder);
  return RunGuarded(self, &relay, false, [&] {
    return self.in.family->build(self.inner, relay.call(), config_json, &inner);
  });
}

retort_status Describe(retort_instance* handle, const retort_call* call, retort_str config_json,
                       const retort_sink* json) {
  return RunSave(handle, call, json, [&](auto& self, auto* inner_call, auto* out) {
    return self.in.family->describe(self.inner, inner_call, config_json, out);
  });
}

}  // namespace

void WrapFamily(CheckedInstance* self) {
  retort_family_v1& out = self->out.family;
  out = *self->in.family;
  out.struct_size = sizeof(out);
  out.match = Match;
  out.build = Build;
  if (out.describe != nullptr) out.describe = Describe;
}

}  // namespace retort::host
