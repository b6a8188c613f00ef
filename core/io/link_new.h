// A whole file under a name that must be free, in one step: what makes a lock.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/base/status.h"

namespace retort::io {

// Gives the file `from` the name `to` on the same file system: all of it appears there at once, and
// only one of several callers succeeds. ALREADY_EXISTS: `to` is there. `from` may be left under its
// name.
Status LinkNew(const std::string& from, const std::string& to);

}  // namespace retort::io
