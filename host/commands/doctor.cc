// doctor: what this machine has, and whether retort works on it.
// SPDX-License-Identifier: Apache-2.0
#include <sys/resource.h>
#include <sys/utsname.h>

#include <cstdio>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/threads.h"
#include "host/commands/command.h"
#include "host/report/table.h"
#include "host/worker/worker.h"

namespace retort::host {
namespace {

// What was looked at: a line each; `problem` makes the command fail.
struct Finding {
  std::string what, value;
  bool problem = false;
};

// The value of a "Key:  value" line of a file of /proc; "" if there is none.
std::string ProcField(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const size_t colon = line.find(':');
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

std::string ProcessorFeatures() {
  __builtin_cpu_init();
  std::string text;
  const auto add = [&text](const char* name, bool has) {
    if (has) text += (text.empty() ? "" : " ") + std::string(name);
  };
  add("avx2", __builtin_cpu_supports("avx2") != 0);
  add("fma", __builtin_cpu_supports("fma") != 0);
  add("avx512f", __builtin_cpu_supports("avx512f") != 0);
  add("avx512bw", __builtin_cpu_supports("avx512bw") != 0);
  add("avx512vnni", __builtin_cpu_supports("avx512vnni") != 0);
  add("avx512_bf16", __builtin_cpu_supports("avx512bf16") != 0);
  add("amx_bf16",
      (" " + ProcField("/proc/cpuinfo", "flags") + " ").find(" amx_bf16 ") != std::string::npos);
  return text.empty() ? "none of the vector extensions that the kernels know" : text;
}

std::string Memory() {
  const auto bytes = [](const char* key) {
    return std::strtod(ProcField("/proc/meminfo", key).c_str(), nullptr) * 1024;
  };
  std::string text =
      ShortBytes(bytes("MemTotal")) + ", " + ShortBytes(bytes("MemAvailable")) + " available";
  std::ifstream group("/sys/fs/cgroup/memory.max");
  std::string limit;
  if (std::getline(group, limit) && limit != "max") {
    text += ", limited to " + ShortBytes(std::strtod(limit.c_str(), nullptr)) + " by its cgroup";
  }
  return text;
}

std::string Limit(int resource, bool is_bytes) {
  rlimit limit{};
  if (getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0) return "?";
  if (limit.rlim_cur == RLIM_INFINITY) return "unlimited";
  return is_bytes ? ShortBytes(static_cast<double>(limit.rlim_cur))
                  : std::to_string(limit.rlim_cur);
}

std::string System() {
  utsname name{};
  return uname(&name) == 0 ? std::string(name.sysname) + " " + name.release + " " + name.machine
                           : "?";
}

void AddEngine(const CommandCall& call, std::vector<Finding>& findings) {
  const Result<engine::Engine*> engine = call.session.Engine();
  if (!engine.ok()) {
    findings.push_back({"engine", engine.status().message(), true});
    return;
  }
  const engine::EngineInfo info = (*engine)->Info();
  findings.push_back({"engine", "LibTorch " + info.libtorch_version + ", " + info.cpu_capability});
  findings.push_back({"kernels", info.kernel_level});
  findings.push_back({"engine threads", std::to_string(info.n_threads)});
}

void AddPlugins(const CommandCall& call, std::vector<Finding>& findings) {
  const Status loaded = call.session.EnsurePlugins();
  if (!loaded.ok()) {
    findings.push_back({"plugins", loaded.message(), true});
    return;
  }
  size_t builtin = 0, other = 0;
  for (const PluginInfo* info : call.session.plugins().List()) ++(info->builtin ? builtin : other);
  findings.push_back({"plugins",
                      std::to_string(builtin) + " built in, " + std::to_string(other) + " others",
                      builtin == 0});
}

// Starts one and has it open a built-in plugin: the whole way that an isolated plugin takes.
void AddWorker(const CommandCall& call, std::vector<Finding>& findings) {
  const std::vector<const PluginInfo*> plugins = call.session.plugins().List();
  if (plugins.empty()) return;  // said already
  const Stopwatch clock;
  WorkerOptions options;
  options.program = call.session.WorkerPath();
  const Result<LibraryDescription> described = DescribeInWorker(plugins[0]->path, options);
  if (!described.ok()) {
    findings.push_back({"worker", described.status().message(), true});
    return;
  }
  char text[64];
  std::snprintf(text, sizeof text, "answers %.0f ms after its start", clock.Seconds() * 1e3);
  findings.push_back({"worker", text});
}

std::vector<Finding> Examine(const CommandCall& call) {
  std::vector<Finding> findings = {
      {"retort", retort_version()},
      {"system", System()},
      {"processor", ProcField("/proc/cpuinfo", "model name")},
      {"features", ProcessorFeatures()},
      {"cores", std::to_string(AvailableCores()) + " for this process"},
      {"memory", Memory()},
      {"open files", Limit(RLIMIT_NOFILE, false)},
      {"address space", Limit(RLIMIT_AS, true)},
      {"gpu", "not used by this version"},
  };
  AddPlugins(call, findings);
  AddWorker(call, findings);
  AddEngine(call, findings);
  return findings;
}

}  // namespace

Outcome RunDoctor(const CommandCall& call) {
  const std::vector<Finding> findings = Examine(call);
  std::string problems;
  Table table({{"what"}, {"found"}});
  json::Writer out;
  out.BeginObject();
  for (const Finding& finding : findings) {
    table.AddRow({finding.what, finding.value});
    out.Field(finding.what, finding.value);
    if (finding.problem) problems += (problems.empty() ? "" : "; ") + finding.what;
  }
  out.Field("ok", problems.empty()).EndObject();
  RETORT_RETURN_IF_ERROR(call.args.Flag("json") ? call.io.Line(out.text())
                                                : call.io.Lines(table.Render()));
  if (problems.empty()) return OkStatus();
  return FailedPrecondition("not in order: " + problems + " (see above)");
}

}  // namespace retort::host
