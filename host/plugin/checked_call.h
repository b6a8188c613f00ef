// What the wrappers of all kinds share: running a plugin's function under guard, checking what came
// out.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>

#include "host/plugin/call_relay.h"
#include "host/plugin/checked.h"
#include "host/plugin/process_watch.h"
#include "host/plugin/running.h"

namespace retort::host {

// Calls fn(), which calls the plugin with relay->call() and gives its status; nothing thrown gets
// past here, and a second thread inside a serial instance is refused.
template <class Fn>
retort_status RunGuarded(CheckedInstance& self, CallRelay* relay, bool concurrent,
                         Fn&& fn) noexcept {
  if (!concurrent && self.n_running.fetch_add(1, std::memory_order_acquire) > 0) {
    self.n_running.fetch_sub(1, std::memory_order_release);
    return Report(relay->outer(), Code::kFailedPrecondition,
                  "called from two threads at once, but the plugin does not say CONCURRENT");
  }
  retort_status result = RETORT_OK;
  const RunningScope running(self.label.c_str());
  Status left;  // what it left behind in the process
  const Status thrown = Guard([&]() -> Status {
    ProcessWatch watch(self.watch);
    result = std::forward<Fn>(fn)();
    left = watch.Finish();
    return OkStatus();
  });
  if (!concurrent) self.n_running.fetch_sub(1, std::memory_order_release);
  if (thrown.ok() && left.ok()) return relay->Finish(result);
  const Code code = thrown.ok() ? left.code() : thrown.code();
  const Status told = Guard([&]() -> Status {
    Report(relay->outer(), code,
           thrown.ok() ? left.message()
                       : "the plugin threw an exception across the C edge: " + thrown.message());
    return OkStatus();
  });
  return told.ok() ? static_cast<retort_status>(code)
                   : Report(relay->outer(), told.code(), told.message());
}

// Runs a check of what the plugin gave; a broken rule becomes the call's failure.
template <class Fn>
retort_status Verify(const CallRelay& relay, Fn&& check) noexcept {
  const Status status = Guard(std::forward<Fn>(check));
  return status.ok() ? RETORT_OK : Report(relay.outer(), status.code(), status.message());
}

// The functions that kinds with state have in common.
template <class Fn>
retort_status RunSave(retort_instance* handle, const retort_call* call, const retort_sink* sink,
                      Fn&& save) noexcept {
  CallRelay relay(call);
  const SinkRelay out(&relay, sink);
  CheckedInstance& self = CheckedInstance::Of(handle);
  return RunGuarded(self, &relay, false, [&] { return save(self, relay.call(), out.sink()); });
}
template <class Fn>
retort_status RunLoad(retort_instance* handle, const retort_call* call, const retort_reader* reader,
                      Fn&& load) noexcept {
  CallRelay relay(call);
  const ReaderRelay in(&relay, reader);
  CheckedInstance& self = CheckedInstance::Of(handle);
  return RunGuarded(self, &relay, false, [&] { return load(self, relay.call(), in.reader()); });
}

}  // namespace retort::host
