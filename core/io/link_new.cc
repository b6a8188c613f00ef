// SPDX-License-Identifier: Apache-2.0
#include "core/io/link_new.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "core/io/posix.h"

namespace retort::io {

Status LinkNew(const std::string& from, const std::string& to) {
  if (::link(from.c_str(), to.c_str()) == 0) return OkStatus();
  // Where a file has one name only (FAT, some network file systems).
  const bool no_links = errno == EPERM || errno == EOPNOTSUPP || errno == ENOSYS;
  if (no_links &&
      ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) {
    return OkStatus();
  }
  return SystemError("create", to, errno);
}

}  // namespace retort::io
