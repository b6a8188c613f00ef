// One visit to a member of the zoo, as a program of its own: loads the library, makes a chain of
// it, lets it see eight samples, one of them poisoned, and looks whether this process is as it was.
//   zoo_visit FILE worker|here skip|fail REPORT PLUGIN_DIR WORKER
// Each step is a JSON line in REPORT. When the plugin takes the process down, its last words on
// standard error name the plugin, as the program `retort` does it.
// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <clocale>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "core/json/json.h"
#include "host/chain/filter_chain.h"
#include "host/chain/reward_chain.h"
#include "host/plugin/process_watch.h"
#include "host/plugin/running.h"
#include "host/session/session.h"

namespace retort::host {
namespace {

constexpr size_t kSamples = 8, kPoisoned = 3;

// ---- last words: async-signal-safe -------------------------------------------------------------

int g_words = STDERR_FILENO;  // a copy: the plugin may close the standard ones

void Say(const char* text) {
  [[maybe_unused]] const ssize_t ignored = write(g_words, text, std::strlen(text));
}

void NamePlugin(const char* end) {
  const char* plugin = RunningPlugin();
  if (plugin == nullptr) return;
  Say("zoo_visit: ");
  Say(end);
  Say(" inside plugin ");
  Say(plugin);
  Say("\n");
}

void OnSignal(int signal) {
  NamePlugin(signal == SIGTERM ? "stopped" : "died");
  _exit(signal == SIGTERM ? 75 : 1);
}

// A plugin that calls exit is no success of the program.
void AtExit() {
  if (RunningPlugin() == nullptr) return;
  NamePlugin("ended");
  _exit(1);
}

void WatchOverPlugins() {
  g_words = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 2000);
  if (g_words < 0) g_words = STDERR_FILENO;
  static std::array<char, 65536> stack;  // for handlers when the thread's own is used up
  const stack_t other = {stack.data(), 0, stack.size()};
  sigaltstack(&other, nullptr);
  struct sigaction action {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_ONSTACK;
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTERM}) {
    sigaction(signal, &action, nullptr);
  }
  std::atexit(AtExit);
}

// ---- the visit ---------------------------------------------------------------------------------

class Report {
 public:
  explicit Report(std::string path) : path_(std::move(path)) {}

  void Step(const char* step, const Status& status) {
    json::Writer out;
    out.BeginObject().Field("step", step).Field("ok", status.ok());
    out.Field("text", status.message()).EndObject();
    Line(out.Take());
  }
  // ok, error, timeout, keep or drop of each sample.
  void Verdicts(const std::vector<std::string>& verdicts, const std::string& error) {
    json::Writer out;
    out.BeginObject().Field("step", "samples").Field("ok", true).Field("text", error);
    out.Key("verdicts").BeginArray();
    for (const std::string& verdict : verdicts) out.String(verdict);
    out.EndArray().EndObject();
    Line(out.Take());
  }

 private:
  void Line(std::string line) {
    line += '\n';
    const int fd = open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, line.data(), line.size()) < 0) std::abort();
    close(fd);
  }
  std::string path_;
};

// A file that this process has open, as a run has many.
class OpenFile {
 public:
  explicit OpenFile(const std::string& report)
      : fd_(open((report + ".open").c_str(), kFlags, 0600)) {
    unlink((report + ".open").c_str());
  }
  Status Finish() const {
    struct stat info {};
    if (fstat(fd_, &info) != 0) return FailedPrecondition("an open file of this process is closed");
    if (info.st_size != 0) return FailedPrecondition("somebody wrote into an open file");
    return OkStatus();
  }

 private:
  static constexpr int kFlags = O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC;
  int fd_;
};

std::vector<data::Sample> Samples() {
  std::vector<data::Sample> samples(kSamples);
  for (size_t i = 0; i < kSamples; ++i) {
    samples[i].uid = samples[i].record_uid = i + 1;
    samples[i].prompt = "What is one and one?";
    samples[i].completion = (i == kPoisoned ? "poison " : "fine ") + std::to_string(i);
    samples[i].record = "{}";
  }
  return samples;
}

std::string Entry(const PluginInfo& plugin, bool in_worker, const std::string& on_error) {
  json::Writer out;
  out.BeginObject().Field("plugin", plugin.id).Field("on_error", on_error);
  out.Field("max_error_rate", 1.0).Field("isolate", in_worker);
  if (in_worker) out.Field("timeout_ms", int64_t{400});
  if (plugin.config_schema.find("\"trigger\"") != std::string::npos) {
    out.Key("config").BeginObject().Field("trigger", "poison").EndObject();
  }
  return out.EndObject().Take();
}

Status ScoreAll(RewardChain& chain, Report& report) {
  const std::vector<data::Sample> samples = Samples();
  RETORT_ASSIGN_OR_RETURN(const RewardTable table, chain.Score(samples, ChainCall()));
  std::vector<std::string> verdicts;
  std::string error;
  for (size_t i = 0; i < kSamples; ++i) {
    verdicts.emplace_back(ScoreStatusName(table.status[i]));
    if (error.empty()) error = table.error[i];
  }
  report.Verdicts(verdicts, error);
  return OkStatus();
}

Status FilterAll(FilterChain& chain, Report& report) {
  RETORT_ASSIGN_OR_RETURN(const FilterOutcome outcome, chain.Run(Samples(), ChainCall()));
  std::vector<std::string> verdicts(kSamples, "lost");
  std::string error;
  for (const size_t input : outcome.input) verdicts[input] = "ok";
  for (const AuditEntry& entry : outcome.audit) {
    verdicts[entry.input] = entry.error ? "error" : "drop";
    if (entry.error && error.empty()) error = entry.reason;
  }
  report.Verdicts(verdicts, error);
  return OkStatus();
}

template <class Chain>
Status Walk(Session& session, const json::Value& entry, Report& report,
            Status (*all)(Chain&, Report&)) {
  Status status;
  {
    Result<Chain> chain = Chain::Create(session, entry, retort_key{1, 2});
    report.Step("create", chain.status());
    if (!chain.ok()) return OkStatus();
    status = all(*chain, report);
    if (!status.ok()) report.Step("samples", status);
  }
  report.Step("destroy", OkStatus());
  return OkStatus();
}

int Visit(const std::vector<std::string>& args) {
  Report report(args[3]);
  const bool in_worker = args[1] == "worker";
  SessionOptions options;
  options.plugin_dir = args[4];
  options.worker_path = args[5];
  Session session(options);
  if (!in_worker) session.plugins().SetDescriber(nullptr);
  report.Step("start", session.EnsurePlugins());
  const OpenFile file(args[3]);
  ProcessWatch watch(Watch::kProcess);
  const Status loaded = session.plugins().LoadFile(args[0]);
  report.Step("load", loaded);
  if (loaded.ok()) {
    const PluginInfo& plugin = *session.plugins().List().front();
    const json::Document entry =
        json::Document::Parse(Entry(plugin, in_worker, args[2]), "entry").value();
    const Status walked = plugin.kind == "filter"
                              ? Walk<FilterChain>(session, entry.root(), report, FilterAll)
                              : Walk<RewardChain>(session, entry.root(), report, ScoreAll);
    if (!walked.ok()) report.Step("walk", walked);
  }
  const Status unchanged = watch.Finish();
  report.Step("end", unchanged.ok() ? file.Finish() : unchanged);
  return 0;
}

}  // namespace
}  // namespace retort::host

int main(int argc, char** argv) {
  if (argc != 7) return 2;
  retort::host::WatchOverPlugins();
  return retort::host::Visit({argv + 1, argv + argc});
}
