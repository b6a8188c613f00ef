// SPDX-License-Identifier: Apache-2.0
#include "host/commands/model_target.h"

#include <cmath>
#include <map>

#include "core/io/filesystem.h"
#include "core/model/convert.h"
#include "host/report/table.h"

namespace retort::host {
namespace {

using io::GgmlType;

std::function<bool(uint64_t, uint64_t)> ProgressOf(const CommandCall& call,
                                                   const std::string& path) {
  return [&call, what = io::BaseName(path)](uint64_t done, uint64_t all) {
    constexpr double kMiB = 1 << 20;
    call.io.Progress({.what = what,
                      .done = static_cast<double>(done) / kMiB,
                      .total = static_cast<double>(all) / kMiB,
                      .unit = "MiB"});
    return !call.cancelled();
  };
}

struct TypeSums {
  int64_t tensors = 0, weights = 0;
  uint64_t bytes = 0;
};
std::map<GgmlType, TypeSums> ByType(const model::ExportReport& report) {
  std::map<GgmlType, TypeSums> sums;
  for (const auto& [key, one] : report.classes) {
    TypeSums& sum = sums[key.second];
    sum.tensors += one.tensors;
    sum.weights += one.weights;
    sum.bytes += one.bytes;
  }
  return sums;
}

double Rms(double squares, int64_t n) {
  return n > 0 ? std::sqrt(squares / static_cast<double>(n)) : 0;
}
// Of the weights' own size.
double Relative(const model::ExportClass& one) {
  return one.square_weight > 0 ? std::sqrt(one.square_error / one.square_weight) : 0;
}

std::string Json(const WrittenModel& written) {
  json::Writer w;
  w.BeginObject().Field("path", written.path);
  w.Field("bytes_before", written.bytes_before).Field("bytes_after", written.bytes_after);
  w.Key("types").BeginObject();
  for (const auto& [type, sum] : ByType(written.report)) {
    w.Key(model::ExportTypeName(type)).BeginObject().Field("tensors", sum.tensors);
    w.Field("weights", sum.weights).Field("bytes", sum.bytes).EndObject();
  }
  w.EndObject().Key("classes").BeginArray();
  for (const auto& [key, one] : written.report.classes) {
    w.BeginObject().Field("class", key.first);
    w.Key("type").String(model::ExportTypeName(key.second));
    w.Field("tensors", one.tensors).Field("weights", one.weights).Field("bytes", one.bytes);
    w.Field("rms_error", Rms(one.square_error, one.weights));
    w.Field("relative_error", Relative(one)).Field("max_error", one.max_error).EndObject();
  }
  w.EndArray().Key("warnings").BeginArray();
  for (const std::string& warning : written.warnings) w.String(warning);
  return w.EndArray().EndObject().Take();
}

std::string ClassTable(const model::ExportReport& report) {
  using enum Align;
  Table table({{"tensors", kLeft},
               {"type", kLeft},
               {"count", kRight},
               {"weights", kRight},
               {"rms error", kRight},
               {"of rms weight", kRight},
               {"max error", kRight}});
  for (const auto& [key, one] : report.classes) {
    const bool rounded = one.square_weight > 0;
    table.AddRow({key.first, std::string(model::ExportTypeName(key.second)),
                  std::to_string(one.tensors), GroupedInteger(one.weights),
                  rounded ? ShortNumber(Rms(one.square_error, one.weights)) : "copied",
                  rounded ? ShortNumber(100 * Relative(one)) + " %" : "",
                  rounded ? ShortNumber(one.max_error) : ""});
  }
  return table.Render();
}

}  // namespace

Result<ModelTarget> TargetOf(const CommandCall& call, const std::string& path,
                             const std::vector<std::string>& sources) {
  io::FileSystem& fs = io::RealFileSystem();
  ModelTarget target{.path = path, .gguf = path.ends_with(".gguf")};
  for (const std::string& source : sources) {
    if (io::Absolute(source) != io::Absolute(path)) continue;
    return InvalidArgument(path + ": is read and written at once; name another target");
  }
  const Result<io::FileInfo> there = fs.Stat(path);
  if (!there.ok()) return target;
  const bool folder = there->kind == io::FileKind::kFolder;
  if (folder == target.gguf) {
    return InvalidArgument(
        path + ": is a " + (folder ? "folder" : "file") + "; a target " +
        (folder ? "that ends in .gguf is a file" : "is a folder unless its name ends in .gguf"));
  }
  if (folder) {
    RETORT_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(path));
    if (names.empty()) return target;
  }
  if (call.args.Flag("force")) return target;
  return AlreadyExists(path + " is there already; \"force\" overwrites it" +
                       (folder ? "'s model files" : ""));
}

Result<std::optional<GgmlType>> TypeArg(const CommandCall& call, const char* key) {
  if (!call.args.Has(key)) return std::optional<GgmlType>();
  RETORT_ASSIGN_OR_RETURN(const GgmlType type, model::ParseExportType(call.args.Text(key)));
  return std::optional(type);
}

Result<DType> FolderType(GgmlType type) {
  if (type == GgmlType::kF32) return DType::kF32;
  if (type == GgmlType::kF16) return DType::kF16;
  if (type == GgmlType::kBF16) return DType::kBF16;
  return InvalidArgument("type \"" + std::string(model::ExportTypeName(type)) +
                         "\" has no place in an HF folder (f32, f16 and bf16 have); end the "
                         "target's name in .gguf");
}

GgmlType GgmlTypeOf(DType type) {
  return type == DType::kF16    ? GgmlType::kF16
         : type == DType::kBF16 ? GgmlType::kBF16
                                : GgmlType::kF32;
}

uint64_t WeightBytes(const model::Source& source) {
  if (source.is_gguf()) {
    const auto info = io::RealFileSystem().Stat(source.path());
    if (info.ok()) return info->bytes;
  }
  uint64_t bytes = 0;
  for (const model::TensorInfo& tensor : source.tensors()) bytes += tensor.bytes;
  return bytes;
}

Result<WrittenModel> WriteGgufTarget(const CommandCall& call, const ModelTarget& target,
                                     model::GgufExport plan, uint64_t bytes_before) {
  WrittenModel written{.path = target.path, .bytes_before = bytes_before, .bytes_after = 0};
  written.warnings = plan.warnings;
  RETORT_ASSIGN_OR_RETURN(
      written.report,
      model::WriteGguf(io::RealFileSystem(), target.path, plan,
                       {.n_threads = call.n_threads, .progress = ProgressOf(call, target.path)}));
  written.bytes_after = written.report.file.bytes;
  return written;
}

Result<WrittenModel> WriteFolderTarget(const CommandCall& call, const ModelTarget& target,
                                       const model::Source& source, DType type) {
  WrittenModel written{.path = target.path, .bytes_before = WeightBytes(source), .bytes_after = 0};
  RETORT_ASSIGN_OR_RETURN(const model::ConvertReport report,
                          model::WriteFolder(io::RealFileSystem(), target.path, source, type,
                                             ProgressOf(call, target.path)));
  written.bytes_after = report.bytes;
  written.report.classes[{"all", GgmlTypeOf(type)}] = {.tensors = report.tensors,
                                                       .weights = report.weights,
                                                       .bytes = report.bytes,
                                                       .square_error = report.square_error,
                                                       .square_weight = report.square_weight,
                                                       .max_error = report.max_error};
  return written;
}

Status Report(const CommandCall& call, const WrittenModel& written, bool classes) {
  for (const std::string& warning : written.warnings) call.io.Warning(warning);
  if (call.args.Flag("json")) return call.io.Line(Json(written));
  std::string out = "written  " + written.path + "\nsize     " +
                    ShortBytes(static_cast<double>(written.bytes_before)) + " -> " +
                    ShortBytes(static_cast<double>(written.bytes_after)) + "\ntypes    ";
  bool first = true;
  for (const auto& [type, sum] : ByType(written.report)) {
    out += (first ? "" : ", ") + std::string(model::ExportTypeName(type)) + " " +
           std::to_string(sum.tensors) + (sum.tensors == 1 ? " tensor, " : " tensors, ") +
           ShortBytes(static_cast<double>(sum.bytes));
    first = false;
  }
  out += "\n";
  if (classes) out += "\n" + ClassTable(written.report);
  return call.io.Lines(out);
}

}  // namespace retort::host
