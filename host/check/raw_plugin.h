// A plugin as the rules see it: an instance straight from its entry table, without the host's
// checked wrapper, and a call whose callbacks record everything and notice misuse.
//
//   RETORT_FIND(RawInstance plugin, RawInstance::Create(subject));
//   RETORT_FIND(const auto* table, plugin.Table<retort_reward_v1>(RETORT_REWARD_INTERFACE));
//   RawCall call;
//   RETORT_FAIL_IF_ERROR(call.End(table->score(plugin.get(), call.Begin(), &args), "score"));
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "host/check/guarded.h"
#include "host/check/rule.h"
#include "retort/abi/call.h"
#include "retort/abi/entry.h"

namespace retort::host::check {

// How the host's side of calls looks.
struct CallKind {
  Growth growth = Growth::kExact;  // of retort_call and retort_host
  uint32_t flags = 0;              // of retort_call
};

// One call: the struct ends at a guard page. Not movable while the plugin runs.
class RawCall {
 public:
  explicit RawCall(Growth growth = Growth::kExact, uint32_t flags = 0);
  ~RawCall();
  RawCall(const RawCall&) = delete;
  RawCall& operator=(const RawCall&) = delete;

  // The struct itself, to set deadline_ns, step, key, n_threads, flags before Begin.
  retort_call& raw();
  // The flag that raw().cancel points to.
  void SetCancel(bool cancelled);
  // Starts a call: what was recorded is forgotten, scratch is free again.
  const retort_call* Begin();
  // Ends it. OK: the plugin's status is OK and it used the callbacks as it may. Else what went
  // wrong, with `what` in front: the plugin's status and text, a scratch block written beyond its
  // bounds, a callback after its call or from another thread, a metric that is not finite, a text
  // that is not UTF-8, the call struct changed.
  Status End(retort_status status, std::string_view what);
  // The misuse alone: for calls that are expected to fail. OK if there was none. Also fails a
  // status that is not OK without a text (R7), or that is outside the list of codes.
  Status EndFailed(retort_status status, std::string_view what);

  // Recorded since Begin.
  retort_status error_code() const;  // of the last error callback; 0: none
  const std::string& error_text() const;
  struct Metric {
    std::string name;
    double sum = 0, count = 0;
  };
  const std::vector<Metric>& metrics() const;
  const std::vector<std::string>& logs() const;
  uint64_t n_progress() const;
  uint64_t scratch_bytes() const;  // asked for since Begin
  // The next scratch requests give NULL after this many bytes: for rules about memory running out.
  void LimitScratch(uint64_t bytes);

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

// The retort_host that rules give to create: the host's own JSON interface; the struct ends at a
// guard page and is checked for changes by RawInstance.
class RawHost {
 public:
  explicit RawHost(Growth growth = Growth::kExact);
  ~RawHost();
  RawHost(const RawHost&) = delete;
  const retort_host* get() const;
  bool untouched() const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

// Owns an instance; destroyed with it. Move-only.
class RawInstance {
 public:
  // With the subject's config and seed. The text of a failure says what create gave.
  static Result<RawInstance> Create(const Subject& subject, Growth growth = Growth::kExact);
  static Result<RawInstance> Create(const Subject& subject, std::string_view config_json,
                                    Growth growth = Growth::kExact);
  RawInstance(RawInstance&& other) noexcept;
  RawInstance& operator=(RawInstance&& other) noexcept;
  ~RawInstance();

  retort_instance* get() const { return instance_; }
  // The table with that id, or NULL.
  const void* Find(const char* interface_id) const;
  // The table; NOT_FOUND: it has none; INVALID_ARGUMENT: its struct_size is below that of T.
  template <class T>
  Result<const T*> Table(const char* interface_id) const {
    RETORT_ASSIGN_OR_RETURN(const void* table, CheckedTable(interface_id, sizeof(T)));
    return static_cast<const T*>(table);
  }
  // Destroys now; OK unless the host struct was changed.
  Status Destroy();

 private:
  RawInstance(const Subject& subject, std::unique_ptr<RawHost> host, retort_instance* instance);
  Result<const void*> CheckedTable(const char* interface_id, size_t size) const;
  const retort_entry* entry_ = nullptr;
  std::unique_ptr<RawHost> host_;
  retort_instance* instance_ = nullptr;
};

// "INVALID_ARGUMENT (3)", "99, which is no status".
std::string StatusName(retort_status status);

// Bytes that a plugin saves, and a reader over bytes; both may move only a few bytes at a time.
// max_step 0: no limit; else each call moves 1..max_step bytes.
class ByteSink {
 public:
  explicit ByteSink(uint64_t max_step = 0) : max_step_(max_step) {}
  retort_sink get() { return {this, Write}; }
  const std::string& bytes() const { return bytes_; }

 private:
  static int64_t Write(void* ctx, const void* data, uint64_t n);
  uint64_t max_step_, n_calls_ = 0;
  std::string bytes_;
};
class ByteReader {
 public:
  explicit ByteReader(std::string bytes, uint64_t max_step = 0)
      : bytes_(std::move(bytes)), max_step_(max_step) {}
  retort_reader get() { return {this, Read}; }
  uint64_t left() const { return bytes_.size() - at_; }

 private:
  static int64_t Read(void* ctx, void* data, uint64_t n);
  std::string bytes_;
  uint64_t max_step_, at_ = 0, n_calls_ = 0;
};

}  // namespace retort::host::check
