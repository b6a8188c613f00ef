// plugin.check: the conformance kit on one library.
// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <utility>

#include "core/io/filesystem.h"
#include "host/check/kit.h"
#include "host/commands/command.h"
#include "host/session/paths.h"

namespace retort::host {
namespace {

constexpr uint64_t kModelBytesMax = uint64_t{1} << 20;

Result<check::KitOptions> OptionsOf(const CommandCall& call) {
  check::KitOptions options;
  options.file = call.args.Text("file");
  options.plugin = call.args.Text("id");
  options.config = call.args.Text("config");
  options.seed = static_cast<uint64_t>(call.args.Int("seed", 0));
  options.only = call.args.Texts("only");
  options.timeout_ms = call.args.Int("timeout_ms", options.timeout_ms);
  options.inputs = call.args.Text("inputs");
  if (const std::string model = call.args.Text("model"); !model.empty()) {
    RETORT_ASSIGN_OR_RETURN(options.model, io::RealFileSystem().Read(model, kModelBytesMax));
  }
  options.worker_path = call.session.WorkerPath();
  options.engine_path = call.session.EnginePath();
  options.cancelled = [&call] { return call.cancelled(); };
  options.progress = [&call](size_t done, size_t total, std::string_view rule) {
    call.io.Progress({.what = std::string(rule),
                      .done = static_cast<double>(done),
                      .total = static_cast<double>(total),
                      .unit = "rules"});
  };
  return options;
}

bool IsUsage(const Status& status) {
  return status.code() == Code::kInvalidArgument || status.code() == Code::kNotFound;
}

}  // namespace

Outcome RunPluginCheck(const CommandCall& call) {
  const Result<check::KitOptions> options = OptionsOf(call);
  if (!options.ok()) return options.status();
  const Result<check::KitReport> report = check::CheckLibrary(*options);
  if (!report.ok()) {
    return IsUsage(report.status()) ? Outcome::Usage(report.status()) : Outcome(report.status());
  }
  RETORT_RETURN_IF_ERROR(call.args.Flag("json") ? call.io.Line(check::RenderJson(*report))
                                                : call.io.Lines(check::RenderText(*report)));
  if (report->passed()) return {};
  return FailedPrecondition("plugin " + report->file + ": " +
                            std::to_string(report->Count(check::Verdict::kFail)) + " of " +
                            std::to_string(report->rows.size()) + " rules failed");
}

}  // namespace retort::host
