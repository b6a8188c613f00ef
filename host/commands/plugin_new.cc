// plugin.new.
// SPDX-License-Identifier: Apache-2.0
#include "host/commands/command.h"

namespace retort::host {

Outcome RunPluginNew(const CommandCall& call) {
  (void)call;
  return Outcome(Unimplemented("plugin.new is not there yet"));
}

}  // namespace retort::host
