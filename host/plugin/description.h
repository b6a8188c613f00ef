// A library's description over a pipe: what a worker found out, as JSON, and back. The reader
// trusts nothing: whoever wrote the text had a stranger's library in its process.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "core/base/status.h"
#include "host/plugin/registry.h"

namespace retort::host {

// Opens the library in this process (OpenLibrary: all checks, init) and asks for its descriptors.
// `path`: absolute, or relative to the current folder.
Result<LibraryDescription> DescribeLibrary(const std::string& path);

// One line of JSON.
std::string DescriptionToJson(const LibraryDescription& description);
// Refuses missing members, wrong types and whatever CheckDescription refuses. DATA_LOSS.
Result<LibraryDescription> DescriptionFromJson(std::string_view text);

// Kinds, ids, schemas, 1 to 1000 plugins, no two with one kind and id. The text names the path.
Status CheckDescription(const LibraryDescription& description);

}  // namespace retort::host
