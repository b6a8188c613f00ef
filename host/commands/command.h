// A command of retort_command: its name, the keys of its arguments, and the function that runs it.
// Arguments are checked against the table before the function sees them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/engine/engine.h"
#include "core/json/json.h"
#include "host/commands/io.h"
#include "host/session/session.h"
#include "retort/host.h"

namespace retort::host {

// How a command ended: a status and what it means to the caller (the program's exit code). A bare
// Status is a failure of the second kind: a file, a plugin, a stage.
class Outcome {
 public:
  Outcome() = default;
  Outcome(Status status)  // NOLINT: implicit by design
      : status_(std::move(status)),
        code_(status_.ok() ? RETORT_OUTCOME_DONE : RETORT_OUTCOME_FAILED) {}
  Outcome(Status status, int32_t code) : status_(std::move(status)), code_(code) {}
  // Wrong in what the caller wrote.
  static Outcome Usage(Status status) { return {std::move(status), RETORT_OUTCOME_USAGE}; }
  static Outcome Usage(std::string text) { return Usage(InvalidArgument(std::move(text))); }

  const Status& status() const { return status_; }
  int32_t code() const { return code_; }
  bool ok() const { return status_.ok(); }

 private:
  Status status_;
  int32_t code_ = RETORT_OUTCOME_DONE;
};

enum class ArgKind : uint8_t { kFlag, kText, kTexts, kInt, kNumber };

struct Arg {
  const char* name;
  ArgKind kind;
  bool required = false;
  double least = -1e300, most = 1e300;  // of kInt and kNumber
};

// The arguments as checked: every key is in the table and of its kind.
class Args {
 public:
  explicit Args(json::Value object) : object_(object) {}
  bool Has(std::string_view key) const { return bool(object_[key]); }
  bool Flag(std::string_view key) const { return object_[key].BoolOr(false); }
  std::string Text(std::string_view key) const { return std::string(object_[key].StringOr("")); }
  std::vector<std::string> Texts(std::string_view key) const;
  int64_t Int(std::string_view key, int64_t fallback) const { return object_[key].IntOr(fallback); }
  double Number(std::string_view key, double fallback) const {
    return object_[key].DoubleOr(fallback);
  }

 private:
  json::Value object_;
};

struct CommandCall {
  Session& session;
  const Args& args;
  CommandIo& io;
  engine::Cancel& cancel;  // set by the caller, or by a command whose result nobody reads
  int32_t n_threads = 1;
  std::function<void(int32_t level, std::string_view message)> log;  // of plugins

  bool cancelled() const { return cancel.load(std::memory_order_relaxed) != 0; }
};

struct Command {
  const char* name;  // "plugin.list"
  std::vector<Arg> args;
  Outcome (*run)(const CommandCall& call);
};

// Every command takes "plugins": libraries to load beside the built-in ones, and "plugin_lock": a
// plugins.lock that binds them.
std::span<const Command> Commands();

// The sampling options of generate, by the names of retort.generate's arguments.
std::vector<Arg> SamplingArgs();
// INVALID_ARGUMENT: an unknown key (with the nearest known one), a wrong type or range, or a
// required one that is absent. `what` names the table: "generate".
Status CheckArgs(const std::string& what, const std::vector<Arg>& args, const json::Value& object);

// What a command runs in.
struct CommandSetting {
  Session& session;
  CommandIo& io;
  engine::Cancel& cancel;
  std::function<void(int32_t level, std::string_view message)> log;
};
// Finds the command, checks the arguments, loads the named plugins, runs.
Outcome RunCommand(std::string_view name, std::string_view args_json,
                   const CommandSetting& setting);

// One file each.
Outcome RunRun(const CommandCall& call);
Outcome RunPlan(const CommandCall& call);
Outcome RunDemo(const CommandCall& call);
Outcome RunPluginList(const CommandCall& call);
Outcome RunPluginInfo(const CommandCall& call);
Outcome RunPluginNew(const CommandCall& call);
Outcome RunPluginCheck(const CommandCall& call);
Outcome RunPluginLock(const CommandCall& call);
Outcome RunModelShow(const CommandCall& call);
Outcome RunModelConvert(const CommandCall& call);
Outcome RunModelQuantize(const CommandCall& call);
Outcome RunModelDiff(const CommandCall& call);
Outcome RunModelMerge(const CommandCall& call);
Outcome RunTokenize(const CommandCall& call);
Outcome RunLogprob(const CommandCall& call);
Outcome RunGenerate(const CommandCall& call);
Outcome RunScore(const CommandCall& call);
Outcome RunFilter(const CommandCall& call);
Outcome RunDoctor(const CommandCall& call);

}  // namespace retort::host
