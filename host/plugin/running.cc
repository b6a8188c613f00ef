// SPDX-License-Identifier: Apache-2.0
#include "host/plugin/running.h"

namespace retort::host {
namespace {

// Initial-exec: found without a call into the loader, which may allocate at a thread's first use
// and so has no place in a signal handler.
[[gnu::tls_model("initial-exec")]] thread_local const char* running_plugin = nullptr;

}  // namespace

const char* RunningPlugin() { return running_plugin; }

RunningScope::RunningScope(const char* name) : before_(running_plugin) { running_plugin = name; }
RunningScope::~RunningScope() { running_plugin = before_; }

}  // namespace retort::host
