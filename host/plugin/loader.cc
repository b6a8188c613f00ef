// Boost.DLL opens with RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE and never deep-bind: closing the
// handle unloads nothing. The name that it opens is that of a descriptor, /proc/self/fd/N; N stays
// open for the process's life, as glibc gives the library it knows for a name it has seen.
// SPDX-License-Identifier: Apache-2.0
#include "host/plugin/loader.h"

#include <dlfcn.h>

#include <algorithm>
#include <boost/dll/shared_library.hpp>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "host/library/guard.h"
#include "host/plugin/first_size.h"
#include "host/plugin/fp_mode.h"
#include "host/plugin/needed.h"
#include "host/plugin/running.h"

namespace retort::host {
namespace {

constexpr std::string_view kSymbol = RETORT_PLUGIN_ENTRY_SYMBOL;
// Tables grow at their end, but a later version's has some hundred bytes, not this many.
constexpr uint32_t kMaxTable = 65536;
constexpr std::string_view kSymbolStem = "retort_plugin_entry_v";

// What another major version exports, or "".
std::string OtherMajor(const std::vector<std::string>& exports) {
  for (const std::string& name : exports) {
    if (name.starts_with(kSymbolStem) && name != kSymbol) return name;
  }
  return "";
}

// A library as far as it came.
struct Handle {
  bool mapped = false;      // the system may remember its name
  void* library = nullptr;  // the system's
  const retort_entry* entry = nullptr;
};

// `place`: what the system opens; `path`: for messages.
Status OpenAndAsk(const std::string& place, const std::string& path, Handle* out) {
  const KeepFloatingPointMode keep;
  namespace dll = boost::dll;
  boost::dll::fs::error_code failed;
  const auto keep_for_life = static_cast<dll::load_mode::type>(RTLD_NODELETE);
  dll::shared_library library;
  dlerror();           // forget older texts
  out->mapped = true;  // also if an initialiser throws
  library.load(place, failed,
               dll::load_mode::rtld_now | dll::load_mode::rtld_local | keep_for_life);
  if (failed || !library.is_loaded()) {
    out->mapped = false;
    const char* text = dlerror();
    return InvalidArgument("plugin " + path + ": the system can't open it: " +
                           (text != nullptr ? text : failed.message()));
  }
  out->library = library.native();
  if (!library.has(std::string(kSymbol))) {
    return InvalidArgument("plugin " + path + ": no retort plugin, it does not export " +
                           std::string(kSymbol) + "; build it with retort_add_plugin()");
  }
  out->entry = library.get<const retort_entry*()>(std::string(kSymbol))();
  return OkStatus();
}

// The first member that is NULL and must not be, or NULL.
const char* NullMember(const retort_entry& e) {
  const std::pair<const char*, bool> members[] = {
      {"library", e.library == nullptr},   {"version", e.version == nullptr},
      {"license", e.license == nullptr},   {"build_info", e.build_info == nullptr},
      {"init", e.init == nullptr},         {"count", e.count == nullptr},
      {"describe", e.describe == nullptr}, {"create", e.create == nullptr},
      {"destroy", e.destroy == nullptr},   {"get_interface", e.get_interface == nullptr},
  };
  for (const auto& [name, is_null] : members) {
    if (is_null) return name;
  }
  return nullptr;
}

}  // namespace

Status CheckSymbols(const ElfSummary& elf, const std::string& path) {
  const bool found =
      std::find(elf.exports.begin(), elf.exports.end(), kSymbol) != elf.exports.end();
  if (!found && elf.exports.size() < ElfSummary::kMaxNames) {
    if (const std::string other = OtherMajor(elf.exports); !other.empty()) {
      return FailedPrecondition("plugin " + path + ": made for another major version of the " +
                                "plugin ABI (it exports " + other + "; this retort loads " +
                                std::string(kSymbol) + "); get a build for version 1");
    }
    return InvalidArgument("plugin " + path + ": no retort plugin, it does not export " +
                           std::string(kSymbol) + "; build it with retort_add_plugin()");
  }
  for (const std::string& name : elf.exports) {
    if (name.starts_with(kSymbolStem)) continue;
    return InvalidArgument("plugin " + path + ": exports " + std::to_string(elf.exports.size()) +
                           " symbols (" + name + " is one) where only " + std::string(kSymbol) +
                           " is allowed; build it with retort_add_plugin()");
  }
  return OkStatus();
}

Status CheckEntry(const retort_entry* entry, const std::string& path) {
  const std::string plugin = "plugin " + path + ": ";
  if (entry == nullptr) return InvalidArgument(plugin + std::string(kSymbol) + "() gave NULL");
  if (entry->struct_size < kFirstEntrySize) {
    return InvalidArgument(plugin + "its entry table has struct_size " +
                           std::to_string(entry->struct_size) + ", the first version of the ABI " +
                           "has " + std::to_string(kFirstEntrySize) +
                           "; set struct_size = sizeof(retort_entry)");
  }
  if (entry->struct_size > kMaxTable) {
    return InvalidArgument(plugin + "its entry table has struct_size " +
                           std::to_string(entry->struct_size) + ", more than any version's; " +
                           "set struct_size = sizeof(retort_entry)");
  }
  if (entry->abi_minor > RETORT_ABI_MINOR) {
    return FailedPrecondition(plugin + "needs ABI 1." + std::to_string(entry->abi_minor) +
                              ", this retort has 1." + std::to_string(RETORT_ABI_MINOR) +
                              "; update retort, or build the plugin with this version's SDK");
  }
  if (const char* member = NullMember(*entry)) {
    return InvalidArgument(plugin + "member " + member + " of its entry table is NULL");
  }
  return OkStatus();
}

namespace {

Status InitLibrary(const retort_entry& entry, const std::string& path,
                   const std::string& library_path) {
  const KeepFloatingPointMode keep;
  const retort_status status = entry.init(library_path.c_str());
  if (status == RETORT_OK) return OkStatus();
  return FailedPrecondition("plugin " + path + ": its init failed with status " +
                            std::to_string(status) + "; library " + entry.library + " " +
                            entry.version + " can't be used here");
}

// A library that the system opened, and how that went: neither can be had a second time.
struct Opened {
  std::string real_path, sha256;
  Handle handle;
  Status status;
  io::Fd copy;  // what the handle's name stands for
};

// All of this process. Never destroyed: neither are the libraries.
struct OpenedTable {
  std::mutex mutex;
  std::vector<std::unique_ptr<Opened>> all;
  std::vector<std::pair<const retort_entry*, Status>> statics;

  Opened* Find(const LibraryFile& file) {
    for (const auto& opened : all) {
      if (opened->real_path == file.real_path && opened->sha256 == file.sha256) return opened.get();
    }
    return nullptr;
  }
  const Opened* With(const void* handle) const {
    for (const auto& opened : all) {
      if (opened->handle.library == handle) return opened.get();
    }
    return nullptr;
  }
};

OpenedTable& Table() {
  static auto* table = new OpenedTable;
  return *table;
}

// Where the system finds the bytes that were hashed.
Result<std::string> PlaceOf(const LibraryFile& file) {
  if (CanExecute(file.copy)) return "/proc/self/fd/" + std::to_string(file.copy.get());
  return PlaceCopy(file);
}

Status Open(OpenedTable& table, Opened& opened, const LibraryFile& file) {
  RETORT_RETURN_IF_ERROR(LoadNeeded(file.elf, file.path));
  RETORT_ASSIGN_OR_RETURN(const std::string place, PlaceOf(file));
  RETORT_RETURN_IF_ERROR(OpenAndAsk(place, file.path, &opened.handle));
  if (const Opened* before = table.With(opened.handle.library)) {
    // One file for equal bytes, where they can't run from memory.
    if (before->sha256 == file.sha256) return before->status;
    return FailedPrecondition("plugin " + file.path + ": the system gave another library for " +
                              "it, because somebody in this process closed a descriptor of " +
                              "retort's (" + place + ")");
  }
  RETORT_RETURN_IF_ERROR(CheckEntry(opened.handle.entry, file.path));
  return InitLibrary(*opened.handle.entry, file.path, file.real_path);
}

// Opens it and keeps the outcome; keeps nothing if the system opened nothing.
Status OpenOnce(LibraryFile& file, const retort_entry** entry) {
  OpenedTable& table = Table();
  const std::lock_guard lock(table.mutex);
  Opened* opened = table.Find(file);
  if (opened != nullptr) {
    *entry = opened->handle.entry;
    return opened->status;
  }
  auto fresh = std::make_unique<Opened>();
  fresh->real_path = file.real_path;
  fresh->sha256 = file.sha256;
  const std::string label = file.path + " (while it is loaded)";
  const RunningScope running(label.c_str());
  Status status = Guard([&] { return Open(table, *fresh, file); });
  if (status.code() == Code::kInternal) {  // thrown, so without the path
    status = status.WithContext("plugin " + file.path + ": it threw while it was loaded");
  }
  if (!fresh->handle.mapped) return status;
  *entry = fresh->handle.entry;
  fresh->status = status;
  fresh->copy = std::move(file.copy);
  table.all.push_back(std::move(fresh));
  return status;
}

}  // namespace

Status InitStatic(const retort_entry& entry, const std::string& path) {
  OpenedTable& table = Table();
  const std::lock_guard lock(table.mutex);
  for (const auto& [known, status] : table.statics) {
    if (known == &entry) return status;
  }
  const RunningScope running(path.c_str());
  const std::unique_ptr<char, decltype(&std::free)> program(realpath("/proc/self/exe", nullptr),
                                                            &std::free);
  Status status =
      Guard([&] { return InitLibrary(entry, path, program == nullptr ? path : program.get()); });
  if (status.code() == Code::kInternal) {  // thrown, so without the path
    status = status.WithContext("plugin " + path + ": its init threw");
  }
  table.statics.emplace_back(&entry, status);
  return status;
}

Result<LoadedLibrary> OpenLibrary(LibraryFile file) {
  RETORT_RETURN_IF_ERROR(CheckSymbols(file.elf, file.path));
  LoadedLibrary library{file.path, file.hash, file.sha256, file.bytes};
  RETORT_RETURN_IF_ERROR(OpenOnce(file, &library.entry));
  return library;
}

Result<LoadedLibrary> OpenLibrary(const std::string& path, Folders folders) {
  RETORT_ASSIGN_OR_RETURN(LibraryFile file, ReadLibraryFile(path, folders));
  return OpenLibrary(std::move(file));
}

}  // namespace retort::host
