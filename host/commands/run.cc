// run and plan: pipelines.
// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "host/commands/command.h"
#include "host/commands/run_events.h"
#include "host/pipeline/pipeline.h"

namespace retort::host {
namespace {

// The pipeline's own view of what a failure means to the caller.
Outcome FromPipeline(const Status& status) { return {status, ExitCode(status)}; }

Result<PipelineConfig> Load(const CommandCall& call) {
  Overrides overrides;
  overrides.profile = call.args.Text("profile");
  overrides.set = call.args.Texts("set");
  RETORT_ASSIGN_OR_RETURN(PipelineConfig config, LoadPipeline(call.args.Text("file"), overrides));
  call.session.PreferThreads(static_cast<int32_t>(config.threads));
  return config;
}

}  // namespace

void ForwardEvent(const RunEvent& event, CommandIo& io) {
  using enum RunEvent::Kind;
  const std::string line = event.stage + (event.text.empty() ? "" : ": " + event.text);
  switch (event.kind) {
    case kStageStarted:
      return io.Message(event.stage + " starts" + (event.text.empty() ? "" : ": " + event.text));
    case kStageResumed: return io.Message(event.stage + " goes on: " + event.text);
    case kStageSkipped: return io.Message(event.stage + " is done already");
    case kStageFinished: return io.Message(event.stage + " finished: " + event.text);
    case kStageFailed: return io.Message(event.stage + " stopped");
    case kWarning: return io.Warning(line);
    case kMetric: return;  // in metrics.jsonl
    case kProgress: break;
  }
  io.Progress({.what = event.stage,
               .done = event.done,
               .total = event.total,
               .unit = event.unit,
               .tokens_per_second = event.rate,
               .metric = event.metric,
               .value = event.value});
}

Outcome RunRun(const CommandCall& call) {
  const Result<PipelineConfig> config = Load(call);
  if (!config.ok()) return FromPipeline(config.status());
  RunOptions options;
  options.only = call.args.Text("only");
  options.from = call.args.Text("from");
  options.fresh = call.args.Flag("fresh");
  options.allow_inexact = call.args.Flag("allow_inexact");
  options.cancel = &call.cancel;
  options.on_event = [&call](const RunEvent& event) { ForwardEvent(event, call.io); };
  const Result<RunReport> report = RunPipeline(call.session, *config, options);
  if (!report.ok()) return FromPipeline(report.status());
  // The run is done, whether or not somebody still reads its report.
  (void)(call.args.Flag("json") ? call.io.Line(report->json) : call.io.Lines(report->text));
  return OkStatus();
}

Outcome RunPlan(const CommandCall& call) {
  const Result<PipelineConfig> config = Load(call);
  if (!config.ok()) return FromPipeline(config.status());
  const bool json = call.args.Flag("json");
  const Result<std::string> plan =
      json ? PlanJson(call.session, *config) : PlanText(call.session, *config);
  if (!plan.ok()) return FromPipeline(plan.status());
  return call.io.Lines(*plan);
}

}  // namespace retort::host
