// SPDX-License-Identifier: Apache-2.0
#include "host/commands/command.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/io/filesystem.h"
#include "host/plugin/lock.h"

namespace retort::host {
namespace {

constexpr const char* kPlugins = "plugins";
constexpr const char* kPluginLock = "plugin_lock";

std::vector<Arg> GenerateArgs(std::vector<Arg> args) {
  args.push_back({"prompt", ArgKind::kText});
  const std::vector<Arg> sampling = SamplingArgs();
  args.insert(args.end(), sampling.begin(), sampling.end());
  return args;
}

// Of the commands that write a model.
std::vector<Arg> WriteArgs(std::vector<Arg> args) {
  using enum ArgKind;
  const std::vector<Arg> more = {{"target", kText, true},
                                 {"type", kText},
                                 {"head_type", kText},
                                 {"force", kFlag},
                                 {"json", kFlag}};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

std::vector<Command> MakeCommands() {
  using enum ArgKind;
  const Arg model{"model", kText, true}, input{"input", kText}, json{"json", kFlag};
  const Arg chat_format{"chat_format", kText}, storage{"storage", kText}, adapter{"adapter", kText},
      tokenizer{"tokenizer", kText};
  const Arg seed{"seed", kInt, false, 0}, file{"file", kText, true}, set{"set", kTexts};
  const Arg profile{"profile", kText};
  return {
      {"run",
       {file,
        set,
        profile,
        {"only", kText},
        {"from", kText},
        {"fresh", kFlag},
        {"allow_inexact", kFlag},
        json},
       RunRun},
      {"plan", {file, set, profile, json}, RunPlan},
      {"demo",
       {seed, {"seeds", kInt, false, 1, 1000}, {"output", kText}, profile, set, json},
       RunDemo},
      {"plugin.list", {{"kind", kText}, json}, RunPluginList},
      {"plugin.info", {{"id", kText, true}, json}, RunPluginInfo},
      {"plugin.new",
       {{"kind", kText, true}, {"name", kText, true}, {"lang", kText}, {"output", kText}},
       RunPluginNew},
      {"plugin.check",
       {file,
        {"id", kText},
        {"config", kText},
        seed,
        {"only", kTexts},
        {"model", kText},
        {"inputs", kText},
        {"timeout_ms", kInt, false, 1, 3.6e6},
        json},
       RunPluginCheck},
      {"plugin.lock", {{"files", kTexts, true}, {"output", kText}, json}, RunPluginLock},
      {"model.show", {model, json}, RunModelShow},
      {"model.convert", WriteArgs({{"source", kText, true}}), RunModelConvert},
      {"model.quantize", WriteArgs({{"source", kText, true}}), RunModelQuantize},
      {"model.merge", WriteArgs({{"base", kText, true}, {"adapter", kText, true}}), RunModelMerge},
      {"model.diff",
       {{"a", kText, true}, {"b", kText, true}, {"tolerance", kNumber, false, 0}, json},
       RunModelDiff},
      {"tokenize",
       {model,
        input,
        {"chat", kFlag},
        {"decode", kFlag},
        {"generation_prompt", kFlag},
        {"skip_special_tokens", kFlag},
        {"no_special_tokens", kFlag},
        chat_format},
       RunTokenize},
      {"logprob", {model, input, {"max_tokens", kInt, false, 0}, storage, adapter}, RunLogprob},
      {"generate", GenerateArgs({model, input, chat_format, storage, adapter, json}), RunGenerate},
      {"score", {{"reward", kTexts, true}, input, tokenizer, seed}, RunScore},
      {"filter", {{"filter", kTexts, true}, input, {"audit", kText}, tokenizer, seed}, RunFilter},
      {"doctor", {json}, RunDoctor},
  };
}

std::string Hint(const std::string& word, const std::vector<std::string>& known) {
  const std::optional<std::string> nearest = json::Nearest(word, known);
  return nearest ? "; did you mean \"" + *nearest + "\"?" : "";
}

bool IsTextList(const json::Value& value) {
  for (size_t i = 0; i < value.size(); ++i) {
    if (!value[i].is_string()) return false;
  }
  return value.is_array();
}

Status CheckNumber(const Arg& arg, const json::Value& value) {
  const std::string name = std::string("\"") + arg.name + "\"";
  double number = 0;
  if (arg.kind == ArgKind::kInt) {
    const Result<int64_t> integer = value.AsInt();
    if (!integer.ok()) return integer.status().WithContext(name);
    number = static_cast<double>(*integer);
  } else {
    const Result<double> real = value.AsDouble();
    if (!real.ok()) return real.status().WithContext(name);
    number = *real;
  }
  if (number >= arg.least && number <= arg.most) return OkStatus();
  const std::string least = std::to_string(static_cast<int64_t>(std::max(arg.least, -9e15)));
  const std::string most = std::to_string(static_cast<int64_t>(std::min(arg.most, 9e15)));
  return InvalidArgument(name + " is " + std::string(value.number_text()) + ", must be at least " +
                         least + (arg.most < 1e300 ? " and at most " + most : ""));
}

Status CheckKind(const Arg& arg, const json::Value& value) {
  const std::string name = std::string("\"") + arg.name + "\"";
  switch (arg.kind) {
    case ArgKind::kFlag:
      return value.is_bool() ? OkStatus() : InvalidArgument(name + " must be true or false");
    case ArgKind::kText:
      return value.is_string() ? OkStatus() : InvalidArgument(name + " must be a text");
    case ArgKind::kTexts:
      return IsTextList(value) ? OkStatus() : InvalidArgument(name + " must be a list of texts");
    case ArgKind::kInt:
    case ArgKind::kNumber: return CheckNumber(arg, value);
  }
  return OkStatus();
}

// "plugin_lock" holds from here on for all that the context loads. A lock can't be exchanged for
// another one.
Outcome SetLock(const std::string& file, Session& session) {
  if (file.empty()) return OkStatus();
  LoadPolicy policy = session.plugins().policy();
  const std::string path = io::Absolute(file);
  if (!policy.lock_file.empty() && policy.lock_file != path) {
    return Outcome::Usage("\"plugin_lock\" is " + path + ", but " + policy.lock_file +
                          " binds this context already");
  }
  const Status readable = LockFile::Read(path).status();
  if (readable.code() == Code::kNotFound) return Outcome::Usage(readable);
  RETORT_RETURN_IF_ERROR(readable);
  policy.lock_file = path;
  session.plugins().SetPolicy(std::move(policy));
  return OkStatus();
}

// A library that the caller named and that is not there is the caller's mistake; one that is there
// but broken is the file's.
Outcome LoadPlugins(const std::vector<std::string>& paths, Session& session) {
  if (paths.empty()) return OkStatus();
  RETORT_RETURN_IF_ERROR(session.EnsurePlugins());
  for (const std::string& path : paths) {
    const Status loaded = session.plugins().LoadFile(path);
    if (loaded.code() == Code::kNotFound) return Outcome::Usage(loaded);
    RETORT_RETURN_IF_ERROR(loaded);
  }
  return OkStatus();
}

}  // namespace

std::vector<std::string> Args::Texts(std::string_view key) const {
  std::vector<std::string> texts;
  const json::Value list = object_[key];
  for (size_t i = 0; i < list.size(); ++i) texts.emplace_back(list[i].StringOr(""));
  return texts;
}

std::vector<Arg> SamplingArgs() {
  using enum ArgKind;
  return {{"chat", kFlag},
          {"system", kText},
          {"prefix", kText},
          {"samples", kInt, false, 1, 100'000},
          {"max_tokens", kInt, false, 1, 1e6},
          {"min_tokens", kInt, false, 0, 1e6},
          {"temperature", kNumber, false, 0, 1e3},
          {"top_k", kInt, false, 0, 2e9},
          {"top_p", kNumber, false, 0, 1},
          {"min_p", kNumber, false, 0, 1},
          {"repetition_penalty", kNumber, false, 1e-3, 1e3},
          {"presence_penalty", kNumber, false, -1e3, 1e3},
          {"frequency_penalty", kNumber, false, -1e3, 1e3},
          {"logit_bias", kTexts},
          {"stop", kTexts},
          {"seed", kInt, false, 0},
          {"max_batch", kInt, false, 1, 4096},
          {"kv_dtype", kText},
          {"kv_memory", kInt, false, 0},
          {"prefill_chunk", kInt, false, 1, 1e6}};
}

Status CheckArgs(const std::string& what, const std::vector<Arg>& args, const json::Value& object) {
  if (!object.is_object()) return InvalidArgument("the arguments must be a JSON object");
  std::vector<std::string> known;
  for (const Arg& arg : args) known.push_back(arg.name);
  for (size_t i = 0; i < object.size(); ++i) {
    const std::string key(object.key_at(i));
    const auto arg = std::find_if(args.begin(), args.end(),
                                  [&](const Arg& candidate) { return candidate.name == key; });
    if (arg == args.end()) {
      return InvalidArgument("unknown argument \"" + key + "\" of " + what + Hint(key, known));
    }
    RETORT_RETURN_IF_ERROR(CheckKind(*arg, object.value_at(i)));
  }
  for (const Arg& arg : args) {
    if (arg.required && !object[arg.name]) {
      return InvalidArgument(what + " needs \"" + arg.name + "\"");
    }
  }
  return OkStatus();
}

std::span<const Command> Commands() {
  static const std::vector<Command> commands = MakeCommands();
  return commands;
}

Outcome RunCommand(std::string_view name, std::string_view args_json,
                   const CommandSetting& setting) {
  std::vector<std::string> known;
  const Command* command = nullptr;
  for (const Command& candidate : Commands()) {
    known.push_back(candidate.name);
    if (candidate.name == name) command = &candidate;
  }
  if (command == nullptr) {
    return Outcome::Usage("unknown command \"" + std::string(name) + "\"" +
                          Hint(std::string(name), known));
  }
  const Result<json::Document> document =
      json::Document::Parse(args_json.empty() ? "{}" : args_json, "arguments");
  if (!document.ok()) return Outcome::Usage(document.status());
  std::vector<Arg> allowed = command->args;
  allowed.push_back({kPlugins, ArgKind::kTexts});
  allowed.push_back({kPluginLock, ArgKind::kText});
  const Status checked = CheckArgs(command->name, allowed, document->root());
  if (!checked.ok()) return Outcome::Usage(checked);
  const Args args(document->root());
  const Outcome locked = SetLock(args.Text(kPluginLock), setting.session);
  if (!locked.ok()) return locked;
  const Outcome loaded = LoadPlugins(args.Texts(kPlugins), setting.session);
  if (!loaded.ok()) return loaded;
  const CommandCall call{
      setting.session, args, setting.io, setting.cancel, setting.session.n_threads(), setting.log};
  const Outcome outcome = command->run(call);
  // Input that broke off because somebody asked to stop is no failure of the input.
  const bool broke_off = outcome.status().code() == Code::kUnavailable && call.cancelled();
  return broke_off ? Outcome(Cancelled("interrupted")) : outcome;
}

}  // namespace retort::host
