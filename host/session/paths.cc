// SPDX-License-Identifier: Apache-2.0
#include "host/session/paths.h"

#include <dlfcn.h>
#include <sys/auxv.h>

#include <cstdlib>

#include "core/io/filesystem.h"

namespace retort::host {

std::string LibraryFolder() {
  Dl_info info{};
  // Any object of this library will do; a data address needs no cast between function and object
  // pointers.
  static const char anchor = 0;
  if (dladdr(&anchor, &info) == 0 || info.dli_fname == nullptr) return ".";
  return io::Parent(io::Absolute(info.dli_fname));
}

bool IsPrivileged() { return getauxval(AT_SECURE) != 0; }

std::string TrustedEnv(const char* name) {
  if (IsPrivileged()) return {};
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

}  // namespace retort::host
