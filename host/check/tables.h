// Which rules there are, and which concern a plugin.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>
#include <vector>

#include "host/check/rule.h"

namespace retort::host::check {

// Of the library as a file and of its entry table.
std::vector<const Rule*> RulesOfLibrary();
// Of one plugin: first what holds for every kind, then its kind's.
std::vector<const Rule*> RulesOfPlugin(std::string_view kind);
// All, table by table, in the order of docs/conformance.md.
std::vector<const Rule*> AllRules();
// NULL: there is none.
const Rule* FindRule(std::string_view id);

}  // namespace retort::host::check
