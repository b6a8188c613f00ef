// A plan for people and for programs; also what of it is done already.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <string>
#include <vector>

#include "core/io/filesystem.h"
#include "core/json/json.h"
#include "host/pipeline/makings.h"
#include "host/pipeline/pipeline.h"
#include "host/pipeline/plan.h"
#include "host/report/table.h"

namespace retort::host {
namespace {

// "done", "unfinished", "changed (config)" or "to do".
std::vector<std::string> States(Session& session, const PipelineConfig& config, const Plan& plan) {
  std::vector<std::string> states;
  MakingsReader reader(session, config, plan);
  for (const StageConfig& stage : config.stages) {
    const std::string folder = io::Join(config.output, stage.name);
    const auto manifest = ReadStageManifest(io::RealFileSystem(), folder);
    if (!manifest.ok() || !*manifest) {
      states.emplace_back("to do");
      continue;
    }
    const Result<StageMakings> makings = reader.Of(stage);
    if (!makings.ok()) {  // an input stage has not finished
      states.emplace_back("to do again");
      continue;
    }
    const std::string difference = DifferenceOf((*manifest)->makings, *makings);
    if (!difference.empty()) {
      states.push_back("to do again (changed: " + difference + ")");
    } else {
      states.emplace_back((*manifest)->finished ? "done" : "to go on");
    }
  }
  return states;
}

std::string Inputs(const PlannedStage& planned) {
  std::string text = (planned.at_most ? "<= " : "") + GroupedInteger(planned.records);
  const StageKind kind = planned.stage->kind;
  text += kind == StageKind::kGenerate || kind == StageKind::kEval ? " prompts" : " records";
  if (kind == StageKind::kGenerate) {
    text += " -> " + GroupedInteger(planned.samples_out) + " samples";
  }
  return text;
}

}  // namespace

Result<std::string> PlanText(Session& session, const PipelineConfig& as_loaded) {
  PipelineConfig config = as_loaded;
  RETORT_ASSIGN_OR_RETURN(const Plan plan, MakePlan(session, config));
  const std::vector<std::string> states = States(session, config, plan);
  std::string out = "pipeline " + config.name + "  (seed " + std::to_string(config.seed) +
                    ", output " + config.output + ")\n\n";
  constexpr Align kRight = Align::kRight;
  Table models({{.title = "model"},
                {.title = "family"},
                {.title = "parameters", .align = kRight},
                {.title = "layers", .align = kRight},
                {.title = "f32 weights", .align = kRight}});
  std::vector<std::string> seen;
  for (const PlannedStage& planned : plan.stages) {
    for (const PlannedModel& model : planned.models) {
      if (std::count(seen.begin(), seen.end(), model.label) > 0) continue;
      seen.push_back(model.label);
      models.AddRow({model.label, model.family, GroupedInteger(model.n_params),
                     std::to_string(model.n_layers),
                     ShortBytes(4 * static_cast<double>(model.n_params))});
    }
  }
  if (!seen.empty()) out += models.Render() + "\n";
  Table stages({{.title = "stage"},
                {.title = "kind"},
                {.title = "input"},
                {.title = "memory about", .align = kRight},
                {.title = "recompute", .align = kRight},
                {.title = "state"}});
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const PlannedStage& planned = plan.stages[i];
    stages.AddRow({planned.stage->name, std::string(StageKindName(planned.stage->kind)),
                   Inputs(planned),
                   planned.memory_bytes > 0 ? ShortBytes(planned.memory_bytes) : "-",
                   planned.recompute >= 0 ? std::to_string(planned.recompute) : "-", states[i]});
  }
  return out + stages.Render();
}

Result<std::string> PlanJson(Session& session, const PipelineConfig& as_loaded) {
  PipelineConfig config = as_loaded;
  RETORT_ASSIGN_OR_RETURN(const Plan plan, MakePlan(session, config));
  const std::vector<std::string> states = States(session, config, plan);
  json::Writer writer(2);
  writer.BeginObject().Field("name", config.name).Field("output", config.output);
  writer.Key("stages").BeginArray();
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const PlannedStage& planned = plan.stages[i];
    writer.BeginObject().Field("name", planned.stage->name);
    writer.Field("kind", StageKindName(planned.stage->kind)).Field("state", states[i]);
    writer.Field("records", planned.records).Field("at_most", planned.at_most);
    writer.Field("samples", planned.samples_out).Field("memory_bytes", planned.memory_bytes);
    if (planned.recompute >= 0) writer.Field("recompute", int64_t{planned.recompute});
    writer.Key("models").BeginArray();
    for (const PlannedModel& model : planned.models) {
      writer.BeginObject().Field("model", model.label).Field("path", model.path);
      writer.Field("family", model.family).Field("parameters", model.n_params);
      writer.Field("layers", model.n_layers).EndObject();
    }
    writer.EndArray().EndObject();
  }
  writer.EndArray().Key("config").Raw(config.resolved_json).EndObject();
  return writer.Take();
}

}  // namespace retort::host
