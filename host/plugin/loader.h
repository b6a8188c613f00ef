// One plugin library: checked as a file, opened, and its entry table checked, before anything of
// it is used. The one place that opens plugins. What is open stays open for the process's life.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/base/status.h"
#include "retort/abi/entry.h"

namespace retort::host {

struct LoadedLibrary {
  std::string path;  // absolute
  std::string hash;  // XXH3-128 of the file, hex
  const retort_entry* entry = nullptr;
};

// `path` is absolute. Each failure has its own message: no such file, world-writable, not ELF,
// another machine, no entry symbol, another major version, more exports than one, LibTorch among
// the needed libraries, the system's own text, and everything CheckEntry refuses. Calls init.
Result<LoadedLibrary> OpenLibrary(const std::string& path);

// The entry's size, versions and members. `path` is for messages.
Status CheckEntry(const retort_entry* entry, const std::string& path);

}  // namespace retort::host
