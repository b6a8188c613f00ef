// SPDX-License-Identifier: Apache-2.0
#include "host/check/raw_plugin.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <mutex>
#include <optional>

#include "core/base/plugin_call.h"
#include "host/check/texts.h"
#include "host/plugin/host_services.h"
#include "retort/abi/tensor.h"

namespace retort::host::check {

std::string StatusName(retort_status status) {
  if (status < RETORT_OK || status > RETORT_UNAUTHENTICATED) {
    return std::to_string(status) + ", which is no status";
  }
  return std::string(CodeName(static_cast<Code>(status))) + " (" + std::to_string(status) + ")";
}

struct RawCall::Impl {
  Impl(Growth growth, uint32_t flags)
      : call(retort_call{.struct_size = sizeof(retort_call),
                         .flags = flags,
                         .ctx = this,
                         .cancel = reinterpret_cast<const int32_t*>(&cancelled),
                         .deadline_ns = 0,
                         .step = 0,
                         .key = {},
                         .stream = nullptr,
                         .device_type = RETORT_DEVICE_CPU,
                         .device_id = 0,
                         .n_threads = 1,
                         ._pad = 0,
                         .error = OnError,
                         .log = OnLog,
                         .metric = OnMetric,
                         .progress = OnProgress,
                         .scratch = OnScratch},
             growth) {}

  static_assert(sizeof(std::atomic<int32_t>) == sizeof(int32_t));
  std::atomic<int32_t> cancelled{0};
  GuardedStruct<retort_call> call;
  std::mutex mutex;  // of what follows: log may come from any thread
  bool running = false;
  pthread_t thread{};
  retort_status error_code = RETORT_OK;
  std::string error_text;
  std::vector<Metric> metrics;
  std::vector<std::string> logs;
  uint64_t n_progress = 0, scratch_bytes = 0, scratch_limit = ~uint64_t{0};
  std::vector<std::unique_ptr<ZonedBytes>> scratch;
  std::vector<std::string> misuse;

  // What every callback checks; `anywhere`: it may come from any thread.
  void Entered(const char* name, bool anywhere) {
    if (!running) misuse.push_back(std::string(name) + " was called after the call had returned");
    if (running && !anywhere && pthread_equal(thread, pthread_self()) == 0) {
      misuse.push_back(std::string(name) + " was called from another thread than the call's");
    }
  }
  void CheckText(const char* name, retort_str text) {
    if (text.ptr == nullptr && text.len != 0) {
      misuse.push_back(std::string(name) + " got a NULL text of " + std::to_string(text.len) +
                       " bytes");
    } else if (!IsUtf8(ToView(text))) {
      misuse.push_back(std::string(name) + " got a text that is not UTF-8");
    }
  }
  static std::string Copy(retort_str text) { return std::string(ToView(text)); }

  static void OnError(void* ctx, retort_status code, retort_str message) {
    auto& self = *static_cast<Impl*>(ctx);
    const std::lock_guard lock(self.mutex);
    self.Entered("error", false);
    self.CheckText("error", message);
    self.error_code = code;
    self.error_text = Copy(message);
  }
  static void OnLog(void* ctx, int32_t level, retort_str message) {
    auto& self = *static_cast<Impl*>(ctx);
    const std::lock_guard lock(self.mutex);
    self.Entered("log", true);
    self.CheckText("log", message);
    if (level < RETORT_LOG_DEBUG || level > RETORT_LOG_ERROR) {
      self.misuse.push_back("log got level " + std::to_string(level) + ", levels are 0 to 3");
    }
    self.logs.push_back(Copy(message));
  }
  static void OnMetric(void* ctx, retort_str name, double sum, double count) {
    auto& self = *static_cast<Impl*>(ctx);
    const std::lock_guard lock(self.mutex);
    self.Entered("metric", false);
    self.CheckText("metric", name);
    if (!std::isfinite(sum) || !std::isfinite(count) || count < 0) {
      self.misuse.push_back("metric \"" + Copy(name) + "\" got sum " + std::to_string(sum) +
                            " and count " + std::to_string(count) +
                            "; both must be finite, the count not negative");
    }
    self.metrics.push_back({Copy(name), sum, count});
  }
  static void OnProgress(void* ctx, double fraction, retort_str what) {
    auto& self = *static_cast<Impl*>(ctx);
    const std::lock_guard lock(self.mutex);
    self.Entered("progress", false);
    self.CheckText("progress", what);
    if (!(fraction >= 0 && fraction <= 1)) {
      self.misuse.push_back("progress got " + std::to_string(fraction) + ", expected 0 to 1");
    }
    ++self.n_progress;
  }
  static void* OnScratch(void* ctx, uint64_t bytes, uint64_t alignment) {
    auto& self = *static_cast<Impl*>(ctx);
    const std::lock_guard lock(self.mutex);
    self.Entered("scratch", false);
    if (!std::has_single_bit(alignment) || alignment > 4096) {
      self.misuse.push_back("scratch got alignment " + std::to_string(alignment) +
                            "; a power of two up to 4096 is expected");
      return nullptr;
    }
    if (bytes > self.scratch_limit - std::min(self.scratch_limit, self.scratch_bytes)) {
      return nullptr;
    }
    self.scratch_bytes += bytes;
    // A multiple of the alignment, room in front to reach it: the red zones stay at both ends.
    self.scratch.push_back(std::make_unique<ZonedBytes>(bytes + alignment));
    ZonedBytes& block = *self.scratch.back();
    const auto at = reinterpret_cast<uintptr_t>(block.data());
    const uintptr_t aligned = (at + alignment - 1) / alignment * alignment;
    self.blocks.push_back({aligned - at, bytes});
    return block.data() + (aligned - at);
  }

  struct Block {
    uint64_t offset, bytes;
  };
  std::vector<Block> blocks;  // of scratch, in order

  void CheckScratch() {
    for (size_t i = 0; i < scratch.size(); ++i) {
      const ZonedBytes& zone = *scratch[i];
      const char* end = zone.data() + zone.size();
      const bool rest_kept =
          std::all_of(zone.data(), zone.data() + blocks[i].offset, IsZone) &&
          std::all_of(zone.data() + blocks[i].offset + blocks[i].bytes, end, IsZone);
      if (zone.intact() && rest_kept) continue;
      misuse.push_back("wrote beyond a scratch block of " + std::to_string(blocks[i].bytes) +
                       " bytes");
    }
  }
  static bool IsZone(char c) { return c == static_cast<char>(kRedZoneByte); }

  // Each once.
  std::string Misuse() const {
    std::string text;
    for (size_t i = 0; i < misuse.size(); ++i) {
      const auto at = misuse.begin() + static_cast<ptrdiff_t>(i);
      if (std::find(misuse.begin(), at, *at) == at) text += (text.empty() ? "" : "; ") + *at;
    }
    return text;
  }
};

RawCall::RawCall(Growth growth, uint32_t flags) : impl_(std::make_unique<Impl>(growth, flags)) {}
RawCall::~RawCall() = default;

retort_call& RawCall::raw() { return *impl_->call.get(); }
void RawCall::SetCancel(bool cancelled) { impl_->cancelled.store(cancelled ? 1 : 0); }

const retort_call* RawCall::Begin() {
  Impl& i = *impl_;
  const std::lock_guard lock(i.mutex);
  i.running = true;
  i.thread = pthread_self();
  i.error_code = RETORT_OK;
  i.error_text.clear();
  i.metrics.clear();
  i.logs.clear();
  i.n_progress = i.scratch_bytes = 0;
  i.scratch.clear();
  i.blocks.clear();
  i.call.Remember();
  return i.call.get();
}

Status RawCall::EndFailed(retort_status status, std::string_view what) {
  Impl& i = *impl_;
  const std::lock_guard lock(i.mutex);
  i.running = false;
  i.CheckScratch();
  if (!i.call.untouched()) i.misuse.push_back("the call struct was written to; it is an input");
  if (status < RETORT_OK || status > RETORT_UNAUTHENTICATED) {
    i.misuse.push_back("returned status " + StatusName(status));
  } else if (status != RETORT_OK && status != RETORT_CANCELLED && i.error_text.empty()) {
    i.misuse.push_back("failed with " + StatusName(status) +
                       " and gave no text through call->error");
  }
  const std::string text = i.Misuse();
  i.misuse.clear();
  return text.empty() ? OkStatus() : InvalidArgument(std::string(what) + ": " + text);
}

Status RawCall::End(retort_status status, std::string_view what) {
  RETORT_RETURN_IF_ERROR(EndFailed(status, what));
  if (status == RETORT_OK) return OkStatus();
  return {ToCode(status),
          std::string(what) + ": it gave " + StatusName(status) + ": " + impl_->error_text};
}

retort_status RawCall::error_code() const { return impl_->error_code; }
const std::string& RawCall::error_text() const { return impl_->error_text; }
const std::vector<RawCall::Metric>& RawCall::metrics() const { return impl_->metrics; }
const std::vector<std::string>& RawCall::logs() const { return impl_->logs; }
uint64_t RawCall::n_progress() const { return impl_->n_progress; }
uint64_t RawCall::scratch_bytes() const { return impl_->scratch_bytes; }
void RawCall::LimitScratch(uint64_t bytes) { impl_->scratch_limit = bytes; }

struct RawHost::Impl {
  explicit Impl(Growth growth) : host(*PluginHost(), growth) {}
  GuardedStruct<retort_host> host;
};
RawHost::RawHost(Growth growth) : impl_(std::make_unique<Impl>(growth)) {}
RawHost::~RawHost() = default;
const retort_host* RawHost::get() const { return impl_->host.get(); }
bool RawHost::untouched() const { return impl_->host.untouched(); }

Result<RawInstance> RawInstance::Create(const Subject& subject, Growth growth) {
  return Create(subject, subject.config, growth);
}

Result<RawInstance> RawInstance::Create(const Subject& subject, std::string_view config_json,
                                        Growth growth) {
  auto host = std::make_unique<RawHost>(growth);
  RawCall call(growth);
  const RngKey key = RootKey(subject.seed, "check");
  call.raw().key = {key.hi, key.lo};
  const GuardedBytes config(config_json);
  retort_instance* const nothing = reinterpret_cast<retort_instance*>(&call);
  retort_instance* instance = nothing;
  const retort_status status = subject.entry->create(
      host->get(), call.Begin(), subject.kind.c_str(), subject.id.c_str(), config.str(), &instance);
  RETORT_RETURN_IF_ERROR(call.End(status, "create"));
  if (instance == nothing || instance == nullptr) {
    return Internal("create: it gave OK and no instance");
  }
  return RawInstance(subject, std::move(host), instance);
}

RawInstance::RawInstance(const Subject& subject, std::unique_ptr<RawHost> host,
                         retort_instance* instance)
    : entry_(subject.entry), host_(std::move(host)), instance_(instance) {}
RawInstance::RawInstance(RawInstance&& other) noexcept
    : entry_(other.entry_),
      host_(std::move(other.host_)),
      instance_(std::exchange(other.instance_, nullptr)) {}
RawInstance& RawInstance::operator=(RawInstance&& other) noexcept {
  std::swap(entry_, other.entry_);
  std::swap(host_, other.host_);
  std::swap(instance_, other.instance_);
  return *this;
}
RawInstance::~RawInstance() {
  if (instance_ != nullptr) entry_->destroy(instance_);
}

Status RawInstance::Destroy() {
  entry_->destroy(std::exchange(instance_, nullptr));
  return host_->untouched() ? OkStatus() : InvalidArgument("the host struct was written to");
}

const void* RawInstance::Find(const char* interface_id) const {
  return entry_->get_interface(instance_, interface_id);
}

Result<const void*> RawInstance::CheckedTable(const char* interface_id, size_t size) const {
  const void* table = Find(interface_id);
  if (table == nullptr) return NotFound(std::string("it has no interface ") + interface_id);
  const uint32_t found = *static_cast<const uint32_t*>(table);
  if (found < size) {
    return InvalidArgument(std::string("its table ") + interface_id + " has struct_size " +
                           std::to_string(found) + ", expected at least " + std::to_string(size));
  }
  return table;
}

int64_t ByteSink::Write(void* ctx, const void* data, uint64_t n) {
  auto& self = *static_cast<ByteSink*>(ctx);
  const uint64_t step = self.max_step_ == 0 ? n : 1 + self.n_calls_++ % self.max_step_;
  const uint64_t taken = std::min(n, step);
  self.bytes_.append(static_cast<const char*>(data), taken);
  return static_cast<int64_t>(taken);
}

int64_t ByteReader::Read(void* ctx, void* data, uint64_t n) {
  auto& self = *static_cast<ByteReader*>(ctx);
  const uint64_t step = self.max_step_ == 0 ? n : 1 + self.n_calls_++ % self.max_step_;
  const uint64_t given = std::min({n, step, self.bytes_.size() - self.at_});
  if (given > 0) std::memcpy(data, self.bytes_.data() + self.at_, given);
  self.at_ += given;
  return static_cast<int64_t>(given);
}

}  // namespace retort::host::check
