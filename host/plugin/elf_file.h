// What the loader wants to know of a shared library before the system maps it and runs its
// initialisers: is it one for this machine, what does it export, what does it need.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"

namespace retort::host {

struct ElfSummary {
  bool has_sections = false;         // false: stripped of them, the lists below are empty
  std::vector<std::string> exports;  // defined global and weak dynamic symbols
  std::vector<std::string> needed;   // DT_NEEDED
};

// `bytes`: the whole file; `path` for messages. Every offset is checked against the file's size.
Result<ElfSummary> ReadElf(std::string_view bytes, const std::string& path);

}  // namespace retort::host
