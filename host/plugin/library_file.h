// The bytes of a plugin library, taken once: the file is opened once, its permissions and those of
// the folders above are checked on the descriptors, and it is hashed on its way into a sealed copy
// in memory. What was hashed is what is looked at and loaded, whatever happens to the path.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/status.h"
#include "core/io/posix.h"
#include "host/plugin/elf_file.h"

namespace retort::host {

struct LibraryFile {
  std::string path;       // as asked for, absolute
  std::string real_path;  // without symbolic links
  std::string hash;       // XXH3-128, hex
  std::string sha256;     // hex
  uint64_t bytes = 0;
  ElfSummary elf;
  io::Fd copy;  // sealed: nobody can change it any more
};

// Built-in libraries come from the folder that libretort itself came from: who can write there
// has no need of a plugin. Of them only the file's own permissions are looked at.
enum class Folders : uint8_t { kCheck, kTrust };

// `path` is absolute. Refused: no such file, not a regular file, larger than 1 GiB, a file or a
// folder above it that anybody may write to (unless it has the sticky bit and what lies in it is
// root's or the user's own), not a shared library of this machine. Runs nothing of the file.
Result<LibraryFile> ReadLibraryFile(const std::string& path, Folders folders);

// Whether this system runs code from a copy in memory (it may be mounted or set noexec).
bool CanExecute(const io::Fd& copy);

// The copy as a file under its SHA-256 in a folder that only this user can look into, made if
// needed: <cache>/retort/plugins of XDG_CACHE_HOME or HOME. Gives its path.
Result<std::string> PlaceCopy(const LibraryFile& file);

}  // namespace retort::host
