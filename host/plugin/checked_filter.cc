// Filters: decisions are for the call's own samples, of a known action, with what the action
// needs; none is made while observing.
// SPDX-License-Identifier: Apache-2.0
#include "host/plugin/checked_call.h"

namespace retort::host {
namespace {

// Between the plugin's decisions and the caller; keeps the first broken rule.
struct DecisionRelay {
  const retort_filter_args* args;
  std::string broken;

  static void OnDecide(void* ctx, uint64_t sample, const retort_decision* decision) {
    DecisionRelay& self = *static_cast<DecisionRelay*>(ctx);
    const Status status = Guard([&]() -> Status { return self.Check(sample, *decision); });
    if (status.ok()) {
      self.args->decide(self.args->out_ctx, sample, decision);
    } else if (self.broken.empty()) {
      self.broken = "decision for sample " + std::to_string(sample) + ": " + status.message();
    }
  }

  Status Check(uint64_t sample, const retort_decision& d) const {
    if (sample >= args->n_samples) {
      return OutOfRange("the call has " + std::to_string(args->n_samples) + " samples");
    }
    if (d.struct_size < sizeof(retort_decision)) {
      return InvalidArgument("struct_size is " + std::to_string(d.struct_size) + ", expected " +
                             std::to_string(sizeof(retort_decision)));
    }
    if (d.action > RETORT_ERROR) {
      return Unimplemented("action " + std::to_string(d.action) + " does not exist");
    }
    if (d.action != RETORT_KEEP && d.reason.len == 0) {
      return InvalidArgument("a reason is missing; only KEEP needs none");
    }
    if (d.action == RETORT_REWRITE && d.completion.ptr == nullptr && d.record.ptr == nullptr) {
      return InvalidArgument("REWRITE without a new completion or record");
    }
    return OkStatus();
  }
};

void NoDecision(void* ctx, uint64_t sample, const retort_decision*) {
  static_cast<DecisionRelay*>(ctx)->broken =
      "decided about sample " + std::to_string(sample) + " while observing";
}

retort_status Judge(retort_instance* handle, const retort_call* call,
                    const retort_filter_args* args) {
  CheckedInstance& self = CheckedInstance::Of(handle);
  DecisionRelay relay{.args = args, .broken = {}};
  retort_filter_args inner = *args;
  inner.struct_size = sizeof(inner);
  inner.out_ctx = &relay;
  inner.decide = DecisionRelay::OnDecide;
  const bool concurrent = (self.in.filter->flags & RETORT_FILTER_CONCURRENT) != 0;
  const retort_status status = RunGuarded(
      self, call, concurrent, [&] { return self.in.filter->judge(self.inner, call, &inner); });
  if (status != RETORT_OK || relay.broken.empty()) return status;
  return ReportBroken(call, Code::kInternal, relay.broken);
}

retort_status Observe(retort_instance* handle, const retort_call* call,
                      const retort_filter_args* args) {
  CheckedInstance& self = CheckedInstance::Of(handle);
  DecisionRelay relay{.args = args, .broken = {}};
  retort_filter_args inner = *args;
  inner.struct_size = sizeof(inner);
  inner.out_ctx = &relay;
  inner.decide = NoDecision;
  const retort_status status = RunGuarded(
      self, call, false, [&] { return self.in.filter->observe(self.inner, call, &inner); });
  if (status != RETORT_OK || relay.broken.empty()) return status;
  return ReportBroken(call, Code::kInternal, relay.broken);
}

retort_status EndPass(retort_instance* handle, const retort_call* call, uint32_t pass) {
  CheckedInstance& self = CheckedInstance::Of(handle);
  return RunGuarded(self, call, false,
                    [&] { return self.in.filter->end_pass(self.inner, call, pass); });
}

retort_status Save(retort_instance* handle, const retort_call* call, const retort_sink* sink) {
  CheckedInstance& self = CheckedInstance::Of(handle);
  return RunGuarded(self, call, false,
                    [&] { return self.in.filter->save(self.inner, call, sink); });
}

retort_status Merge(retort_instance* handle, const retort_call* call, const retort_reader* reader) {
  CheckedInstance& self = CheckedInstance::Of(handle);
  return RunGuarded(self, call, false,
                    [&] { return self.in.filter->merge(self.inner, call, reader); });
}

}  // namespace

void WrapFilter(CheckedInstance* self) {
  retort_filter_v1& out = self->out.filter;
  out = *self->in.filter;
  out.struct_size = sizeof(out);
  out.judge = Judge;
  if (out.observe != nullptr) out.observe = Observe;
  if (out.end_pass != nullptr) out.end_pass = EndPass;
  if (out.save != nullptr) out.save = Save;
  if (out.merge != nullptr) out.merge = Merge;
}

}  // namespace retort::host
