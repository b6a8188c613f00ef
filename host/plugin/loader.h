// One plugin library: checked as a file, opened, and its entry table checked, before anything of
// it is used. The one place that opens plugins. What is open stays open for the process's life.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "core/base/status.h"
#include "host/plugin/library_file.h"
#include "retort/abi/entry.h"

namespace retort::host {

struct LoadedLibrary {
  std::string path;    // absolute, as asked for
  std::string hash;    // XXH3-128 of the file, hex
  std::string sha256;  // hex
  uint64_t bytes = 0;
  const retort_entry* entry = nullptr;
};

// What the bytes say before any of them runs: one export, the right major version.
Status CheckSymbols(const ElfSummary& elf, const std::string& path);

// `path` is absolute. Each failure has its own message: everything ReadLibraryFile, CheckSymbols,
// LoadNeeded and CheckEntry refuse, and the system's own text. Calls init, once per process: a
// library that was opened before (same file and bytes) is given again, or fails as it failed then.
// Any thread, several at once.
Result<LoadedLibrary> OpenLibrary(const std::string& path, Folders folders = Folders::kCheck);
// The same for bytes already taken.
Result<LoadedLibrary> OpenLibrary(LibraryFile file);

// The entry's size, versions and members. `path` is for messages.
Status CheckEntry(const retort_entry* entry, const std::string& path);
// init of a checked entry that is linked into this program, once per process; any thread.
Status InitStatic(const retort_entry& entry, const std::string& path);

}  // namespace retort::host
