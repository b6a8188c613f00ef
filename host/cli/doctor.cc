// doctor.
// SPDX-License-Identifier: Apache-2.0
#include "host/cli/command.h"

namespace retort::cli {

std::vector<Command> DoctorCommands() {
  return {
      {"doctor",
       "doctor",
       "what this machine has: processor, libraries, plugins, limits",
       "",
       "",
       {{"json", Kind::kFlag, "", "print it as one JSON object"}},
       "Exits with 1 if something that every command needs is missing.\n"
       "\n"
       "Example:\n"
       "  retort doctor\n"},
  };
}

}  // namespace retort::cli
