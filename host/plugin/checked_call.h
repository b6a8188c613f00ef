// What the wrappers of all kinds share: running a plugin's function under guard, reporting.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>

#include "core/base/plugin_call.h"
#include "host/library/guard.h"
#include "host/plugin/checked.h"

namespace retort::host {

// Reports a broken rule as the call's failure.
inline retort_status ReportBroken(const retort_call* call, Code code, const std::string& text) {
  const auto status = static_cast<retort_status>(code);
  call->error(call->ctx, status, ToStr(text));
  return status;
}

// Calls fn(), which calls the plugin and gives its status; nothing thrown gets past here, and a
// second thread inside a serial instance is refused.
template <class Fn>
retort_status RunGuarded(CheckedInstance& self, const retort_call* call, bool concurrent,
                         Fn&& fn) noexcept {
  if (!concurrent && self.n_running.fetch_add(1, std::memory_order_acquire) > 0) {
    self.n_running.fetch_sub(1, std::memory_order_release);
    return ReportBroken(call, Code::kFailedPrecondition,
                        "called from two threads at once, but the plugin does not say CONCURRENT");
  }
  retort_status result = RETORT_OK;
  const Status thrown = Guard([&]() -> Status {
    result = std::forward<Fn>(fn)();
    return OkStatus();
  });
  if (!concurrent) self.n_running.fetch_sub(1, std::memory_order_release);
  if (thrown.ok()) return result;
  return ReportBroken(call, thrown.code(),
                      "the plugin threw an exception across the C edge: " + thrown.message());
}

}  // namespace retort::host
