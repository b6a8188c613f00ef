// Where convert, quantize and merge write to, and in which type.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/model/gguf_export.h"
#include "core/model/source.h"
#include "host/commands/command.h"

namespace retort::host {

struct ModelTarget {
  std::string path;
  bool gguf = false;  // by its name
};

// Refuses what is there already, without "force", a target that is a source, and (for a GGUF) a
// folder. `sources`: paths that are read.
Result<ModelTarget> TargetOf(const CommandCall& call, const std::string& path,
                             const std::vector<std::string>& sources);

// The type named by argument `key`; absent: not given.
Result<std::optional<io::GgmlType>> TypeArg(const CommandCall& call, const char* key);
// The type of a folder's weights: f32, f16 or bf16.
Result<DType> FolderType(io::GgmlType type);
io::GgmlType GgmlTypeOf(DType type);

struct WrittenModel {
  std::string path = {};
  uint64_t bytes_before = 0, bytes_after = 0;  // of the weights' files
  std::vector<std::string> warnings = {};
  model::ExportReport report = {};  // by class and type
};

// All files of a model, or the .gguf.
uint64_t WeightBytes(const model::Source& source);

// Writes the plan with progress.
Result<WrittenModel> WriteGgufTarget(const CommandCall& call, const ModelTarget& target,
                                     model::GgufExport plan, uint64_t bytes_before);
// The source as a folder.
Result<WrittenModel> WriteFolderTarget(const CommandCall& call, const ModelTarget& target,
                                       const model::Source& source, DType type);

// Reports on standard output: a summary, with `classes` also a table of rounding errors.
Status Report(const CommandCall& call, const WrittenModel& written, bool classes);

}  // namespace retort::host
