// plugin.list, plugin.info.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <string>
#include <vector>

#include "host/commands/command.h"
#include "host/report/table.h"

namespace retort::host {
namespace {

void WriteInfo(const PluginInfo& info, bool with_schema, json::Writer& out) {
  out.BeginObject().Field("kind", info.kind).Field("id", info.id).Field("version", info.version);
  out.Field("summary", info.summary).Field("builtin", info.builtin);
  out.Field("library", info.library).Field("license", info.license);
  out.Field("path", info.path).Field("hash", info.hash);
  if (with_schema) {
    out.Key("config_schema").Raw(info.config_schema.empty() ? "{}" : info.config_schema);
  }
  out.EndObject();
}

// "reward/format" or "format": the plugins meant.
std::vector<const PluginInfo*> Matching(const PluginRegistry& plugins, const std::string& text) {
  const size_t slash = text.find('/');
  std::vector<const PluginInfo*> found;
  for (const PluginInfo* info : plugins.List()) {
    const bool fits = slash == std::string::npos ? info->id == text
                                                 : info->kind == text.substr(0, slash) &&
                                                       info->id == text.substr(slash + 1);
    if (fits) found.push_back(info);
  }
  return found;
}

Outcome Unknown(const PluginRegistry& plugins, const std::string& text) {
  std::vector<std::string> known;
  for (const PluginInfo* info : plugins.List()) {
    known.push_back(info->id);
    known.push_back(info->kind + "/" + info->id);
  }
  const auto nearest = json::Nearest(text, known);
  return Outcome::Usage(NotFound("no plugin \"" + text + "\"" +
                                 (nearest ? "; did you mean \"" + *nearest + "\"?" : "") +
                                 " `retort plugin list` names all; --plugin FILE loads another"));
}

std::string KindsOf(const std::vector<const PluginInfo*>& plugins) {
  std::string text;
  for (const PluginInfo* info : plugins) {
    text += (text.empty() ? "" : ", ") + info->kind + "/" + info->id;
  }
  return text;
}

std::string DefaultOf(const json::Value& property, bool required) {
  const json::Value value = property["default"];
  return value ? value.Dump() : required ? "(required)" : "";
}

std::string MeaningOf(const json::Value& property) {
  std::string text(property["description"].StringOr("")), limits;
  const auto add = [&limits](const char* words, const json::Value& value) {
    if (value) limits += (limits.empty() ? "" : ", ") + std::string(words) + value.Dump();
  };
  add("one of ", property["enum"]);
  add("at least ", property["minimum"]);
  add("at most ", property["maximum"]);
  return limits.empty() ? text : text + " (" + limits + ")";
}

Result<std::string> ConfigTable(const PluginInfo& info) {
  if (info.config_schema.empty()) return std::string("It takes no config.\n");
  RETORT_ASSIGN_OR_RETURN(const json::Document schema,
                          json::Document::Parse(info.config_schema, "config schema of " + info.id));
  const json::Value properties = schema.root()["properties"];
  if (properties.size() == 0) return std::string("It takes no config.\n");
  Table table({{"config key"}, {"type"}, {"default"}, {"meaning"}});
  for (size_t i = 0; i < properties.size(); ++i) {
    const std::string key(properties.key_at(i));
    bool required = false;
    const json::Value list = schema.root()["required"];
    for (size_t r = 0; r < list.size(); ++r) required = required || list[r].StringOr("") == key;
    const json::Value property = properties.value_at(i);
    const json::Value type = property["type"];
    table.AddRow({key,
                  type.is_string() ? std::string(type.StringOr(""))
                  : type           ? type.Dump()
                                   : "",
                  DefaultOf(property, required), MeaningOf(property)});
  }
  return table.Render();
}

}  // namespace

Outcome RunPluginList(const CommandCall& call) {
  RETORT_RETURN_IF_ERROR(call.session.EnsurePlugins());
  const std::string kind = call.args.Text("kind");
  const bool json = call.args.Flag("json");
  std::vector<std::string> kinds;
  Table table({{"kind"}, {"id"}, {"version"}, {"from"}, {"summary"}});
  for (const PluginInfo* info : call.session.plugins().List()) {
    kinds.push_back(info->kind);
    if (!kind.empty() && info->kind != kind) continue;
    if (json) {
      json::Writer out;
      WriteInfo(*info, /*with_schema=*/false, out);
      RETORT_RETURN_IF_ERROR(call.io.Line(out.text()));
      continue;
    }
    table.AddRow({info->kind, info->id, info->version, info->builtin ? "built in" : info->path,
                  info->summary});
  }
  if (!kind.empty() && std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) {
    const auto nearest = json::Nearest(kind, kinds);
    return Outcome::Usage("no plugin of kind \"" + kind + "\"" +
                          (nearest ? "; did you mean \"" + *nearest + "\"?" : ""));
  }
  return json ? OkStatus() : call.io.Lines(table.Render());
}

Outcome RunPluginInfo(const CommandCall& call) {
  RETORT_RETURN_IF_ERROR(call.session.EnsurePlugins());
  const std::string id = call.args.Text("id");
  const std::vector<const PluginInfo*> found = Matching(call.session.plugins(), id);
  if (found.empty()) return Unknown(call.session.plugins(), id);
  if (found.size() > 1) {
    return Outcome::Usage("\"" + id + "\" is the id of several plugins: " + KindsOf(found));
  }
  const PluginInfo& info = *found[0];
  if (call.args.Flag("json")) {
    json::Writer out;
    WriteInfo(info, /*with_schema=*/true, out);
    return call.io.Line(out.text());
  }
  RETORT_ASSIGN_OR_RETURN(const std::string config, ConfigTable(info));
  return call.io.Lines(info.kind + "/" + info.id + " " + info.version + "\n" + info.summary +
                       "\n\nlibrary  " + info.library + " (" + info.license + ")" +
                       (info.builtin ? ", built in" : "") + "\nfile     " + info.path +
                       "\nhash     " + info.hash + "\n\n" + config);
}

}  // namespace retort::host
