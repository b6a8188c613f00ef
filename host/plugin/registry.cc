// SPDX-License-Identifier: Apache-2.0
#include "host/plugin/registry.h"

#include <algorithm>
#include <deque>
#include <utility>

#include "core/base/hash.h"
#include "core/base/plugin_call.h"
#include "core/io/filesystem.h"
#include "core/json/json.h"
#include "core/json/schema.h"
#include "host/library/guard.h"
#include "host/plugin/checked.h"
#include "host/plugin/description.h"
#include "host/plugin/entry_description.h"
#include "host/plugin/host_services.h"
#include "host/plugin/loader.h"
#include "host/plugin/lock.h"
#include "host/plugin/process_watch.h"
#include "host/plugin/running.h"

namespace retort::host {
namespace {

std::string JoinWords(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ", ") + word;
  return out.empty() ? "none" : out;
}

// A message about `path` that says what a description breaks.
Status CheckSame(const std::string& path, const std::string& found, const std::string& expected) {
  if (found == expected) return OkStatus();
  return FailedPrecondition("plugin " + path +
                            ": the file changed while it was in use: its "
                            "SHA-256 is " +
                            found + ", was " + expected + "; start again");
}

}  // namespace

struct PluginRegistry::Impl {
  // A library, opened or only described.
  struct Library {
    std::string path, sha256;
    const retort_entry* entry = nullptr;  // NULL: not opened in this process yet
  };
  struct Plugin {
    PluginInfo info;
    Library* library = nullptr;
  };
  std::deque<Library> libraries;     // addresses stay
  retort_host host = *PluginHost();  // with the names of SetHost
  std::string host_name, host_version;
  std::deque<Plugin> plugins;  // likewise
  LoadPolicy policy;
  Describer describer;

  Plugin* Find(std::string_view kind, std::string_view id) {
    const auto found = std::find_if(plugins.begin(), plugins.end(), [&](const Plugin& p) {
      return p.info.kind == kind && p.info.id == id;
    });
    return found == plugins.end() ? nullptr : &*found;
  }
  const Library* Known(const std::string& path) const {
    const auto found = std::find_if(libraries.begin(), libraries.end(),
                                    [&](const Library& library) { return library.path == path; });
    return found == libraries.end() ? nullptr : &*found;
  }
  std::vector<std::string> IdsOf(std::string_view kind) const {
    std::vector<std::string> ids;
    for (const Plugin& p : plugins) {
      if (p.info.kind == kind) ids.push_back(p.info.id);
    }
    std::sort(ids.begin(), ids.end());
    return ids;
  }
  Status CheckPolicy(const std::string& path) const;
  Status CheckLocks(const std::string& path, const std::string& sha256,
                    const std::string& lock_file) const;
  Result<LibraryDescription> DescribeElsewhere(const LibraryFile& file) const;
  Status List(const LibraryDescription& description, bool builtin, const retort_entry* entry);
  Status LoadHere(LibraryFile file, bool builtin);
  Status CheckUnique(const PluginInfo& plugin);
  Status OpenHere(Library& library) const;
};

Status PluginRegistry::Impl::CheckPolicy(const std::string& path) const {
  if (!policy.builtins_only) return OkStatus();
  return {Code::kPermissionDenied,
          "plugin " + path + ": only built-in plugins may be loaded here; the program that uses " +
              "retort decided so"};
}

Status PluginRegistry::Impl::CheckLocks(const std::string& path, const std::string& sha256,
                                        const std::string& lock_file) const {
  for (const std::string& name : {policy.lock_file, lock_file}) {
    if (name.empty()) continue;
    RETORT_ASSIGN_OR_RETURN(const LockFile lock, LockFile::Read(name));
    RETORT_RETURN_IF_ERROR(lock.Check(path, sha256));
  }
  return OkStatus();
}

// What the describer found, if it found it of the bytes that were checked here.
Result<LibraryDescription> PluginRegistry::Impl::DescribeElsewhere(const LibraryFile& file) const {
  RETORT_RETURN_IF_ERROR(CheckSymbols(file.elf, file.path));
  RETORT_ASSIGN_OR_RETURN(LibraryDescription description, describer(file.path));
  RETORT_RETURN_IF_ERROR(CheckSame(file.path, description.sha256, file.sha256));
  description.path = file.path;
  description.hash = file.hash;
  description.bytes = file.bytes;
  RETORT_RETURN_IF_ERROR(CheckDescription(description));
  return description;
}

Status PluginRegistry::Impl::CheckUnique(const PluginInfo& info) {
  const Plugin* first = Find(info.kind, info.id);
  if (first == nullptr) return OkStatus();
  return AlreadyExists("plugin " + info.path + ": " + info.kind + " " + info.id +
                       " is already there, from " + first->info.path +
                       "; ids are unique per kind: leave one of the two out");
}

// All of the library's plugins, or none.
Status PluginRegistry::Impl::List(const LibraryDescription& description, bool builtin,
                                  const retort_entry* entry) {
  for (const PluginInfo& info : description.plugins) RETORT_RETURN_IF_ERROR(CheckUnique(info));
  Library& library = libraries.emplace_back(Library{description.path, description.sha256, entry});
  for (const PluginInfo& info : description.plugins) {
    Plugin& plugin = plugins.emplace_back(Plugin{info, &library});
    plugin.info.builtin = builtin;
    plugin.info.path = description.path;
    plugin.info.hash = description.hash;
    plugin.info.sha256 = description.sha256;
  }
  return OkStatus();
}

Status PluginRegistry::Impl::LoadHere(LibraryFile file, bool builtin) {
  RETORT_ASSIGN_OR_RETURN(const LoadedLibrary library, OpenLibrary(std::move(file)));
  RETORT_ASSIGN_OR_RETURN(const LibraryDescription description,
                          DescribeEntry(*library.entry, DescriptionOf(library)));
  return List(description, builtin, library.entry);
}

// A library that was only described so far. The bytes must be those that were described.
Status PluginRegistry::Impl::OpenHere(Library& library) const {
  if (library.entry != nullptr) return OkStatus();
  RETORT_ASSIGN_OR_RETURN(LibraryFile file, ReadLibraryFile(library.path, Folders::kCheck));
  RETORT_RETURN_IF_ERROR(CheckSame(library.path, file.sha256, library.sha256));
  RETORT_ASSIGN_OR_RETURN(const LoadedLibrary loaded, OpenLibrary(std::move(file)));
  library.entry = loaded.entry;
  return OkStatus();
}

PluginRegistry::PluginRegistry() : impl_(std::make_unique<Impl>()) {}
PluginRegistry::~PluginRegistry() = default;

Status PluginRegistry::LoadBuiltins(const std::string& dir) {
  const bool alone = dir.ends_with(".so");  // one file instead of all
  const std::string folder = io::Absolute(alone ? io::Parent(dir) : dir);
  Result<std::vector<std::string>> names = std::vector{io::BaseName(dir)};
  if (!alone) names = io::RealFileSystem().List(folder);
  if (!names.ok()) {
    return names.status().WithContext("the folder of the built-in plugins");
  }
  for (const std::string& name : *names) {
    if (!name.ends_with(".so")) continue;
    const std::string path = io::Join(folder, name);
    if (impl_->Known(path) != nullptr) continue;
    RETORT_ASSIGN_OR_RETURN(LibraryFile file, ReadLibraryFile(path, Folders::kTrust));
    RETORT_RETURN_IF_ERROR(impl_->LoadHere(std::move(file), /*builtin=*/true));
  }
  return OkStatus();
}

Status PluginRegistry::LoadFile(const std::string& path, const std::string& lock_file) {
  if (path.empty()) return InvalidArgument("plugin \"\": the path is empty; name a built .so");
  const std::string absolute = io::Absolute(path);
  if (const Impl::Library* known = impl_->Known(absolute)) {
    return impl_->CheckLocks(absolute, known->sha256, lock_file);
  }
  RETORT_RETURN_IF_ERROR(impl_->CheckPolicy(absolute));
  RETORT_ASSIGN_OR_RETURN(LibraryFile file, ReadLibraryFile(absolute, Folders::kCheck));
  RETORT_RETURN_IF_ERROR(impl_->CheckLocks(absolute, file.sha256, lock_file));
  if (!impl_->describer) return impl_->LoadHere(std::move(file), /*builtin=*/false);
  RETORT_ASSIGN_OR_RETURN(const LibraryDescription description, impl_->DescribeElsewhere(file));
  return impl_->List(description, /*builtin=*/false, /*entry=*/nullptr);
}

Result<LibraryDescription> PluginRegistry::Describe(const std::string& path) const {
  if (path.empty()) return InvalidArgument("plugin \"\": the path is empty; name a built .so");
  const std::string absolute = io::Absolute(path);
  if (!impl_->describer) return DescribeLibrary(absolute);
  RETORT_ASSIGN_OR_RETURN(const LibraryFile file, ReadLibraryFile(absolute, Folders::kCheck));
  return impl_->DescribeElsewhere(file);
}

Status PluginRegistry::AddStatic(const retort_entry* entry, const std::string& name) {
  LibraryDescription description;
  description.path = "(static) " + name;
  if (impl_->Known(description.path) != nullptr) return OkStatus();
  RETORT_RETURN_IF_ERROR(CheckEntry(entry, description.path));
  RETORT_RETURN_IF_ERROR(InitStatic(*entry, description.path));
  // There is no file: what a resumed run compares is what the library says of itself.
  description.hash =
      HashHex(std::string(entry->library) + '\n' + entry->version + '\n' + entry->build_info);
  RETORT_ASSIGN_OR_RETURN(description, DescribeEntry(*entry, std::move(description)));
  return impl_->List(description, /*builtin=*/false, entry);
}

void PluginRegistry::SetPolicy(LoadPolicy policy) { impl_->policy = std::move(policy); }
void PluginRegistry::SetHost(std::string name, std::string version) {
  if (!name.empty()) {
    impl_->host_name = std::move(name);
    impl_->host.name = impl_->host_name.c_str();
  }
  if (version.empty()) return;
  impl_->host_version = std::move(version);
  impl_->host.version = impl_->host_version.c_str();
}
const LoadPolicy& PluginRegistry::policy() const { return impl_->policy; }
void PluginRegistry::SetDescriber(Describer describer) { impl_->describer = std::move(describer); }

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
  RETORT_RETURN_IF_ERROR(impl_->OpenHere(*plugin.library));
  const retort_entry* entry = plugin.library->entry;
  const std::string name = info->kind + " " + info->id;
  const std::string label = name + " (" + info->path + ")";
  PluginCall call(name);
  retort_instance* inner = nullptr;
  retort_status status = RETORT_OK;
  Status left;  // what it left behind in the process
  const auto create = [&]() -> Status {
    const RunningScope running(label.c_str());
    ProcessWatch watch(WatchFor(info->kind, info->builtin));
    status = entry->create(&impl_->host, call.Begin({.key = key}), info->kind.c_str(),
                           info->id.c_str(), ToStr(config), &inner);
    left = watch.Finish();
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
  RETORT_ASSIGN_OR_RETURN(PluginInstance instance, Adopt(info, entry, inner));
  if (!left.ok()) return left.WithContext(name + ": create");  // the instance is destroyed
  instance.checked_->watch = WatchFor(info->kind, info->builtin);
  return instance;
}

Result<PluginInstance> PluginRegistry::Adopt(const PluginInfo* info, const retort_entry* entry,
                                             retort_instance* inner) const {
  const std::string label = info->kind + " " + info->id + " (" + info->path + ")";
  const RunningScope running(label.c_str());
  Result<std::unique_ptr<CheckedInstance>> checked = Wrap(entry, inner, info->kind);
  if (!checked.ok()) return checked.status().WithContext(label);
  (*checked)->label = label;
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
