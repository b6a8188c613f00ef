// Filters that break the rules of filters. What a good one drops depends on the text alone, or,
// with its one observe pass, on how many samples there are. SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "probe.h"

namespace probe {
namespace {

constexpr uint64_t kWholeBatch = 10;  // groups in the batches of most rules

struct Filter : Instance {
  explicit Filter(const std::string& id) : Instance(id) {
    const bool has_state = Is("filter.merge_order") || Is("filter.merge_into") ||
                           Is("filter.short_io") || Is("filter.bad_state") || Is("good");
    uint32_t flags = Is("filter.concurrent") ? RETORT_FILTER_CONCURRENT : 0;
    if (Is("filter.flags")) flags = 1U << 9;
    table = {sizeof(retort_filter_v1),
             flags,
             has_state ? 1U : 0U,
             0,
             Observe,
             EndPass,
             Judge,
             Save,
             Merge};
  }
  const void* Table(std::string_view id) override {
    return id == RETORT_FILTER_INTERFACE ? &table : nullptr;
  }
  static Filter& Self(retort_instance* raw) { return static_cast<Filter&>(Of(raw)); }

  static retort_status Observe(retort_instance* raw, const retort_call*,
                               const retort_filter_args* args) {
    Self(raw).n_seen += args->n_samples;
    Self(raw).observed = Self(raw).observed || args->n_samples > 0;
    return RETORT_OK;
  }
  static retort_status EndPass(retort_instance*, const retort_call*, uint32_t) { return RETORT_OK; }
  static retort_status Judge(retort_instance* raw, const retort_call* call,
                             const retort_filter_args* args);
  static retort_status Save(retort_instance* raw, const retort_call* call,
                            const retort_sink* sink) {
    const bool ok = WriteAll(sink, Pack(Self(raw).n_seen), Self(raw).Is("filter.short_io"));
    return ok ? RETORT_OK : Fail(call, RETORT_ABORTED, "the sink failed");
  }
  static retort_status Merge(retort_instance* raw, const retort_call* call,
                             const retort_reader* reader) {
    Filter& self = Self(raw);
    uint64_t other = 0;
    if (!Unpack(ReadAll(reader), &other) && !self.Is("filter.bad_state")) {
      return Fail(call, RETORT_DATA_LOSS, "no state of probe");
    }
    if (self.Is("filter.merge_order")) self.n_seen *= 3;
    if (self.Is("filter.merge_into") && self.observed) self.n_seen = 0;
    self.n_seen += other;
    return RETORT_OK;
  }

  uint64_t n_seen = 0, n_judged = 0;
  bool observed = false;
  std::atomic<int> n_inside{0};
  retort_filter_v1 table;
};

retort_status Refusal(const Filter& self, const retort_call* call, const retort_filter_args* args) {
  const auto refuse = [&](bool when) {
    return when ? Fail(call, RETORT_INTERNAL, "this breaks " + self.deed) : RETORT_OK;
  };
  if (self.Is("filter.empty")) return refuse(args->n_groups == 0);
  if (self.Is("filter.cancel")) return refuse(Cancelled(call));
  if (self.Is("filter.no_scratch")) return refuse(call->scratch(call->ctx, 64, 8) == nullptr);
  if (self.Is("filter.one_sample")) {
    return refuse(args->n_groups > 0 && At(args->groups, args->group_stride, 0).n == 1);
  }
  for (uint64_t i = 0; i < args->n_samples; ++i) {
    const std::string_view odd = OddityOf(At(args->samples, args->sample_stride, i));
    if (!odd.empty() && self.deed == "filter." + std::string(odd)) return refuse(true);
  }
  return RETORT_OK;
}

// Does this call drop everything, which the rule forbids?
bool DropsAll(const Filter& self, const retort_filter_args* args) {
  if (self.Is("filter.split")) return args->n_groups == 1;
  if (self.Is("filter.repeat")) return args->n_groups == kWholeBatch && self.n_judged > 1;
  if (self.Is("filter.other_thread")) return !is_creator;
  if (self.Is("filter.concurrent")) return self.n_inside.load() > 1;
  if (!self.Is("filter.order")) return false;
  uint64_t least = ~uint64_t{0};
  for (uint64_t g = 0; g < args->n_groups; ++g) {
    least = std::min(least, At(args->groups, args->group_stride, g).record_uid);
  }
  return args->n_groups > 0 && At(args->groups, args->group_stride, 0).record_uid != least;
}

retort_status Filter::Judge(retort_instance* raw, const retort_call* call,
                            const retort_filter_args* args) {
  Filter& self = Self(raw);
  const retort_status refusal = Refusal(self, call, args);
  if (refusal != RETORT_OK) return refusal;
  if (args->n_groups == kWholeBatch) ++self.n_judged;
  UseOldCall(self, call);
  ++self.n_inside;
  if (self.Is("filter.concurrent")) usleep(2000);
  const bool drop_all = DropsAll(self, args);
  const std::string why = "after " + std::to_string(self.n_seen);
  for (uint64_t i = 0; i < args->n_samples; ++i) {
    const bool drop = drop_all || At(args->samples, args->sample_stride, i).completion.len % 2 == 0;
    retort_decision decision{};
    decision.struct_size = sizeof(decision);
    decision.action = drop ? RETORT_DROP : RETORT_KEEP;
    decision.quality = 1;
    decision.reason = {why.data(), why.size()};
    const bool wrong = self.Is("filter.batch") && args->n_groups == kWholeBatch;
    args->decide(args->out_ctx, wrong ? args->n_samples : i, &decision);
  }
  --self.n_inside;
  return RETORT_OK;
}

}  // namespace

Instance* NewFilter(const std::string& id) { return new Filter(id); }

}  // namespace probe
