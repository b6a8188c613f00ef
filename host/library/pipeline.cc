// Pipelines and runs of the C edge.
// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/pipeline.h"

#include <memory>
#include <string>
#include <utility>

#include "core/io/filesystem.h"
#include "host/library/context.h"
#include "host/library/edge.h"
#include "host/library/run_events.h"
#include "host/pipeline/runner.h"

namespace retort::host {
namespace {

Result<PipelineConfig> Load(const retort_pipeline_options* options) {
  retort_pipeline_options known{};
  RETORT_RETURN_IF_ERROR(ReadStruct(options, "retort_pipeline_options", known));
  RETORT_RETURN_IF_ERROR(CheckFlags(known.flags, 0, "retort_pipeline_options"));
  if (known.set == nullptr && known.n_set > 0) {
    return InvalidArgument("retort_pipeline_options.set: NULL, but n_set is not 0");
  }
  Overrides overrides;
  overrides.profile = ToView(known.profile);
  for (uint64_t i = 0; i < known.n_set; ++i) overrides.set.emplace_back(ToView(known.set[i]));
  if (known.text.ptr == nullptr) {
    RETORT_ASSIGN_OR_RETURN(const std::string path,
                            PathOf(known.file, "retort_pipeline_options.file"));
    return LoadPipeline(path, overrides);
  }
  std::string path = "pipeline.json";
  if (known.file.ptr != nullptr) {
    RETORT_ASSIGN_OR_RETURN(path, PathOf(known.file, "retort_pipeline_options.file"));
  }
  if (known.folder.ptr != nullptr) {
    RETORT_ASSIGN_OR_RETURN(const std::string folder,
                            PathOf(known.folder, "retort_pipeline_options.folder"));
    path = io::Join(folder, path);
  }
  return ParsePipeline(ToView(known.text), path, overrides);
}

Result<RunOptions> ReadRunOptions(ContextState& state, const PipelineConfig& config,
                                  const retort_run_options* options) {
  constexpr uint32_t kFlags = RETORT_RUN_FRESH | RETORT_RUN_ALLOW_INEXACT;
  retort_run_options known{};
  RETORT_RETURN_IF_ERROR(ReadStruct(options, "retort_run_options", known));
  RETORT_RETURN_IF_ERROR(CheckFlags(known.flags, kFlags, "retort_run_options"));
  RunOptions out;
  out.only = ToView(known.only);
  out.from = ToView(known.from);
  out.fresh = (known.flags & RETORT_RUN_FRESH) != 0;
  out.allow_inexact = (known.flags & RETORT_RUN_ALLOW_INEXACT) != 0;
  out.cancel = &state.cancel;
  if (known.event != nullptr) out.on_event = RunEventForwarder(config, known);
  return out;
}

}  // namespace
}  // namespace retort::host

using retort::Result;
using retort::Status;
using retort::host::ContextState;
using retort::host::Guard;
using retort::host::PipelineConfig;
using retort::host::PipelineRun;
using retort::host::RunCall;
using retort::host::RunStoppableCall;

struct retort_pipeline {
  std::shared_ptr<ContextState> state;
  std::shared_ptr<const PipelineConfig> config;
};

struct retort_run {
  std::shared_ptr<ContextState> state;
  std::shared_ptr<PipelineRun> run;
};

namespace {

Result<PipelineRun> Start(ContextState& state, const PipelineConfig& config,
                          const retort_run_options* options) {
  RETORT_ASSIGN_OR_RETURN(retort::host::RunOptions read,
                          retort::host::ReadRunOptions(state, config, options));
  state.session.PreferThreads(static_cast<int32_t>(config.threads));
  return PipelineRun::Start(state.session, config, std::move(read));
}

}  // namespace

extern "C" {

retort_status retort_pipeline_load(retort_context* context, const retort_pipeline_options* options,
                                   retort_pipeline** out) {
  if (out != nullptr) *out = nullptr;
  if (context == nullptr || out == nullptr) return RETORT_INVALID_ARGUMENT;
  const auto state = context->state;
  return RunCall(state, [&]() -> Status {
    RETORT_ASSIGN_OR_RETURN(PipelineConfig config, retort::host::Load(options));
    auto shared = std::make_shared<const PipelineConfig>(std::move(config));
    *out = std::make_unique<retort_pipeline>(state, std::move(shared)).release();
    return {};
  });
}

void retort_pipeline_destroy(retort_pipeline* pipeline) {
  (void)Guard([&]() -> Status {
    const std::unique_ptr<retort_pipeline> owner(pipeline);
    return {};
  });
}

retort_status retort_pipeline_config(retort_pipeline* pipeline, const retort_sink* json) {
  if (pipeline == nullptr) return RETORT_INVALID_ARGUMENT;
  const auto config = pipeline->config;
  return RunCall(std::shared_ptr(pipeline->state), [&]() -> Status {
    RETORT_RETURN_IF_ERROR(retort::host::CheckSink(json, "json"));
    return retort::host::WriteAll(json, config->resolved_json);
  });
}

retort_status retort_pipeline_plan(retort_pipeline* pipeline, const retort_sink* json) {
  if (pipeline == nullptr) return RETORT_INVALID_ARGUMENT;
  const auto state = pipeline->state;
  const auto config = pipeline->config;
  return RunCall(state, [&]() -> Status {
    RETORT_RETURN_IF_ERROR(retort::host::CheckSink(json, "json"));
    state->session.PreferThreads(static_cast<int32_t>(config->threads));
    RETORT_ASSIGN_OR_RETURN(const std::string plan,
                            retort::host::PlanJson(state->session, *config));
    return retort::host::WriteAll(json, plan);
  });
}

retort_status retort_pipeline_run(retort_pipeline* pipeline, const retort_run_options* options,
                                  const retort_sink* summary) {
  if (pipeline == nullptr) return RETORT_INVALID_ARGUMENT;
  const auto state = pipeline->state;
  const auto config = pipeline->config;
  return RunStoppableCall(state, [&]() -> Status {
    if (summary != nullptr) RETORT_RETURN_IF_ERROR(retort::host::CheckSink(summary, "summary"));
    RETORT_ASSIGN_OR_RETURN(PipelineRun run, Start(*state, *config, options));
    for (bool more = true; more;) {
      RETORT_ASSIGN_OR_RETURN(more, run.Step());
    }
    return summary == nullptr ? Status() : retort::host::WriteAll(summary, run.Report().json);
  });
}

retort_status retort_run_start(retort_pipeline* pipeline, const retort_run_options* options,
                               retort_run** out) {
  if (out != nullptr) *out = nullptr;
  if (pipeline == nullptr || out == nullptr) return RETORT_INVALID_ARGUMENT;
  const auto state = pipeline->state;
  const auto config = pipeline->config;
  return RunCall(state, [&]() -> Status {
    RETORT_ASSIGN_OR_RETURN(PipelineRun run, Start(*state, *config, options));
    auto shared = std::make_shared<PipelineRun>(std::move(run));
    *out = std::make_unique<retort_run>(state, std::move(shared)).release();
    return {};
  });
}

retort_status retort_run_step(retort_run* run, int32_t* more) {
  if (run == nullptr) return RETORT_INVALID_ARGUMENT;
  const auto state = run->state;
  const auto shared = run->run;
  return RunStoppableCall(state, [&]() -> Status {
    if (more != nullptr) *more = 1;
    RETORT_ASSIGN_OR_RETURN(const bool left, shared->Step());
    if (more != nullptr) *more = left ? 1 : 0;
    return {};
  });
}

retort_status retort_run_summary(retort_run* run, const retort_sink* json) {
  if (run == nullptr) return RETORT_INVALID_ARGUMENT;
  const auto shared = run->run;
  return RunCall(std::shared_ptr(run->state), [&]() -> Status {
    RETORT_RETURN_IF_ERROR(retort::host::CheckSink(json, "json"));
    return retort::host::WriteAll(json, shared->Report().json);
  });
}

void retort_run_destroy(retort_run* run) {
  (void)Guard([&]() -> Status {
    const std::unique_ptr<retort_run> owner(run);
    return {};
  });
}

}  // extern "C"
