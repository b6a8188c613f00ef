// SPDX-License-Identifier: Apache-2.0
#include "host/plugin/registry.h"

#include <algorithm>
#include <array>
#include <deque>
#include <utility>

#include "core/base/plugin_call.h"
#include "core/io/filesystem.h"
#include "core/json/json.h"
#include "core/json/schema.h"
#include "host/library/guard.h"
#include "host/plugin/checked.h"
#include "host/plugin/host_services.h"
#include "host/plugin/loader.h"

namespace retort::host {
namespace {

constexpr std::array<std::string_view, 8> kKinds = {
    RETORT_KIND_FAMILY, RETORT_KIND_OP,     RETORT_KIND_LOSS,   RETORT_KIND_OPTIMIZER,
    RETORT_KIND_REWARD, RETORT_KIND_FILTER, RETORT_KIND_SOURCE, RETORT_KIND_GENERATOR};
constexpr uint32_t kMaxPluginsPerLibrary = 1000;

std::string JoinWords(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ", ") + word;
  return out.empty() ? "none" : out;
}

bool IsId(std::string_view id) {
  const auto is_lower = [](char c) { return c >= 'a' && c <= 'z'; };
  return !id.empty() && is_lower(id.front()) && std::all_of(id.begin(), id.end(), [&](char c) {
    return is_lower(c) || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
  });
}

// The first rule that a descriptor breaks, or OK.
Status CheckDescriptor(const retort_descriptor* d) {
  if (d == nullptr) return InvalidArgument("describe gave NULL");
  if (d->struct_size < sizeof(retort_descriptor)) {
    return InvalidArgument("its descriptor has struct_size " + std::to_string(d->struct_size) +
                           ", expected at least " + std::to_string(sizeof(retort_descriptor)));
  }
  if (d->kind == nullptr || d->id == nullptr || d->version == nullptr || d->summary == nullptr) {
    return InvalidArgument("its descriptor lacks kind, id, version or summary");
  }
  if (std::find(kKinds.begin(), kKinds.end(), d->kind) == kKinds.end()) {
    return Unimplemented(std::string("kind \"") + d->kind + "\" is not known");
  }
  if (!IsId(d->id)) {
    return InvalidArgument(
        std::string("id \"") + d->id +
        "\" is not of lower-case letters, digits, '_', '-', '.', first a letter");
  }
  if (d->config_schema == nullptr) return OkStatus();
  return json::CheckSchema(d->config_schema)
      .WithContext(std::string(d->kind) + " " + d->id + ": its config schema");
}

}  // namespace

struct PluginRegistry::Impl {
  struct Plugin {
    PluginInfo info;
    const retort_entry* entry = nullptr;
  };
  std::deque<Plugin> plugins;  // addresses stay
  std::vector<std::string> paths;

  const Plugin* Find(std::string_view kind, std::string_view id) const {
    const auto found = std::find_if(plugins.begin(), plugins.end(), [&](const Plugin& p) {
      return p.info.kind == kind && p.info.id == id;
    });
    return found == plugins.end() ? nullptr : &*found;
  }
  std::vector<std::string> IdsOf(std::string_view kind) const {
    std::vector<std::string> ids;
    for (const Plugin& p : plugins) {
      if (p.info.kind == kind) ids.push_back(p.info.id);
    }
    std::sort(ids.begin(), ids.end());
    return ids;
  }
  Status Load(const std::string& path, bool builtin);
  Result<Plugin> Describe(const LoadedLibrary& library, uint32_t index, bool builtin) const;
  Status CheckUnique(const Plugin& plugin, const std::vector<Plugin>& beside) const;
};

Result<PluginRegistry::Impl::Plugin> PluginRegistry::Impl::Describe(const LoadedLibrary& library,
                                                                    uint32_t index,
                                                                    bool builtin) const {
  const retort_descriptor* d = library.entry->describe(index);
  RETORT_RETURN_IF_ERROR(CheckDescriptor(d).WithContext("plugin " + library.path + ": number " +
                                                        std::to_string(index)));
  return Plugin{.info = {.kind = d->kind,
                         .id = d->id,
                         .version = d->version,
                         .summary = d->summary,
                         .config_schema = d->config_schema == nullptr
                                              ? R"({"type": "object", "properties": {}})"
                                              : d->config_schema,
                         .library = library.entry->library,
                         .license = library.entry->license,
                         .path = library.path,
                         .hash = library.hash,
                         .builtin = builtin,
                         .flags = d->flags},
                .entry = library.entry};
}

Status PluginRegistry::Impl::CheckUnique(const Plugin& plugin,
                                         const std::vector<Plugin>& beside) const {
  const auto same = [&](const Plugin& other) {
    return other.info.kind == plugin.info.kind && other.info.id == plugin.info.id;
  };
  const Plugin* first = Find(plugin.info.kind, plugin.info.id);
  if (const auto it = std::find_if(beside.begin(), beside.end(), same); it != beside.end()) {
    first = &*it;
  }
  if (first == nullptr) return OkStatus();
  return AlreadyExists("plugin " + plugin.info.path + ": " + plugin.info.kind + " " +
                       plugin.info.id + " is already there, from " + first->info.path +
                       "; ids are unique per kind: leave one of the two out");
}

Status PluginRegistry::Impl::Load(const std::string& path, bool builtin) {
  if (std::find(paths.begin(), paths.end(), path) != paths.end()) return OkStatus();
  RETORT_ASSIGN_OR_RETURN(const LoadedLibrary library, OpenLibrary(path));
  std::vector<Plugin> found;
  const auto describe_all = [&]() -> Status {
    const uint32_t n = library.entry->count();
    if (n == 0 || n > kMaxPluginsPerLibrary) {
      return InvalidArgument("plugin " + path + ": says that it holds " + std::to_string(n) +
                             " plugins, must be 1 to " + std::to_string(kMaxPluginsPerLibrary));
    }
    for (uint32_t i = 0; i < n; ++i) {
      RETORT_ASSIGN_OR_RETURN(Plugin plugin, Describe(library, i, builtin));
      RETORT_RETURN_IF_ERROR(CheckUnique(plugin, found));
      found.push_back(std::move(plugin));
    }
    return OkStatus();
  };
  RETORT_RETURN_IF_ERROR(Guard(describe_all));
  std::move(found.begin(), found.end(), std::back_inserter(plugins));
  paths.push_back(path);
  return OkStatus();
}

PluginRegistry::PluginRegistry() : impl_(std::make_unique<Impl>()) {}
PluginRegistry::~PluginRegistry() = default;

Status PluginRegistry::LoadBuiltins(const std::string& dir) {
  const std::string folder = io::Absolute(dir);
  const Result<std::vector<std::string>> names = io::RealFileSystem().List(folder);
  if (!names.ok()) {
    return names.status().WithContext("the folder of the built-in plugins");
  }
  for (const std::string& name : *names) {
    if (!name.ends_with(".so")) continue;
    RETORT_RETURN_IF_ERROR(impl_->Load(io::Join(folder, name), /*builtin=*/true));
  }
  return OkStatus();
}

Status PluginRegistry::LoadFile(const std::string& path) {
  if (path.empty()) return InvalidArgument("plugin \"\": the path is empty; name a built .so");
  return impl_->Load(io::Absolute(path), /*builtin=*/false);
}

std::vector<const PluginInfo*> PluginRegistry::List() const {
  std::vector<const PluginInfo*> list;
  for (const Impl::Plugin& p : impl_->plugins) list.push_back(&p.info);
  std::sort(list.begin(), list.end(), [](const PluginInfo* a, const PluginInfo* b) {
    return std::pair(a->kind, a->id) < std::pair(b->kind, b->id);
  });
  return list;
}

Result<const PluginInfo*> PluginRegistry::Find(std::string_view kind, std::string_view id) const {
  if (const Impl::Plugin* plugin = impl_->Find(kind, id)) return &plugin->info;
  const std::vector<std::string> known = impl_->IdsOf(kind);
  const std::optional<std::string> nearest = json::Nearest(id, known);
  return NotFound("no " + std::string(kind) + " plugin \"" + std::string(id) + "\"" +
                  (nearest ? ", did you mean \"" + *nearest + "\"?" : ".") +
                  " There are: " + JoinWords(known) +
                  ". Load others with --plugin FILE.so or the pipeline's \"plugins\"");
}

Result<std::string> PluginRegistry::ResolveConfig(const PluginInfo& info,
                                                  std::string_view config_json) const {
  return json::ResolveConfig(info.config_schema, config_json);
}

Result<PluginInstance> PluginRegistry::Create(std::string_view kind, std::string_view id,
                                              std::string_view config_json, retort_key key) const {
  RETORT_ASSIGN_OR_RETURN(const PluginInfo* info, Find(kind, id));
  RETORT_ASSIGN_OR_RETURN(const std::string config, ResolveConfig(*info, config_json));
  const Impl::Plugin& plugin = *impl_->Find(kind, id);
  const std::string name = info->kind + " " + info->id;
  PluginCall call(name);
  retort_instance* inner = nullptr;
  retort_status status = RETORT_OK;
  const auto create = [&]() -> Status {
    status = plugin.entry->create(PluginHost(), call.Begin({.key = key}), info->kind.c_str(),
                                  info->id.c_str(), ToStr(config), &inner);
    return OkStatus();
  };
  RETORT_RETURN_IF_ERROR(
      Guard(create).WithContext(name + ": create threw an exception across the C edge"));
  if (status != RETORT_OK) {
    // A config error begins with the JSON pointer of its key, so nothing goes before it.
    const bool is_config = status == RETORT_INVALID_ARGUMENT && !call.error_text().empty();
    if (is_config) return InvalidArgument(std::string(call.error_text()));
    return call.End(status, "create");
  }
  if (inner == nullptr) return Internal(name + ": create succeeded without an instance");
  return Adopt(info, plugin.entry, inner);
}

Result<PluginInstance> PluginRegistry::Adopt(const PluginInfo* info, const retort_entry* entry,
                                             retort_instance* inner) const {
  Result<std::unique_ptr<CheckedInstance>> checked = Wrap(entry, inner, info->kind);
  if (!checked.ok()) {
    return checked.status().WithContext(info->kind + " " + info->id + " (" + info->path + ")");
  }
  PluginInstance instance;
  instance.checked_ = std::move(checked).value();
  instance.info_ = info;
  return instance;
}

PluginInstance::PluginInstance() = default;
PluginInstance::PluginInstance(PluginInstance&&) noexcept = default;
PluginInstance& PluginInstance::operator=(PluginInstance&&) noexcept = default;
PluginInstance::~PluginInstance() = default;

retort_instance* PluginInstance::get() const { return checked_ ? checked_->handle() : nullptr; }

const void* PluginInstance::interface(const char* id) const {
  return checked_ ? FindTable(*checked_, id) : nullptr;
}

}  // namespace retort::host
