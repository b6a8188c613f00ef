// plugins.lock: the libraries that may be loaded, each with the SHA-256 of its bytes. Written by
// `retort plugin lock`, asked before anything of a library runs (docs/plugins.md).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "host/plugin/registry.h"

namespace retort::host {

constexpr const char* kLockFileName = "plugins.lock";

class LockFile {
 public:
  // Refused: not there, writable by anybody, larger than 1 MB, not what MakeLock writes.
  static Result<LockFile> Read(const std::string& path);

  // Whether bytes of that SHA-256 may be loaded from `library` (absolute). A path that is listed
  // must have its own hash; another path may have any listed one (a folder was moved or copied).
  // The text has the path, both hashes, and how to lock anew.
  Status Check(const std::string& library, const std::string& sha256) const;

  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    std::string path;  // absolute
    std::string sha256;
  };
  std::string HowToLock() const;
  std::string path_;
  std::vector<Entry> entries_;
};

// The text of a lock file that will lie at `lock_path` (absolute): paths below its folder are
// written relative to it, so that the folder can move.
std::string MakeLock(const std::vector<LibraryDescription>& libraries,
                     const std::string& lock_path);

// The plugins.lock in the folder of `file`, or "" if there is none.
std::string LockBeside(const std::string& file);

}  // namespace retort::host
