// The calls of each kind, from a request's fields to the reply's.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/plugin_call.h"
#include "host/plugin/registry.h"
#include "host/worker/messages.h"
#include "host/worker/program/link.h"

namespace retort::host {

// What one call reported through callbacks, until the reply takes it along. Over the limit of a
// frame the rest is dropped and the call fails.
class Reported {
 public:
  Reported() { items_.CopyAll(); }
  void Clear();
  // The place for one more item.
  FrameWriter* Add(uint64_t bytes);
  bool full() const { return full_; }
  void Put(FrameWriter& out) const;  // their number, then they

 private:
  FrameWriter items_;
  uint64_t n_ = 0;
  bool full_ = false;
};

// The instance that this worker holds and what its calls need.
class Held {
 public:
  Held(HostLink& link, const std::atomic<int32_t>* cancel) : link_(link), cancel_(cancel) {}
  Status Create(const CreateRequest& request, TableFacts* facts);
  void Destroy() { instance_ = {}; }
  // Answers a call; INVALID_ARGUMENT without an instance or for another kind's call.
  void Answer(FrameType type, uint64_t number, FrameReader& in);

 private:
  struct Outcome {
    retort_status status = RETORT_OK;
    std::string text;
  };
  template <class Table>
  const Table* Find(const char* id) const {
    return static_cast<const Table*>(instance_.interface(id));
  }
  const retort_call* Begin(FrameReader& in);
  PluginCallSinks Sinks();
  // Each calls the plugin and puts the kind's own fields into `out`, in front of what was reported.
  retort_status Dispatch(FrameType type, FrameReader& in, FrameWriter& out);
  retort_status Score(const retort_call* call, FrameReader& in, FrameWriter& out);
  retort_status Classes(const retort_call* call, FrameReader& in, FrameWriter& out);
  retort_status Filter(FrameType type, const retort_call* call, FrameReader& in);
  retort_status Save(const retort_call* call, FrameWriter& out);
  retort_status Restore(const retort_call* call, FrameReader& in);
  retort_status Next(const retort_call* call, FrameReader& in, FrameWriter& out);
  retort_status Generate(FrameType type, const retort_call* call, FrameReader& in,
                         FrameWriter& out);

  HostLink& link_;
  const std::atomic<int32_t>* cancel_;
  PluginRegistry plugins_;
  PluginInstance instance_;
  std::optional<PluginCall> call_;
  Reported reported_;
  uint64_t number_ = 0;  // of the request being answered
  // Kept from call to call; what a reply borrows lives here until it was sent.
  std::vector<retort_sample> samples_;
  FilterArgs filter_args_;
  std::vector<double> scores_;
  std::vector<uint8_t> statuses_;
  std::vector<int64_t> classes_;
  std::string state_;
};

}  // namespace retort::host
