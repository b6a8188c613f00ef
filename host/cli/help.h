// The texts of --help, made from the command tables.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "host/cli/command.h"

namespace retort::cli {

std::string Overview();
std::string HelpOf(const Command& command);

// "plugin": the first word of several commands.
bool IsGroup(std::string_view word);
std::string GroupMembers(std::string_view group);  // "list, info"
std::string GroupOverview(std::string_view group);

}  // namespace retort::cli
