// Plugins in a process of their own. A proxy implements the same C tables as the plugin; behind it
// a `retort-worker` holds the real instance and speaks frames over a socket. A plugin that crashes,
// hangs or corrupts memory costs its samples a verdict, never the run.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/status.h"
#include "host/plugin/registry.h"
#include "retort/abi/types.h"

namespace retort::host {

struct WorkerOptions {
  std::string program;                  // retort-worker, absolute
  int64_t timeout_ms = 60'000;          // of one call (a batch); over it: cancel, grace, SIGKILL
  int64_t grace_ms = 100;               // between cancel and SIGKILL
  int64_t start_ms = 10'000;            // to get ready, to create, to describe
  int max_restarts = 3;                 // in a row without a good answer: then the plugin is out
  std::string host_name, host_version;  // what plugins see; "": retort's own
};

// Kinds that can run in a worker: reward, filter, source, generator.
bool CanIsolate(std::string_view kind);

// As PluginRegistry::Create, with the instance in a worker. Fails like it, and with UNAVAILABLE
// when the worker can't be started, dies or hangs while it creates.
Result<PluginInstance> CreateIsolated(const PluginRegistry& plugins, std::string_view kind,
                                      std::string_view id, std::string_view config_json,
                                      retort_key key, const WorkerOptions& options);

// Has a worker open the library, check its entry and descriptors, and list what it holds. A
// library that hangs or crashes while it is opened gives an error that says so.
Result<LibraryDescription> DescribeInWorker(const std::string& path, const WorkerOptions& options);

}  // namespace retort::host
