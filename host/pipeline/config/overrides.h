// What changes the tree before it is checked: profiles, --set, and ${variables}.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "core/base/status.h"
#include "host/pipeline/config/tree.h"

namespace retort::host {

// Sets the node at a dotted path ("stages.sft.learning_rate"): list elements by their "name" or
// index, missing objects on the way are made. The checks come later.
Status ApplyOverride(Node& root, std::string_view path, Node value);

// Applies profiles[name] of the tree: an object of path -> value.
Status ApplyProfile(Node& root, const std::string& name);

// Applies "path=value". The value is JSON, or else a string.
Status ApplySet(Node& root, const std::string& assignment);

// Replaces ${x} in every string: x is a key of vars, "name", or env.X; $${ stands for ${. A string
// that is one ${x} alone takes the variable's type. "profiles" and "vars" themselves stay.
// Appends mistakes to `errors`.
void ExpandVariables(Node& root, std::vector<std::string>* errors);

}  // namespace retort::host
