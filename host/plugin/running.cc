// The names are copied to where no heap block of ours is near: a plugin that writes past the end
// of a buffer destroys what lies behind it on the heap, and must still be named.
// SPDX-License-Identifier: Apache-2.0
#include "host/plugin/running.h"

#include <cstring>

namespace retort::host {
namespace {

constexpr int kDepth = 4;           // the outer scope's name stands for deeper ones
constexpr size_t kNameBytes = 256;  // longer ones are cut

thread_local char names[kDepth][kNameBytes];

// Initial-exec: found without a call into the loader, which may allocate at a thread's first use
// and so has no place in a signal handler. Only these few bytes: that storage is scarce.
[[gnu::tls_model("initial-exec")]] thread_local const char* running_plugin = nullptr;
[[gnu::tls_model("initial-exec")]] thread_local int depth = 0;

}  // namespace

const char* RunningPlugin() { return running_plugin; }

RunningScope::RunningScope(const char* name) : before_(running_plugin) {
  if (depth < kDepth) {
    char* copy = names[depth];
    const size_t size = strnlen(name, kNameBytes - 1);
    std::memcpy(copy, name, size);
    copy[size] = '\0';
    running_plugin = copy;
  }
  ++depth;
}
RunningScope::~RunningScope() {
  --depth;
  running_plugin = before_;
}

}  // namespace retort::host
