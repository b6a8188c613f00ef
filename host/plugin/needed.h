// The libraries that a plugin is linked against. They run in the same process with the same rights,
// so they come from the system alone: nothing that the plugin file says (RPATH, RUNPATH, $ORIGIN, a
// path in place of a name) decides where they are looked for.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/base/status.h"
#include "host/plugin/elf_file.h"

namespace retort::host {

// Each needed library is in the process already or gets loaded here from the system's folders, by
// absolute path; the system's loader then takes it for the plugin by its name. Refused: LibTorch,
// names with a slash, what the system doesn't have. `path`: the plugin's, for messages.
Status LoadNeeded(const ElfSummary& elf, const std::string& path);

// Where the system has a library of that name: by its loader's cache, else in its standard folders
// (which nobody but root may write to); "" if nowhere.
std::string FindSystemLibrary(const std::string& name);

}  // namespace retort::host
