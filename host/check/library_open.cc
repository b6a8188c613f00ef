// The one place outside host/plugin that opens a library: the loader restores the floating-point
// mode, and here it is the question whether the library changes it.
// SPDX-License-Identifier: Apache-2.0
#include "host/check/library_open.h"

#include <dlfcn.h>

#include "host/check/process_state.h"

namespace retort::host::check {

RawLibrary OpenRaw(const std::string& path) {
  RawLibrary library;
  library.float_mode_before = ProcessState::Now().float_mode;
  const void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  library.float_mode_after = ProcessState::Now().float_mode;
  library.opened = handle != nullptr;
  if (library.opened) return library;
  const char* text = dlerror();
  library.error = text == nullptr ? "" : text;
  return library;
}

}  // namespace retort::host::check
