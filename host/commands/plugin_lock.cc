// plugin.lock.
// SPDX-License-Identifier: Apache-2.0
#include "host/commands/command.h"

namespace retort::host {

Outcome RunPluginLock(const CommandCall& call) {
  (void)call;
  return Outcome(Unimplemented("plugin.lock is not there yet"));
}

}  // namespace retort::host
