// Opens a library as the system does, without the loader's care: for rules about opening itself.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace retort::host::check {

struct RawLibrary {
  bool opened = false;
  std::string error;                                // the system's text if it could not
  std::string float_mode_before, float_mode_after;  // of this thread
};
// With RTLD_NOW | RTLD_LOCAL; it stays open.
RawLibrary OpenRaw(const std::string& path);

}  // namespace retort::host::check
