// Boost.DLL opens with RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE and never deep-bind: closing the
// handle unloads nothing. The floating-point environment is restored afterwards: a library linked
// with -ffast-math sets flush-to-zero for the whole thread when it is mapped.
// SPDX-License-Identifier: Apache-2.0
#include "host/plugin/loader.h"

#include <dlfcn.h>
#include <sys/stat.h>

#include <algorithm>
#include <boost/dll/shared_library.hpp>
#include <cerrno>
#include <cfenv>
#include <cstddef>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "core/io/filesystem.h"
#include "host/library/guard.h"
#include "host/plugin/elf_file.h"

namespace retort::host {
namespace {

constexpr std::string_view kSymbol = RETORT_PLUGIN_ENTRY_SYMBOL;
constexpr std::string_view kSymbolStem = "retort_plugin_entry_v";

class KeepFloatingPointMode {
 public:
  KeepFloatingPointMode() { std::fegetenv(&environment_); }
  ~KeepFloatingPointMode() { std::fesetenv(&environment_); }
  KeepFloatingPointMode(const KeepFloatingPointMode&) = delete;
  KeepFloatingPointMode& operator=(const KeepFloatingPointMode&) = delete;

 private:
  std::fenv_t environment_;
};

Status CheckFile(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) {
    const int error = errno;
    return NotFound("plugin " + path + ": " + std::strerror(error) +
                    "; check the path (relative ones start at the current folder, in a pipeline "
                    "file at its folder)");
  }
  if (!S_ISREG(info.st_mode)) {
    return InvalidArgument("plugin " + path + ": not a regular file; name the .so itself");
  }
  if ((info.st_mode & S_IWOTH) != 0) {
    return {Code::kPermissionDenied,
            "plugin " + path + ": anybody on this machine may write to it, so it is not loaded; " +
                "run chmod o-w on it"};
  }
  return OkStatus();
}

bool IsLibTorch(std::string_view needed) {
  return needed.starts_with("libtorch") || needed.starts_with("libc10");
}

// What another major version exports, or "".
std::string OtherMajor(const std::vector<std::string>& exports) {
  for (const std::string& name : exports) {
    if (name.starts_with(kSymbolStem) && name != kSymbol) return name;
  }
  return "";
}

Status CheckSymbols(const ElfSummary& elf, const std::string& path) {
  if (!elf.has_sections) return OkStatus();  // the system's loader will tell
  const bool found =
      std::find(elf.exports.begin(), elf.exports.end(), kSymbol) != elf.exports.end();
  if (!found) {
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
  for (const std::string& needed : elf.needed) {
    if (IsLibTorch(needed)) {
      return InvalidArgument("plugin " + path + ": is linked against " + needed +
                             "; plugins get plain tensors and must not bring LibTorch");
    }
  }
  return OkStatus();
}

Result<const retort_entry*> OpenAndAsk(const std::string& path) {
  const KeepFloatingPointMode keep;
  namespace dll = boost::dll;
  boost::dll::fs::error_code failed;
  const auto keep_for_life = static_cast<dll::load_mode::type>(RTLD_NODELETE);
  dll::shared_library library;
  dlerror();  // forget older texts
  library.load(path, failed, dll::load_mode::rtld_now | dll::load_mode::rtld_local | keep_for_life);
  if (failed || !library.is_loaded()) {
    const char* text = dlerror();
    return InvalidArgument("plugin " + path + ": the system can't open it: " +
                           (text != nullptr ? text : failed.message()));
  }
  if (!library.has(std::string(kSymbol))) {
    return InvalidArgument("plugin " + path + ": no retort plugin, it does not export " +
                           std::string(kSymbol) + "; build it with retort_add_plugin()");
  }
  const auto ask = library.get<const retort_entry*()>(std::string(kSymbol));
  return ask();
}

Status Init(const retort_entry& entry, const std::string& path) {
  const KeepFloatingPointMode keep;
  const retort_status status = entry.init(path.c_str());
  if (status == RETORT_OK) return OkStatus();
  return FailedPrecondition("plugin " + path + ": its init failed with status " +
                            std::to_string(status) + "; library " + entry.library + " " +
                            entry.version + " can't be used here");
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

Status CheckEntry(const retort_entry* entry, const std::string& path) {
  const std::string plugin = "plugin " + path + ": ";
  if (entry == nullptr) return InvalidArgument(plugin + std::string(kSymbol) + "() gave NULL");
  if (entry->struct_size < sizeof(retort_entry)) {
    return InvalidArgument(plugin + "its entry table has struct_size " +
                           std::to_string(entry->struct_size) + ", the first version of the ABI " +
                           "has " + std::to_string(sizeof(retort_entry)) +
                           "; set struct_size = sizeof(retort_entry)");
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

Result<LoadedLibrary> OpenLibrary(const std::string& path) {
  RETORT_RETURN_IF_ERROR(CheckFile(path));
  RETORT_ASSIGN_OR_RETURN(const io::MappedFile file, io::MappedFile::Open(path));
  RETORT_ASSIGN_OR_RETURN(const ElfSummary elf, ReadElf(file.bytes(), path));
  RETORT_RETURN_IF_ERROR(CheckSymbols(elf, path));
  LoadedLibrary library{.path = path, .hash = HashHex(file.bytes())};
  const auto load = [&]() -> Status {
    RETORT_ASSIGN_OR_RETURN(library.entry, OpenAndAsk(path));
    RETORT_RETURN_IF_ERROR(CheckEntry(library.entry, path));
    return Init(*library.entry, path);
  };
  const Status status = Guard(load);
  if (status.ok()) return library;
  if (status.code() == Code::kInternal) {  // thrown, so without the path
    return status.WithContext("plugin " + path + ": it threw while it was loaded");
  }
  return status;
}

}  // namespace retort::host
