// The run folder: where everything of a run lies, and its two logs. events.jsonl says what
// happened when; metrics.jsonl holds each number once, also over restarts.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "core/base/status.h"
#include "core/io/filesystem.h"
#include "core/io/jsonl.h"
#include "core/json/json.h"

namespace retort::host {

class RunFolder {
 public:
  // Makes the folder; opens both logs (torn last lines are cut off).
  static Result<RunFolder> Open(io::FileSystem& fs, const std::string& path);

  io::FileSystem& fs() const { return *fs_; }
  const std::string& path() const { return path_; }
  std::string StageFolder(std::string_view stage) const { return io::Join(path_, stage); }
  std::string Trash() const { return io::Join(path_, ".trash"); }

  // {"time", "event", "stage", …}: `fill` writes further members.
  Status AppendEvent(std::string_view event, std::string_view stage,
                     const std::function<void(json::Writer&)>& fill = {});
  // {"stage", "step", "time", …}
  Status AppendMetrics(std::string_view stage, int64_t step,
                       const std::function<void(json::Writer&)>& fill);
  // Called with each line that AppendMetrics wrote.
  using MetricsListener =
      std::function<void(std::string_view stage, int64_t step, std::string_view line)>;
  void ListenToMetrics(MetricsListener listener) { listener_ = std::move(listener); }
  Status SyncMetrics() { return metrics_.Sync(); }

  // Takes out the lines of `stage` beyond `last_step` (-1: all of them): before a stage starts
  // anew or goes on from a checkpoint.
  Status CutMetrics(std::string_view stage, int64_t last_step);

 private:
  RunFolder(io::FileSystem& fs, std::string path, io::JsonlAppender events,
            io::JsonlAppender metrics);
  io::FileSystem* fs_;
  std::string path_;
  io::JsonlAppender events_, metrics_;
  MetricsListener listener_;
};

}  // namespace retort::host
