// SPDX-License-Identifier: Apache-2.0
#include "host/library/run_events.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/clock.h"
#include "core/base/plugin_call.h"
#include "core/json/json.h"
#include "host/library/edge.h"

namespace retort::host {
namespace {

constexpr double kSecondsBetween = 0.1;

uint32_t KindOf(RunEvent::Kind kind) {
  switch (kind) {
    case RunEvent::Kind::kStageStarted: return RETORT_RUN_STAGE_STARTED;
    case RunEvent::Kind::kStageResumed: return RETORT_RUN_STAGE_RESUMED;
    case RunEvent::Kind::kStageSkipped: return RETORT_RUN_STAGE_SKIPPED;
    case RunEvent::Kind::kStageFinished: return RETORT_RUN_STAGE_FINISHED;
    case RunEvent::Kind::kStageFailed: return RETORT_RUN_STAGE_FAILED;
    case RunEvent::Kind::kProgress: return RETORT_RUN_PROGRESS;
    case RunEvent::Kind::kMetric: return RETORT_RUN_METRIC;
    case RunEvent::Kind::kWarning: return RETORT_RUN_WARNING;
  }
  return RETORT_RUN_WARNING;
}

// Stages by name: number and kind.
struct Stages {
  explicit Stages(const PipelineConfig& config) {
    for (const StageConfig& stage : config.stages) {
      names.push_back(stage.name);
      kinds.emplace_back(StageKindName(stage.kind));
    }
  }
  size_t IndexOf(const std::string& name) const {
    return static_cast<size_t>(std::find(names.begin(), names.end(), name) - names.begin());
  }
  std::vector<std::string> names, kinds;
};

std::string JsonOf(const RunEvent& event, const Stages& stages, size_t index) {
  if (event.kind == RunEvent::Kind::kMetric) return event.json;
  json::Writer out;
  out.BeginObject().Field("event", RunEventName(event.kind));
  if (index < stages.names.size()) {
    out.Field("stage", event.stage).Field("kind", stages.kinds[index]);
    out.Field("index", static_cast<int64_t>(index));
    out.Field("stages", static_cast<int64_t>(stages.names.size()));
  }
  if (event.kind == RunEvent::Kind::kProgress) {
    out.Field("done", event.done).Field("total", event.total).Field("unit", event.unit);
    out.Field("tokens_per_second", event.rate);
    if (!event.metric.empty()) out.Field(event.metric, event.value);
  }
  if (event.code != Code::kOk) out.Field("status", CodeName(event.code));
  if (!event.text.empty()) out.Field("text", event.text);
  return out.EndObject().Take();
}

class Forwarder {
 public:
  Forwarder(const PipelineConfig& config, const retort_run_options& options)
      : stages_(config), ctx_(options.event_ctx), event_(options.event) {}

  void operator()(const RunEvent& event) {
    if (event.kind == RunEvent::Kind::kProgress) {
      const bool first = event.stage != stage_;
      const bool last = event.total > 0 && event.done >= event.total;
      if (!first && !last && since_.Seconds() < kSecondsBetween) return;
      stage_ = event.stage;
      since_.Restart();
    }
    Tell(event);
  }

 private:
  void Tell(const RunEvent& event) {
    const size_t index = stages_.IndexOf(event.stage);
    const bool of_stage = index < stages_.names.size();
    const std::string json = JsonOf(event, stages_, index);
    retort_run_event out{};
    out.struct_size = sizeof out;
    out.kind = KindOf(event.kind);
    if (of_stage) {
      out.stage = ToStr(event.stage);
      out.stage_kind = ToStr(stages_.kinds[index]);
      out.stage_index = static_cast<uint32_t>(index);
    }
    out.n_stages = static_cast<uint32_t>(stages_.names.size());
    out.fraction = event.total > 0 ? event.done / event.total : -1;
    out.done = static_cast<int64_t>(event.done);
    out.total = static_cast<int64_t>(event.total);
    out.unit = OptionalStr(event.unit);
    out.rate = event.rate;
    out.metric = OptionalStr(event.metric);
    out.value = event.value;
    out.step = event.step;
    out.status = static_cast<retort_status>(event.code);
    out.text = OptionalStr(event.text);
    out.json = ToStr(json);
    event_(ctx_, &out);
  }

  const Stages stages_;
  void* const ctx_;
  void (*const event_)(void*, const retort_run_event*);
  std::string stage_;  // of the last progress told
  Stopwatch since_;
};

}  // namespace

std::function<void(const RunEvent&)> RunEventForwarder(const PipelineConfig& config,
                                                       const retort_run_options& options) {
  const auto forwarder = std::make_shared<Forwarder>(config, options);
  return [forwarder](const RunEvent& event) { (*forwarder)(event); };
}

}  // namespace retort::host
