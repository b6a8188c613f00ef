// A tree against the tables of schema.h: unknown keys refused with the nearest name, shorthands
// written out, defaults filled in, types and ranges checked.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "host/pipeline/config/schema.h"
#include "host/pipeline/config/tree.h"

namespace retort::host {

struct ValidateContext {
  std::string file_folder;          // relative paths of the file start here
  std::vector<std::string> errors;  // "file:line:column: key path: rule", one each
};

// Afterwards, without errors, every key of the tables is there in the tables' order, or has no
// default and wasn't given.
void Validate(Node& node, const ObjectSpec& spec, const std::string& path,
              ValidateContext* context);

}  // namespace retort::host
