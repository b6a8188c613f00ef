// Events of a pipeline as messages and progress of a command.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "host/commands/io.h"
#include "host/pipeline/pipeline.h"

namespace retort::host {

void ForwardEvent(const RunEvent& event, CommandIo& io);

}  // namespace retort::host
