// Where retort's own files lie, seen from the library that this code was linked into.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace retort::host {

// The folder of the shared library (or program) that holds this code, absolute.
std::string LibraryFolder();

// True in a set-uid or otherwise privileged process: environment variables that name code to load
// are ignored there.
bool IsPrivileged();

// An environment variable that names code to load: "" when unset or privileged.
std::string TrustedEnv(const char* name);

}  // namespace retort::host
