// Plugins as the host knows them: found, verified, loaded, listed by kind and id, instantiated
// with a validated config. Never unloaded. One registry per context; a registry is used by one
// thread at a time, several registries by several threads.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "retort/abi/entry.h"

namespace retort::host {

struct PluginInfo {
  std::string kind, id, version, summary, config_schema;
  std::string library, license, path, hash;  // hash: XXH3-128 of the file, hex
  std::string sha256;  // likewise; whoever opens the file anew (a worker) compares
  bool builtin = false;
  uint32_t flags = 0;  // of the descriptor
};

struct CheckedInstance;

// What may be loaded, and where it is looked at first. Applies to libraries that are not built in.
struct LoadPolicy {
  // A plugins.lock (docs/plugins.md): libraries that it doesn't list, or that have another hash,
  // are refused. "": none.
  std::string lock_file;
  bool builtins_only = false;  // every other library is refused
};

// What a library says about itself, by whoever asked it: this process, or a worker. A worker sends
// what DescribeLibrary gives it (host/plugin/description.h: as JSON and back).
struct LibraryDescription {
  std::string path, hash;        // hash: XXH3-128 of the file, hex
  std::string sha256;            // of the file, hex; of the bytes that were opened
  std::string library, version;  // of the entry table
  uint32_t abi_major = 0, abi_minor = 0;
  uint64_t bytes = 0;               // size of the file
  std::vector<PluginInfo> plugins;  // checked: ids, kinds, schemas
};

// A live plugin instance; destroyed with the handle. Move-only. get() and the tables belong
// together: both are the host's checked wrapper around the plugin's own. Must not outlive the
// registry.
class PluginInstance {
 public:
  PluginInstance();
  PluginInstance(PluginInstance&&) noexcept;
  PluginInstance& operator=(PluginInstance&&) noexcept;
  ~PluginInstance();

  explicit operator bool() const { return checked_ != nullptr; }
  retort_instance* get() const;
  const PluginInfo& info() const { return *info_; }
  std::string name() const { return info_->kind + " " + info_->id; }  // "reward format"
  // The interface's table through the host's checked wrapper, or NULL if it has none. Known ids
  // are in the headers, e.g. RETORT_REWARD_INTERFACE.
  const void* interface(const char* id) const;

 private:
  friend class PluginRegistry;
  std::unique_ptr<CheckedInstance> checked_;
  const PluginInfo* info_ = nullptr;
};

class PluginRegistry {
 public:
  PluginRegistry();
  ~PluginRegistry();

  // Every library (*.so) in `dir`, sorted by name (built-ins: beside libretort), or the one that it
  // names. The first bad one fails it.
  Status LoadBuiltins(const std::string& dir);
  // One file, absolute or relative to the current folder; loading it twice is no error. On
  // failure nothing of the file is listed. `lock_file` ("": none) binds this file as the policy's
  // does, beside it: a pipeline's own plugins.lock.
  Status LoadFile(const std::string& path, const std::string& lock_file = "");
  // What a file holds, without listing it; by the describer if one is set. No lock is asked.
  Result<LibraryDescription> Describe(const std::string& path) const;

  // Plugins linked into the program: the table behind `<library>_retort_plugin_entry_v1`. The same
  // checks as for a file; `name` stands for the path in messages.
  Status AddStatic(const retort_entry* entry, const std::string& name);
  // What plugins made from now on see as retort_host.name and .version; "": retort's own.
  void SetHost(std::string name, std::string version);
  // Counts for every later LoadFile.
  void SetPolicy(LoadPolicy policy);
  const LoadPolicy& policy() const;
  // Asks a library what it holds without mapping it into this process. Set: LoadFile uses it, and
  // the library is opened here only when an instance is created here; then it must have the same
  // SHA-256. Not for built-ins.
  using Describer = std::function<Result<LibraryDescription>(const std::string& path)>;
  void SetDescriber(Describer describer);
  // An instance that another entry table made and stands for the plugin `info` (a worker's proxy),
  // under the same checks as any other. On failure it is destroyed.
  Result<PluginInstance> Adopt(const PluginInfo* info, const retort_entry* entry,
                               retort_instance* instance) const;

  std::vector<const PluginInfo*> List() const;  // sorted by kind, then id
  // NOT_FOUND names the nearest known id of that kind, and says how to add a plugin.
  Result<const PluginInfo*> Find(std::string_view kind, std::string_view id) const;
  // Validates config_json ("" = {}) against the schema (defaults filled), then creates. A config
  // error is INVALID_ARGUMENT and begins with the JSON pointer of the key.
  Result<PluginInstance> Create(std::string_view kind, std::string_view id,
                                std::string_view config_json, retort_key key) const;
  // The config with defaults filled, as it is handed to the plugin; the same errors.
  Result<std::string> ResolveConfig(const PluginInfo& info, std::string_view config_json) const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace retort::host
