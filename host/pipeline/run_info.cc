// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/run_info.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "core/base/clock.h"
#include "core/base/threads.h"
#include "core/json/json.h"

namespace retort::host {
namespace {

std::string ProcessorName() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) != 0) continue;
    const size_t colon = line.find(':');
    return colon == std::string::npos ? "" : line.substr(colon + 2);
  }
  return "unknown";
}

void WriteMachine(json::Writer& writer) {
  utsname system{};
  uname(&system);
  writer.Key("machine").BeginObject().Field("host", system.nodename);
  writer.Field("system", std::string(system.sysname) + " " + system.release);
  writer.Field("architecture", system.machine).Field("processor", ProcessorName());
  writer.Field("cores", AvailableCores());
  const auto pages = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES));
  writer.Field("memory_bytes", pages * static_cast<int64_t>(sysconf(_SC_PAGESIZE))).EndObject();
}

Status WriteEngine(Session& session, json::Writer& writer) {
  RETORT_ASSIGN_OR_RETURN(engine::Engine * engine, session.Engine());
  const engine::EngineInfo info = engine->Info();
  writer.Key("engine").BeginObject().Field("libtorch", info.libtorch_version);
  writer.Field("cpu_capability", info.cpu_capability).Field("kernel_level", info.kernel_level);
  writer.Field("threads", info.n_threads).EndObject();
  return OkStatus();
}

// Our own JSON again, indented to where it goes.
void CopyText(json::Writer& writer, std::string_view key, const std::string& json) {
  const Result<json::Document> document = json::Document::Parse(json, key);
  writer.Key(key);
  document.ok() ? writer.Copy(document->root()) : writer.Null();
}

void WritePlugins(Session& session, const PipelineConfig& config, json::Writer& writer) {
  writer.Key("plugins").BeginObject();
  std::vector<std::string> seen;
  for (const StageConfig& stage : config.stages) {
    for (const auto& [kind, id] : stage.plugins) {
      const std::string name = kind + "/" + id;
      const auto found = session.plugins().Find(kind, id);
      if (!found.ok() || std::find(seen.begin(), seen.end(), name) != seen.end()) continue;
      seen.push_back(name);
      writer.Key(name).BeginObject().Field("version", (*found)->version);
      writer.Field("path", (*found)->path).Field("hash", (*found)->hash).EndObject();
    }
  }
  writer.EndObject();
}

}  // namespace

Status WriteRunInfo(Session& session, const PipelineConfig& config, const RunFolder& folder,
                    const std::string& report_json, bool with_engine) {
  json::Writer writer(2);
  writer.BeginObject().Field("retort", RETORT_VERSION).Field("file", config.file);
  writer.Field("time", FormatUtc(RealClock().WallNs()));
  writer.Field("threads", session.n_threads());
  WriteMachine(writer);
  if (with_engine) RETORT_RETURN_IF_ERROR(WriteEngine(session, writer));
  WritePlugins(session, config, writer);
  CopyText(writer, "config", config.resolved_json);
  if (!report_json.empty()) CopyText(writer, "report", report_json);
  writer.EndObject();
  const std::string path = io::Join(folder.path(), "run.json");
  return io::DurableWrite(folder.fs(), path, writer.Take() + "\n").status();
}

}  // namespace retort::host
