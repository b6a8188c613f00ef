// The host's side of retort_call: what core and host hand to a plugin with every call, and how
// the outcome becomes a Status that names the plugin. One object per instance, used again for
// every call: after the first calls of a size it allocates nothing.
//
//   PluginCall call("loss sft");
//   RETORT_RETURN_IF_ERROR(call.End(table->rows(instance, call.Begin(settings), &args), "rows"));
//
// Not thread-safe, but for the log callback. The callbacks never throw.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "core/base/status.h"
#include "retort/abi/call.h"

namespace retort {

// What differs from call to call.
struct PluginCallSettings {
  const std::atomic<int32_t>* cancel = nullptr;
  int64_t deadline_ns = 0;  // CLOCK_MONOTONIC; 0: none
  int64_t step = -1;
  retort_key key{};
  int32_t n_threads = 1;
};

// Where lines and numbers of a plugin go; all may be empty, none may throw. `log` is called from
// any thread.
struct PluginCallSinks {
  std::function<void(int32_t level, std::string_view message)> log;
  std::function<void(std::string_view name, double sum, double count)> metric;
  std::function<void(double fraction, std::string_view what)> progress;
};

class PluginCall {
 public:
  // `plugin`: for messages, kind and id: "reward number_match".
  explicit PluginCall(std::string plugin, PluginCallSinks sinks = {});
  ~PluginCall();
  PluginCall(PluginCall&&) noexcept;
  PluginCall& operator=(PluginCall&&) noexcept;

  // A fresh call: no error text, all scratch free again. Valid until the next Begin.
  const retort_call* Begin(const PluginCallSettings& settings = {});
  // OK, or the failure as "<plugin>: <attempt>: <the plugin's text>".
  Status End(retort_status status, std::string_view attempt) const;
  // The text alone, "" if the plugin gave none: for errors that must begin with it.
  std::string_view error_text() const;

  // Sums of the plugin's metrics over all calls since the last Clear.
  struct Metric {
    std::string_view name;  // as long as this object
    double sum = 0, count = 0;
    double mean() const { return count > 0 ? sum / count : 0; }
  };
  std::span<const Metric> metrics() const;
  void ClearMetrics();

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

// The plugin's status as a Code; UNKNOWN outside the list.
Code ToCode(retort_status status);

inline std::string_view ToView(retort_str s) {
  return s.ptr == nullptr ? std::string_view() : std::string_view(s.ptr, s.len);
}
inline retort_str ToStr(std::string_view s) { return {s.data(), s.size()}; }

}  // namespace retort
