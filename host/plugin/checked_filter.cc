// Filters: decisions are for the call's own samples, of a known action, with what the action
// needs; none is made while observing.
// SPDX-License-Identifier: Apache-2.0
#include "host/plugin/checked_call.h"
#include "host/plugin/first_size.h"

namespace retort::host {
namespace {

// Between the plugin's decisions and the caller.
struct DecisionRelay {
  CallRelay* relay;
  const retort_filter_args* args;

  static void OnDecide(void* ctx, uint64_t sample, const retort_decision* decision) {
    const DecisionRelay& self = *static_cast<DecisionRelay*>(ctx);
    self.relay->Run([&]() -> Status {
      if (const Status status = self.Check(sample, *decision); !status.ok()) {
        return Internal("decision for sample " + std::to_string(sample) + ": " + status.message());
      }
      self.args->decide(self.args->out_ctx, sample, decision);
      return OkStatus();
    });
  }
  static void WhileObserving(void* ctx, uint64_t sample, const retort_decision*) {
    static_cast<DecisionRelay*>(ctx)->relay->Run([&]() -> Status {
      return Internal("decided about sample " + std::to_string(sample) + " while observing");
    });
  }

  Status Check(uint64_t sample, const retort_decision& d) const {
    if (sample >= args->n_samples) {
      return OutOfRange("the call has " + std::to_string(args->n_samples) + " samples");
    }
    if (d.struct_size < kFirstDecisionSize) {
      return InvalidArgument("struct_size is " + std::to_string(d.struct_size) + ", expected " +
                             std::to_string(kFirstDecisionSize));
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

using Run = retort_status (*)(retort_instance*, const retort_call*, const retort_filter_args*);

// `run` with decisions going to `decide`.
retort_status RunWith(retort_instance* handle, const retort_call* call,
                      const retort_filter_args* args, bool concurrent, Run run,
                      decltype(retort_filter_args::decide) decide) {
  CheckedInstance& self = CheckedInstance::Of(handle);
  CallRelay relay(call);
  DecisionRelay decisions{.relay = &relay, .args = args};
  retort_filter_args inner = *args;
  inner.struct_size = sizeof(inner);
  inner.out_ctx = &decisions;
  inner.decide = decide;
  return RunGuarded(self, &relay, concurrent,
                    [&] { return run(self.inner, relay.call(), &inner); });
}

retort_status Judge(retort_instance* handle, const retort_call* call,
                    const retort_filter_args* args) {
  const retort_filter_v1& filter = *CheckedInstance::Of(handle).in.filter;
  const bool concurrent = (filter.flags & RETORT_FILTER_CONCURRENT) != 0;
  return RunWith(handle, call, args, concurrent, filter.judge, DecisionRelay::OnDecide);
}

retort_status Observe(retort_instance* handle, const retort_call* call,
                      const retort_filter_args* args) {
  const retort_filter_v1& filter = *CheckedInstance::Of(handle).in.filter;
  return RunWith(handle, call, args, false, filter.observe, DecisionRelay::WhileObserving);
}

retort_status EndPass(retort_instance* handle, const retort_call* call, uint32_t pass) {
  CheckedInstance& self = CheckedInstance::Of(handle);
  CallRelay relay(call);
  return RunGuarded(self, &relay, false,
                    [&] { return self.in.filter->end_pass(self.inner, relay.call(), pass); });
}

retort_status Save(retort_instance* handle, const retort_call* call, const retort_sink* sink) {
  return RunSave(handle, call, sink, [](auto& self, auto* inner_call, auto* out) {
    return self.in.filter->save(self.inner, inner_call, out);
  });
}

retort_status Merge(retort_instance* handle, const retort_call* call, const retort_reader* reader) {
  return RunLoad(handle, call, reader, [](auto& self, auto* inner_call, auto* in) {
    return self.in.filter->merge(self.inner, inner_call, in);
  });
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
