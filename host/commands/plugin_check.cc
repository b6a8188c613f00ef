// plugin.check.
// SPDX-License-Identifier: Apache-2.0
#include "host/commands/command.h"

namespace retort::host {

Outcome RunPluginCheck(const CommandCall& call) {
  (void)call;
  return Outcome(Unimplemented("plugin.check is not there yet"));
}

}  // namespace retort::host
