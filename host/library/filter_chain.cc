// Filter chains of the C edge.
// SPDX-License-Identifier: Apache-2.0
#include "host/chain/filter_chain.h"

#include <memory>
#include <utility>
#include <vector>

#include "core/json/json.h"
#include "host/commands/chain_lines.h"
#include "host/library/chain.h"
#include "host/library/edge.h"
#include "host/library/samples.h"

namespace retort::host {
namespace {

struct FilterObject {
  ChainSettings settings;
  FilterChain chain;
};

using Decide = int32_t (*)(void* ctx, const retort_filter_result* result);

// One result per sample, from what the chain kept and what its audit says of the others.
std::vector<retort_filter_result> ResultsOf(const FilterOutcome& outcome,
                                            const std::vector<uint64_t>& uids) {
  std::vector<retort_filter_result> results(uids.size());
  for (size_t i = 0; i < results.size(); ++i) {
    results[i].struct_size = sizeof(retort_filter_result);
    results[i].sample = i;
    results[i].uid = uids[i];
  }
  for (size_t k = 0; k < outcome.kept.size(); ++k) {
    retort_filter_result& result = results[outcome.input[k]];
    result.action = outcome.rewritten[k] != 0 ? RETORT_REWRITE : RETORT_KEEP;
    result.completion = ToStr(outcome.kept[k].completion);
    result.record = ToStr(outcome.kept[k].record);
  }
  for (const AuditEntry& entry : outcome.audit) {
    retort_filter_result& result = results[entry.input];
    result.action = entry.error ? RETORT_ERROR : RETORT_DROP;
    result.filter = ToStr(entry.plugin);
    result.reason = ToStr(entry.reason);
  }
  return results;
}

Status RunSamples(ContextState& state, FilterObject& object, std::vector<data::Sample> samples,
                  void* ctx, Decide decide) {
  std::vector<uint64_t> uids;
  for (const data::Sample& sample : samples) uids.push_back(sample.uid);
  RETORT_ASSIGN_OR_RETURN(const FilterOutcome outcome,
                          object.chain.Run(std::move(samples), CallOf(state, object.settings)));
  for (const retort_filter_result& result : ResultsOf(outcome, uids)) {
    if (decide(ctx, &result) != 0) return Cancelled("stopped by the decide callback");
  }
  return OkStatus();
}

std::string CountsJson(const FilterChain& chain) {
  json::Writer out;
  out.BeginArray();
  for (const FilterCounts& counts : chain.counts()) {
    out.BeginObject().Field("name", counts.name).Field("in", counts.n_in);
    out.Field("kept", counts.n_kept).Field("dropped", counts.n_dropped);
    out.Field("rewritten", counts.n_rewritten).Field("errors", counts.n_errors).EndObject();
  }
  return out.EndArray().Take();
}

Status RunLines(ContextState& state, FilterObject& object, LinePipe& pipe,
                const retort_sink* audit) {
  const retort_command_io raw = pipe.Io();
  CommandIo io(&raw);
  std::function<Status(const AuditEntry&)> tell;
  if (audit != nullptr) {
    tell = [audit](const AuditEntry& entry) { return WriteAll(audit, entry.ToJson() + "\n"); };
  }
  return pipe.Outcome(FilterLines(object.chain, InputLines::FromIo(io, "jsonl"),
                                  CallOf(state, object.settings), io, tell));
}

}  // namespace
}  // namespace retort::host

using retort::Status;
using retort::host::ContextState;
using retort::host::FilterObject;
using retort::host::Guard;

struct retort_filter_chain {
  std::shared_ptr<ContextState> state;
  std::shared_ptr<FilterObject> object;
};

namespace {

Status Create(retort_context& context, const retort_chain_options* options,
              retort_filter_chain** out) {
  RETORT_ASSIGN_OR_RETURN(retort::host::ChainSettings settings,
                          retort::host::ReadChainSettings(context, options, "filter"));
  RETORT_ASSIGN_OR_RETURN(
      retort::host::FilterChain chain,
      retort::host::FilterChain::Create(context.state->session, settings.entries.root(),
                                        settings.key, "filters"));
  auto object = std::make_shared<FilterObject>(std::move(settings), std::move(chain));
  *out = std::make_unique<retort_filter_chain>(context.state, std::move(object)).release();
  return {};
}

}  // namespace

extern "C" {

retort_status retort_filter_chain_create(retort_context* context,
                                         const retort_chain_options* options,
                                         retort_filter_chain** out) {
  if (out != nullptr) *out = nullptr;
  if (context == nullptr || out == nullptr) return RETORT_INVALID_ARGUMENT;
  return retort::host::RunCall(std::shared_ptr(context->state),
                               [&] { return Create(*context, options, out); });
}

void retort_filter_chain_destroy(retort_filter_chain* chain) {
  (void)Guard([&]() -> Status {
    const std::unique_ptr<retort_filter_chain> owner(chain);
    return {};
  });
}

retort_status retort_filter_chain_run(retort_filter_chain* chain, const retort_sample* samples,
                                      uint32_t sample_stride, uint64_t n, void* ctx,
                                      int32_t (*decide)(void*, const retort_filter_result*)) {
  if (chain == nullptr) return RETORT_INVALID_ARGUMENT;
  const auto state = chain->state;
  const auto object = chain->object;
  return retort::host::RunStoppableCall(state, [&]() -> Status {
    if (decide == nullptr) return retort::InvalidArgument("decide: NULL; it gets the results");
    RETORT_ASSIGN_OR_RETURN(std::vector<retort::data::Sample> read,
                            retort::host::ReadSamples(samples, sample_stride, n));
    return retort::host::RunSamples(*state, *object, std::move(read), ctx, decide);
  });
}

retort_status retort_filter_chain_run_lines(retort_filter_chain* chain, const retort_reader* jsonl,
                                            const retort_sink* out, const retort_sink* audit) {
  if (chain == nullptr) return RETORT_INVALID_ARGUMENT;
  const auto state = chain->state;
  const auto object = chain->object;
  return retort::host::RunStoppableCall(state, [&]() -> Status {
    retort::host::LinePipe pipe(jsonl, out);
    RETORT_RETURN_IF_ERROR(pipe.Check());
    if (audit != nullptr) RETORT_RETURN_IF_ERROR(retort::host::CheckSink(audit, "audit"));
    return retort::host::RunLines(*state, *object, pipe, audit);
  });
}

retort_status retort_filter_chain_counts(retort_filter_chain* chain, const retort_sink* json) {
  if (chain == nullptr) return RETORT_INVALID_ARGUMENT;
  const auto object = chain->object;
  return retort::host::RunCall(std::shared_ptr(chain->state), [&]() -> Status {
    RETORT_RETURN_IF_ERROR(retort::host::CheckSink(json, "json"));
    return retort::host::WriteAll(json, retort::host::CountsJson(object->chain));
  });
}

retort_status retort_filter_chain_finish(retort_filter_chain* chain) {
  if (chain == nullptr) return RETORT_INVALID_ARGUMENT;
  const auto object = chain->object;
  return retort::host::RunCall(std::shared_ptr(chain->state),
                               [&] { return object->chain.Finish(); });
}

}  // extern "C"
