// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/run_folder.h"

#include <utility>

#include "core/base/clock.h"
#include "core/base/fault.h"

namespace retort::host {
namespace {

constexpr const char* kMetrics = "metrics.jsonl";

}  // namespace

RunFolder::RunFolder(io::FileSystem& fs, std::string path, io::JsonlAppender events,
                     io::JsonlAppender metrics)
    : fs_(&fs), path_(std::move(path)), events_(std::move(events)), metrics_(std::move(metrics)) {}

Result<RunFolder> RunFolder::Open(io::FileSystem& fs, const std::string& path) {
  RETORT_RETURN_IF_ERROR(fs.MakeFolders(path));
  const std::string events_path = io::Join(path, "events.jsonl");
  const io::AppendOptions options = {.resume_offset = -1, .sync_each_line = true};
  RETORT_ASSIGN_OR_RETURN(io::JsonlAppender events,
                          io::JsonlAppender::Open(fs, events_path, options));
  RETORT_ASSIGN_OR_RETURN(io::JsonlAppender metrics,
                          io::JsonlAppender::Open(fs, io::Join(path, kMetrics)));
  return RunFolder(fs, path, std::move(events), std::move(metrics));
}

Status RunFolder::AppendEvent(std::string_view event, std::string_view stage,
                              const std::function<void(json::Writer&)>& fill) {
  json::Writer writer;
  writer.BeginObject().Field("time", FormatUtc(RealClock().WallNs())).Field("event", event);
  if (!stage.empty()) writer.Field("stage", stage);
  if (fill) fill(writer);
  writer.EndObject();
  return events_.Append(writer.text());
}

Status RunFolder::AppendMetrics(std::string_view stage, int64_t step,
                                const std::function<void(json::Writer&)>& fill) {
  json::Writer writer;
  writer.BeginObject().Field("stage", stage).Field("step", step);
  writer.Field("time", FormatUtc(RealClock().WallNs()));
  fill(writer);
  writer.EndObject();
  FaultPoint("metrics.line");
  RETORT_RETURN_IF_ERROR(metrics_.Append(writer.text()));
  if (listener_) listener_(stage, step, writer.text());
  return OkStatus();
}

Status RunFolder::CutMetrics(std::string_view stage, int64_t last_step) {
  const std::string path = io::Join(path_, kMetrics);
  std::string kept;
  bool changed = false;
  {
    RETORT_ASSIGN_OR_RETURN(io::JsonlReader reader, io::JsonlReader::Open(path));
    for (;;) {
      RETORT_ASSIGN_OR_RETURN(const std::optional<json::Document> line, reader.Next());
      if (!line) break;
      const json::Value root = line->root();
      const bool cut = root["stage"].StringOr("") == stage && root["step"].IntOr(0) > last_step;
      changed = changed || cut;
      if (cut) continue;
      kept += reader.text();
      kept += '\n';
    }
  }
  if (!changed) return OkStatus();
  FaultPoint("metrics.cut");
  RETORT_RETURN_IF_ERROR(io::DurableWrite(*fs_, path, kept).status());
  RETORT_ASSIGN_OR_RETURN(metrics_, io::JsonlAppender::Open(*fs_, path));
  return OkStatus();
}

}  // namespace retort::host
