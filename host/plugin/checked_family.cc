// Families: a score in range. The graph itself is checked by the builder.
// SPDX-License-Identifier: Apache-2.0
#include "host/plugin/checked_call.h"

namespace retort::host {
namespace {

retort_status Match(retort_instance* handle, const retort_call* call, retort_str config_json,
                    int32_t* score) {
  CheckedInstance& self = CheckedInstance::Of(handle);
  *score = 0;
  const retort_status status = RunGuarded(self, call, false, [&] {
    return self.in.family->match(self.inner, call, config_json, score);
  });
  if (status != RETORT_OK || (*score >= 0 && *score <= 100)) return status;
  const int32_t given = std::exchange(*score, 0);
  return ReportBroken(call, Code::kInternal,
                      "match gave " + std::to_string(given) + ", must be 0 to 100");
}

retort_status Build(retort_instance* handle, const retort_call* call, retort_str config_json,
                    const retort_builder_v1* builder) {
  CheckedInstance& self = CheckedInstance::Of(handle);
  return RunGuarded(self, call, false,
                    [&] { return self.in.family->build(self.inner, call, config_json, builder); });
}

retort_status Describe(retort_instance* handle, const retort_call* call, retort_str config_json,
                       const retort_sink* json) {
  CheckedInstance& self = CheckedInstance::Of(handle);
  return RunGuarded(self, call, false,
                    [&] { return self.in.family->describe(self.inner, call, config_json, json); });
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
