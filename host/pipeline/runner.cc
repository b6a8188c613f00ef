// The run: stages in order, each skipped, continued or run anew by what its manifest says.
// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/runner.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/fault.h"
#include "core/base/hash.h"
#include "core/json/json.h"
#include "host/library/guard.h"
#include "host/pipeline/artifact.h"
#include "host/pipeline/makings.h"
#include "host/pipeline/pipeline.h"
#include "host/pipeline/plan.h"
#include "host/pipeline/report.h"
#include "host/pipeline/run_folder.h"
#include "host/pipeline/run_info.h"
#include "host/pipeline/run_lock.h"
#include "host/pipeline/stage.h"

namespace retort::host {
namespace {

// A stage's failure is never the fault of what the user wrote: that was checked before.
Status StageFailure(const Status& status, const std::string& stage) {
  const bool usage = status.code() == Code::kInvalidArgument;
  if (status.code() == Code::kCancelled) return status;
  return Status(usage ? Code::kFailedPrecondition : status.code(), status.message())
      .WithContext("stage " + stage);
}

Result<StageOutput> RunByKind(StageRun& run) {
  switch (run.stage->kind) {
    case StageKind::kGenerate: return RunGenerate(run);
    case StageKind::kFilter: return RunFilter(run);
    case StageKind::kSft: return RunSft(run);
    case StageKind::kDistill: return RunDistill(run);
    case StageKind::kRewardModel: return RunRewardModel(run);
    case StageKind::kGrpo: return RunGrpo(run);
    case StageKind::kEval: return RunEval(run);
  }
  return Internal("unknown stage kind");
}

class Runner {
 public:
  Runner(Session& session, const PipelineConfig& config, const RunOptions& options,
         const Plan& plan, RunFolder folder, std::string nonce)
      : session_(session),
        config_(config),
        options_(options),
        folder_(std::move(folder)),
        makings_(session, config, plan),
        nonce_(std::move(nonce)) {}

  // --fresh and --from: out of the way before anything runs, so that a stop changes nothing.
  Status Prepare() {
    if (options_.on_event) folder_.ListenToMetrics(ForwardMetrics());
    bool invalid = options_.fresh;
    for (const StageConfig& stage : config_.stages) {
      invalid = invalid || stage.name == options_.from;
      if (invalid && IsAskedFor(stage)) RETORT_RETURN_IF_ERROR(Discard(stage));
    }
    return OkStatus();
  }

  Result<bool> Step() {
    for (bool ran = false; !ran && SkipUnasked(); ++next_) {
      const StageConfig& stage = config_.stages[next_];
      if (options_.cancel != nullptr && options_.cancel->load() != 0) {
        return Cancelled("the run was stopped before stage " + stage.name +
                         "; the same command continues");
      }
      RETORT_ASSIGN_OR_RETURN(ran, RunStage(stage));
    }
    if (SkipUnasked()) return true;
    if (!told_) {
      RETORT_RETURN_IF_ERROR(WriteRunInfo(session_, config_, folder_, Report().json, engine_used_));
    }
    told_ = true;
    return false;
  }

  RunReport Report() const { return MakeReport(reports_, config_.output); }

 private:
  bool IsAskedFor(const StageConfig& stage) const {
    return options_.only.empty() || stage.name == options_.only;
  }

  // False: no stage is left.
  bool SkipUnasked() {
    while (next_ < config_.stages.size() && !IsAskedFor(config_.stages[next_])) ++next_;
    return next_ < config_.stages.size();
  }

  RunFolder::MetricsListener ForwardMetrics() const {
    return [this](std::string_view stage, int64_t step, std::string_view line) {
      options_.on_event({.kind = RunEvent::Kind::kMetric,
                         .stage = std::string(stage),
                         .step = step,
                         .json = std::string(line)});
    };
  }

  Status Discard(const StageConfig& stage) {
    const std::string dir = folder_.StageFolder(stage.name);
    RETORT_RETURN_IF_ERROR(io::MoveToTrash(folder_.fs(), dir, folder_.Trash()).status());
    return folder_.CutMetrics(stage.name, -1);
  }

  // What is in the stage's folder and still good; what isn't goes to the trash.
  Result<std::optional<StageManifest>> UsableManifest(StageRun& run, const StageMakings& makings) {
    Result<std::optional<StageManifest>> manifest = ReadStageManifest(folder_.fs(), run.dir);
    std::string why;
    if (!manifest.ok()) {
      if (io::IsOfTheSystem(manifest.status())) return manifest.status();
      why = manifest.status().message();
    } else if (*manifest) {
      const std::string difference = DifferenceOf((*manifest)->makings, makings);
      if (!difference.empty()) why = "changed: " + difference;
      if (difference.empty() && (*manifest)->finished) {
        const Status whole = VerifyFiles(folder_.fs(), run.dir, **manifest);
        if (io::IsOfTheSystem(whole)) return whole;
        if (!whole.ok()) why = whole.message();
      }
      if (why.empty()) return manifest;
    }
    if (!why.empty()) run.Warn("run anew (" + why + "); the old folder is in .trash");
    RETORT_RETURN_IF_ERROR(Discard(*run.stage));
    return std::optional<StageManifest>();
  }

  // False: it was done already.
  Result<bool> RunStage(const StageConfig& stage) {
    StageRun run;
    run.session = &session_;
    run.pipeline = &config_;
    run.stage = &stage;
    run.folder = &folder_;
    run.dir = folder_.StageFolder(stage.name);
    run.nonce = nonce_;
    run.options = &options_;
    RETORT_ASSIGN_OR_RETURN(const StageMakings makings, makings_.Of(stage));
    RETORT_ASSIGN_OR_RETURN(std::optional<StageManifest> manifest, UsableManifest(run, makings));
    if (manifest) run.numbers = StageNumbers::FromJson(manifest->numbers);
    if (manifest && manifest->finished) {
      run.Emit({.kind = RunEvent::Kind::kStageSkipped});
      RETORT_RETURN_IF_ERROR(folder_.AppendEvent("stage_skipped", stage.name));
      RETORT_RETURN_IF_ERROR(AddReport(run, true));
      return false;
    }
    if (!manifest) manifest = StageManifest{.stage = stage.name, .makings = makings};
    RETORT_RETURN_IF_ERROR(Execute(run, std::move(*manifest)));
    return true;
  }

  Status Execute(StageRun& run, StageManifest manifest) {
    const std::string& name = run.stage->name;
    RETORT_RETURN_IF_ERROR(folder_.fs().MakeFolders(run.dir));
    RETORT_RETURN_IF_ERROR(WriteStageManifest(folder_.fs(), run.dir, manifest));
    RETORT_RETURN_IF_ERROR(folder_.AppendEvent("stage_started", name));
    run.Emit({.kind = RunEvent::Kind::kStageStarted,
              .text = std::string(StageKindName(run.stage->kind))});
    const bool by_plugins = run.stage->kind == StageKind::kFilter || run.stage->generate.generator;
    engine_used_ = engine_used_ || !by_plugins || !run.stage->RewardModels().empty();
    const double seconds_before = run.numbers.Get("seconds");
    Result<StageOutput> output = Guard([&run] { return RunByKind(run); });
    run.numbers.Set("seconds", seconds_before + run.clock.Seconds());
    run.numbers.Set("peak_bytes", std::max(run.numbers.Get("peak_bytes"), PeakMemoryBytes()));
    manifest.numbers = run.numbers.ToJson();
    if (!output.ok()) return Fail(run, manifest, output.status());
    manifest.finished = true;
    manifest.files = std::move(output->files);
    RETORT_RETURN_IF_ERROR(folder_.SyncMetrics());
    FaultPoint("stage.done");
    RETORT_RETURN_IF_ERROR(WriteStageManifest(folder_.fs(), run.dir, manifest));
    FaultPoint("stage.finished");
    RETORT_RETURN_IF_ERROR(AddReport(run, false));
    const std::string line = NumbersLine(reports_.back());
    run.Emit({.kind = RunEvent::Kind::kStageFinished, .text = line});
    return folder_.AppendEvent("stage_finished", name, [&](json::Writer& writer) {
      writer.Field("text", line).Key("numbers").Raw(manifest.numbers);
    });
  }

  Status Fail(StageRun& run, const StageManifest& manifest, const Status& status) {
    const Status failure = StageFailure(status, run.stage->name);
    const bool stopped = failure.code() == Code::kCancelled;
    // The failure itself is what is told; these only help whoever looks later.
    (void)WriteStageManifest(folder_.fs(), run.dir, manifest);
    (void)folder_.AppendEvent(stopped ? "stage_stopped" : "stage_failed", run.stage->name,
                              [&](json::Writer& writer) {
                                writer.Field("code", CodeName(failure.code()));
                                writer.Field("text", failure.message());
                              });
    run.Emit(
        {.kind = RunEvent::Kind::kStageFailed, .text = failure.message(), .code = failure.code()});
    return failure;
  }

  Status AddReport(StageRun& run, bool skipped) {
    StageReport report = {.name = run.stage->name,
                          .kind = std::string(StageKindName(run.stage->kind)),
                          .skipped = skipped,
                          .numbers = run.numbers};
    if (run.stage->kind == StageKind::kEval) {
      const std::string path = io::Join(run.dir, "scores.json");
      constexpr uint64_t kMaxBytes = uint64_t{1} << 20;
      RETORT_ASSIGN_OR_RETURN(const std::string text, folder_.fs().Read(path, kMaxBytes));
      RETORT_ASSIGN_OR_RETURN(report.scores, ReadScores(text, path));
    }
    reports_.push_back(std::move(report));
    return OkStatus();
  }

  Session& session_;
  const PipelineConfig& config_;
  const RunOptions& options_;
  RunFolder folder_;
  MakingsReader makings_;
  std::string nonce_;
  std::vector<StageReport> reports_;
  size_t next_ = 0;  // stage to look at
  bool engine_used_ = false;
  bool told_ = false;  // run.json has the report of all
};

Status CheckStageOption(const PipelineConfig& config, const char* option, const std::string& name) {
  if (name.empty() || config.FindStage(name) != nullptr) return OkStatus();
  std::vector<std::string> names;
  for (const StageConfig& stage : config.stages) names.push_back(stage.name);
  std::string message = std::string(option) + " " + name + ": there is no such stage";
  if (const auto near = json::Nearest(name, names)) message += "; did you mean '" + *near + "'?";
  message += " (there are:";
  for (const std::string& known : names) message += " " + known;
  return InvalidArgument(message + ")");
}

}  // namespace

std::string_view RunEventName(RunEvent::Kind kind) {
  switch (kind) {
    case RunEvent::Kind::kStageStarted: return "stage_started";
    case RunEvent::Kind::kStageResumed: return "stage_resumed";
    case RunEvent::Kind::kStageSkipped: return "stage_skipped";
    case RunEvent::Kind::kProgress: return "progress";
    case RunEvent::Kind::kMetric: return "metric";
    case RunEvent::Kind::kStageFinished: return "stage_finished";
    case RunEvent::Kind::kStageFailed: return "stage_failed";
    case RunEvent::Kind::kWarning: return "warning";
  }
  return "";
}

// In this order: the runner refers to what stands before it, and the folder is given back last.
struct PipelineRun::State {
  PipelineConfig config;
  RunOptions options;
  Plan plan = {};
  std::optional<RunLock> lock = {};
  std::optional<Runner> runner = {};
};

PipelineRun::PipelineRun(std::unique_ptr<State> state) : state_(std::move(state)) {}
PipelineRun::PipelineRun(PipelineRun&&) noexcept = default;
PipelineRun::~PipelineRun() = default;

// Where the exit code says that the same command goes on, the message does too.
static Status Continuable(const Status& status) {
  const bool told = status.ok() || status.code() == Code::kCancelled;
  if (told || ExitCode(status) != kExitContinue) return status;
  return {status.code(), status.message() + "; then the same command continues"};
}

Result<PipelineRun> PipelineRun::Start(Session& session, const PipelineConfig& as_loaded,
                                       RunOptions options) {
  Result<PipelineRun> run = Begin(session, as_loaded, std::move(options));
  return run.ok() ? std::move(run) : Continuable(run.status());
}

Result<PipelineRun> PipelineRun::Begin(Session& session, const PipelineConfig& as_loaded,
                                       RunOptions options) {
  auto state = std::make_unique<State>(State{.config = as_loaded, .options = std::move(options)});
  const PipelineConfig& config = state->config;
  RETORT_RETURN_IF_ERROR(CheckStageOption(config, "--only", state->options.only));
  RETORT_RETURN_IF_ERROR(CheckStageOption(config, "--from", state->options.from));
  RETORT_ASSIGN_OR_RETURN(state->plan, MakePlan(session, state->config));
  io::FileSystem& fs = state->options.fs != nullptr ? *state->options.fs : io::RealFileSystem();
  RETORT_RETURN_IF_ERROR(fs.MakeFolders(config.output));
  const LockOwner self = LockOwner::Self();
  RETORT_ASSIGN_OR_RETURN(RunLock lock, RunLock::Acquire(fs, config.output, self));
  state->lock.emplace(std::move(lock));
  RETORT_ASSIGN_OR_RETURN(RunFolder folder, RunFolder::Open(fs, config.output));
  RETORT_RETURN_IF_ERROR(WriteRunInfo(session, config, folder, "", false));
  state->runner.emplace(session, config, state->options, state->plan, std::move(folder),
                        self.nonce);
  RETORT_RETURN_IF_ERROR(state->runner->Prepare());
  return PipelineRun(std::move(state));
}

Result<bool> PipelineRun::Step() {
  const Result<bool> more = state_->runner->Step();
  return more.ok() ? more : Continuable(more.status());
}

RunReport PipelineRun::Report() const { return state_->runner->Report(); }

Result<RunReport> RunPipeline(Session& session, const PipelineConfig& as_loaded,
                              const RunOptions& options) {
  RETORT_ASSIGN_OR_RETURN(PipelineRun run, PipelineRun::Start(session, as_loaded, options));
  for (bool more = true; more;) {
    RETORT_ASSIGN_OR_RETURN(more, run.Step());
  }
  return run.Report();
}

int ExitCode(const Status& status) {
  switch (status.code()) {
    case Code::kOk: return 0;
    case Code::kInvalidArgument: return 2;
    case Code::kCancelled:
    case Code::kResourceExhausted:
    case Code::kUnavailable: return kExitContinue;
    default: return 1;
  }
}

}  // namespace retort::host
