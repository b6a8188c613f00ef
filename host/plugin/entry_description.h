// From a library's entry table to its description: what the registry and a worker share.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/base/status.h"
#include "host/plugin/description.h"
#include "host/plugin/loader.h"
#include "host/plugin/registry.h"

namespace retort::host {

// The file's part of a description.
LibraryDescription DescriptionOf(const LoadedLibrary& library);

// Adds what the (checked, initialised) entry says; `description` has path and hashes already.
Result<LibraryDescription> DescribeEntry(const retort_entry& entry, LibraryDescription description);

}  // namespace retort::host
