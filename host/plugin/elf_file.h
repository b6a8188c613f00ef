// What the loader wants to know of a shared library before the system maps it and runs its
// initialisers: is it one for this machine, is it whole, what does it export, what does it need.
// Read as the system's loader reads it, from the program headers: section headers may be absent.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"

namespace retort::host {

struct ElfSummary {
  // So that no small file makes a long list: a list that is full says enough.
  static constexpr size_t kMaxNames = 1000;
  std::vector<std::string> exports;  // defined global and weak dynamic symbols
  std::vector<std::string> needed;   // DT_NEEDED
  std::string soname;                // DT_SONAME
  std::string search_path;           // DT_RUNPATH, else DT_RPATH; "" mostly
};

// `bytes`: the whole file; `path` for messages. Every offset is checked against the file's size.
Result<ElfSummary> ReadElf(std::string_view bytes, const std::string& path);

}  // namespace retort::host
