// The worker's life: say ready, answer requests until the host is gone.
// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace retort::host {

// The program's exit code.
int Serve();

}  // namespace retort::host
