// SPDX-License-Identifier: Apache-2.0
#include "host/chain/entries.h"

#include <algorithm>
#include <optional>
#include <set>

#include "core/model/storage.h"

namespace retort::host {
namespace {

constexpr int64_t kMaxTimeoutMs = 86'400'000;

Status Bad(const std::string& where, const std::string& text) {
  return InvalidArgument(where + ": " + text);
}

const std::vector<std::string> kModelKeys = {"model", "name",   "weight",   "gate",
                                             "at",    "reduce", "on_error", "max_error_rate"};

Status CheckKeys(const json::Value& entry, std::string_view kind, const std::string& where) {
  std::vector<std::string> known = {"plugin",         "name",    "config",    "on_error",
                                    "max_error_rate", "isolate", "timeout_ms"};
  if (kind == "reward") {
    known.insert(known.end(), {"weight", "gate"});
  } else {
    known.push_back("rewards");
  }
  if (kind == "reward" && entry["model"]) known = kModelKeys;
  for (size_t i = 0; i < entry.size(); ++i) {
    const std::string key(entry.key_at(i));
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    const std::optional<std::string> nearest = json::Nearest(key, known);
    return Bad(where, "unknown key \"" + key + "\"" +
                          (nearest ? "; did you mean \"" + *nearest + "\"?" : ""));
  }
  return OkStatus();
}

// "reward/length" or "length" -> "length"; another kind than the place's is an error.
Result<std::string> PluginId(std::string_view text, std::string_view kind,
                             const std::string& where) {
  const size_t slash = text.find('/');
  const std::string_view id = slash == std::string_view::npos ? text : text.substr(slash + 1);
  if (id.empty()) return Bad(where, "an empty plugin id");
  if (slash != std::string_view::npos && text.substr(0, slash) != kind) {
    return Bad(where, "\"" + std::string(text) + "\" is no " + std::string(kind) +
                          "; write the id of a " + std::string(kind) + " plugin");
  }
  return std::string(id);
}

Result<double> Number(const json::Value& value, const std::string& where) {
  Result<double> number = value.AsDouble();
  if (!number.ok()) return number.status().WithContext(where);
  return number;
}

// Where the plugin runs.
Status ReadPlacement(const json::Value& value, EntrySpec& spec) {
  if (const json::Value isolate = value["isolate"]) {
    if (!isolate.is_bool()) return Bad(spec.where + ".isolate", "must be true or false");
    spec.isolate = isolate.BoolOr(true);
  }
  const json::Value timeout = value["timeout_ms"];
  if (!timeout) return OkStatus();
  const Result<int64_t> ms = timeout.AsInt();
  if (!ms.ok()) return ms.status().WithContext(spec.where + ".timeout_ms");
  if (*ms < 1 || *ms > kMaxTimeoutMs) {
    return Bad(spec.where + ".timeout_ms",
               "must lie between 1 and " + std::to_string(kMaxTimeoutMs) + " (one day)");
  }
  spec.timeout_ms = *ms;
  return OkStatus();
}

// A path, or an object like a model of a pipeline's.
Result<ModelRewardOptions> ReadWhich(const json::Value& model, const std::string& where) {
  if (model.is_string()) return ModelRewardOptions{.path = std::string(model.StringOr(""))};
  if (!model.is_object()) return Bad(where, "must be a path, or an object with \"path\"");
  const std::vector<std::string> known = {"path", "adapter", "chat_format", "chat", "storage"};
  for (size_t i = 0; i < model.size(); ++i) {
    const std::string key(model.key_at(i));
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      const std::optional<std::string> nearest = json::Nearest(key, known);
      return Bad(where, "unknown key \"" + key + "\"" +
                            (nearest ? "; did you mean \"" + *nearest + "\"?" : ""));
    }
    const json::Value value = model.value_at(i);
    if (key == "chat" ? value.is_bool() : value.is_string()) continue;
    return Bad(where + "." + key, key == "chat" ? "must be true or false" : "must be a string");
  }
  ModelRewardOptions options = {.path = std::string(model["path"].StringOr("")),
                                .adapter = std::string(model["adapter"].StringOr("")),
                                .chat_format = std::string(model["chat_format"].StringOr("")),
                                .chat = model["chat"].BoolOr(true),
                                .storage = std::string(model["storage"].StringOr("auto"))};
  const Status storage = model::ParseStorage(options.storage).status();
  if (!storage.ok()) return storage.WithContext(where);
  return options;
}

// {"model", "at", "reduce"}: what a model's value head says.
Status ReadModel(const json::Value& value, EntrySpec& spec) {
  RETORT_ASSIGN_OR_RETURN(ModelRewardOptions model,
                          ReadWhich(value["model"], spec.where + ".model"));
  if (model.path.empty()) return Bad(spec.where + ".model", "must be the path of a reward model");
  const std::string_view at = value["at"].StringOr("end");
  if (at != "end" && at != "steps") {
    return Bad(spec.where + ".at", "must be \"end\" or \"steps\"");
  }
  if (at == "end" && value["reduce"]) {
    return Bad(spec.where + ".reduce", "there is one score at the end; it needs \"at\": \"steps\"");
  }
  const Result<StepReduce> reduce = ParseStepReduce(value["reduce"].StringOr("min"));
  if (!reduce.ok()) return reduce.status().WithContext(spec.where + ".reduce");
  model.steps = at == "steps";
  model.reduce = *reduce;
  spec.plugin = model.path.substr(model.path.find_last_of("/@") + 1);
  spec.model = std::move(model);
  return OkStatus();
}

Status ReadPlugin(const json::Value& value, std::string_view kind, EntrySpec& spec) {
  const json::Value plugin = value["plugin"];
  if (!plugin.is_string()) return Bad(spec.where, "needs \"plugin\", the id of a plugin");
  RETORT_ASSIGN_OR_RETURN(spec.plugin, PluginId(plugin.StringOr(""), kind, spec.where + ".plugin"));
  return OkStatus();
}

Status ReadObject(const json::Value& value, std::string_view kind, EntrySpec& spec) {
  RETORT_RETURN_IF_ERROR(CheckKeys(value, kind, spec.where));
  const bool by_model = kind == "reward" && value["model"];
  RETORT_RETURN_IF_ERROR(by_model ? ReadModel(value, spec) : ReadPlugin(value, kind, spec));
  spec.name = value["name"].StringOr(spec.plugin);
  if (spec.name.empty()) return Bad(spec.where + ".name", "an empty name");
  if (const json::Value config = value["config"]) {
    if (!config.is_object()) return Bad(spec.where + ".config", "must be an object");
    spec.config = config.Dump();
  }
  if (const json::Value weight = value["weight"]) {
    RETORT_ASSIGN_OR_RETURN(spec.weight, Number(weight, spec.where + ".weight"));
  }
  if (const json::Value rate = value["max_error_rate"]) {
    RETORT_ASSIGN_OR_RETURN(spec.max_error_rate, Number(rate, spec.where + ".max_error_rate"));
    if (!(spec.max_error_rate >= 0 && spec.max_error_rate <= 1)) {
      return Bad(spec.where + ".max_error_rate", "must lie between 0 and 1");
    }
  }
  if (const json::Value on_error = value["on_error"]) {
    const std::string_view text = on_error.StringOr("");
    if (text != "skip" && text != "fail") {
      return Bad(spec.where + ".on_error", "must be \"skip\" or \"fail\"");
    }
    spec.on_error = text == "fail" ? OnError::kFail : OnError::kSkip;
  }
  RETORT_RETURN_IF_ERROR(ReadPlacement(value, spec));
  spec.rewards = value["rewards"];
  return OkStatus();
}

Result<EntrySpec> ReadEntry(const json::Value& value, std::string_view kind, std::string where) {
  EntrySpec spec;
  spec.where = std::move(where);
  if (value.is_string()) {
    RETORT_ASSIGN_OR_RETURN(spec.plugin, PluginId(value.StringOr(""), kind, spec.where));
    spec.name = spec.plugin;
    return spec;
  }
  if (!value.is_object()) {
    return Bad(spec.where, "must be a plugin's id or an object with \"plugin\"");
  }
  RETORT_RETURN_IF_ERROR(ReadObject(value, kind, spec));
  return spec;
}

// The names under "gate" to entries.
Status ResolveGates(const std::vector<std::string>& gates, std::vector<EntrySpec>* specs) {
  std::vector<std::string> names;
  for (const EntrySpec& spec : *specs) names.push_back(spec.name);
  for (size_t i = 0; i < specs->size(); ++i) {
    if (gates[i].empty()) continue;
    const std::string where = (*specs)[i].where + ".gate";
    const auto found = std::find(names.begin(), names.end(), gates[i]);
    if (found == names.end()) {
      const std::optional<std::string> nearest = json::Nearest(gates[i], names);
      return Bad(where, "there is no reward called \"" + gates[i] + "\" in this chain" +
                            (nearest ? "; did you mean \"" + *nearest + "\"?" : ""));
    }
    (*specs)[i].gate = static_cast<size_t>(found - names.begin());
    if (*(*specs)[i].gate == i) return Bad(where, "a reward can't be its own gate; name another");
  }
  for (size_t i = 0; i < specs->size(); ++i) {
    std::optional<size_t> at = (*specs)[i].gate;
    for (size_t steps = 0; at && steps < specs->size(); ++steps) at = (*specs)[*at].gate;
    if (!at) continue;
    return Bad((*specs)[i].where + ".gate",
               "leads in a circle of gates, so none of them could be decided first; leave one out");
  }
  return OkStatus();
}

Result<std::string> GateName(const json::Value& entry, const std::string& where) {
  const json::Value gate = entry.is_object() ? entry["gate"] : json::Value();
  if (!gate) return std::string();
  const std::string_view name = gate.StringOr("");
  if (name.empty()) return Bad(where + ".gate", "must be the name of another reward of the chain");
  return std::string(name);
}

}  // namespace

Result<PluginInstance> CreateEntryPlugin(Session& session, const EntrySpec& spec,
                                         std::string_view kind, retort_key key) {
  Placement placement;
  placement.isolate = spec.isolate;
  placement.timeout_ms = spec.timeout_ms.value_or(placement.timeout_ms);
  const Result<const PluginInfo*> info = session.plugins().Find(kind, spec.plugin);
  if (!info.ok()) return info.status().WithContext(spec.where);
  if (spec.timeout_ms.has_value() && !Session::Isolates(**info, placement)) {
    return Bad(spec.where + ".timeout_ms",
               "only a plugin in a worker can be stopped, and this one runs in the host's process" +
                   std::string(spec.isolate.has_value() ? "" : " (it is built in)") +
                   "; leave the key out or set \"isolate\": true");
  }
  Result<PluginInstance> instance =
      session.CreatePlugin(kind, spec.plugin, spec.config, key, placement);
  if (!instance.ok()) return instance.status().WithContext(spec.where);
  return instance;
}

Result<std::vector<EntrySpec>> ReadEntries(const json::Value& entries, std::string_view kind,
                                           std::string_view what) {
  std::vector<EntrySpec> specs;
  if (!entries || entries.is_null()) return specs;
  const bool is_list = entries.is_array();
  const size_t n = is_list ? entries.size() : 1;
  std::set<std::string> names;
  std::vector<std::string> gates;
  for (size_t i = 0; i < n; ++i) {
    std::string where(what);
    if (is_list) where += "[" + std::to_string(i) + "]";
    const json::Value entry = is_list ? entries[i] : entries;
    RETORT_ASSIGN_OR_RETURN(EntrySpec spec, ReadEntry(entry, kind, std::move(where)));
    RETORT_ASSIGN_OR_RETURN(gates.emplace_back(), GateName(entry, spec.where));
    if (!names.insert(spec.name).second && kind == "reward") {
      return Bad(spec.where,
                 "a second reward called \"" + spec.name + "\"; give each a \"name\" of its own");
    }
    specs.push_back(std::move(spec));
  }
  RETORT_RETURN_IF_ERROR(ResolveGates(gates, &specs));
  return specs;
}

}  // namespace retort::host
