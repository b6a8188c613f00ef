// Everything that a callback writes has its place in advance (texts and metrics are cut to fixed
// sizes, scratch comes from malloc), so a callback has nothing that could throw into the plugin.
// SPDX-License-Identifier: Apache-2.0
#include "core/base/plugin_call.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

#include "retort/abi/tensor.h"

namespace retort {
namespace {

constexpr size_t kErrorBytes = 4096, kMetrics = 64, kMetricNameBytes = 64;
constexpr size_t kBlocks = 48;
constexpr uint64_t kMinBlockBytes = uint64_t{1} << 16, kMaxAlignment = 4096;

struct Free {
  void operator()(void* p) const { std::free(p); }
};

// A bump allocator that keeps its blocks: each new one is at least as large as all before it.
class Scratch {
 public:
  void Reset() {
    current_ = 0;
    used_ = 0;
  }
  void* Get(uint64_t bytes, uint64_t alignment) {
    if (alignment == 0 || alignment > kMaxAlignment || (alignment & (alignment - 1)) != 0) {
      return nullptr;
    }
    for (; current_ < n_blocks_; ++current_, used_ = 0) {
      const uint64_t begin = (used_ + alignment - 1) & ~(alignment - 1);
      const uint64_t size = blocks_[current_].bytes;
      if (begin <= size && bytes <= size - begin) {
        used_ = begin + bytes;
        return static_cast<char*>(blocks_[current_].data.get()) + begin;
      }
    }
    return Grow(bytes);
  }

 private:
  void* Grow(uint64_t bytes) {
    if (n_blocks_ == kBlocks || bytes > (uint64_t{1} << 46)) return nullptr;
    uint64_t size = std::max({bytes, total_, kMinBlockBytes});
    size = (size + kMaxAlignment - 1) & ~(kMaxAlignment - 1);
    void* data = std::aligned_alloc(kMaxAlignment, size);
    if (data == nullptr) return nullptr;
    blocks_[n_blocks_] = {std::unique_ptr<void, Free>(data), size};
    current_ = n_blocks_++;
    total_ += size;
    used_ = bytes;
    return data;
  }
  struct Block {
    std::unique_ptr<void, Free> data;
    uint64_t bytes = 0;
  };
  std::array<Block, kBlocks> blocks_{};
  size_t n_blocks_ = 0, current_ = 0;
  uint64_t used_ = 0, total_ = 0;
};

}  // namespace

struct PluginCall::Impl {
  std::string plugin;
  PluginCallSinks sinks;
  retort_call call{};
  std::array<char, kErrorBytes> error{};
  size_t error_size = 0;
  std::array<std::array<char, kMetricNameBytes>, kMetrics> metric_names{};
  std::array<Metric, kMetrics> metrics{};
  size_t n_metrics = 0;
  Scratch scratch;

  static Impl& Of(void* ctx) { return *static_cast<Impl*>(ctx); }
  static void OnError(void* ctx, retort_status, retort_str message) {
    Impl& self = Of(ctx);
    self.error_size = message.ptr == nullptr ? 0 : std::min<size_t>(message.len, kErrorBytes);
    if (self.error_size > 0) std::memcpy(self.error.data(), message.ptr, self.error_size);
  }
  static void OnLog(void* ctx, int32_t level, retort_str message) {
    if (Of(ctx).sinks.log) Of(ctx).sinks.log(level, ToView(message));
  }
  static void OnProgress(void* ctx, double fraction, retort_str what) {
    if (Of(ctx).sinks.progress) Of(ctx).sinks.progress(fraction, ToView(what));
  }
  static void* OnScratch(void* ctx, uint64_t bytes, uint64_t alignment) {
    return Of(ctx).scratch.Get(bytes, alignment);
  }
  static void OnMetric(void* ctx, retort_str name, double sum, double count) {
    if (!std::isfinite(sum) || !std::isfinite(count) || count < 0) return;
    Impl& self = Of(ctx);
    if (self.sinks.metric) self.sinks.metric(ToView(name), sum, count);
    if (Metric* m = self.FindMetric(ToView(name))) {
      m->sum += sum;
      m->count += count;
    }
  }
  // NULL once the table is full.
  Metric* FindMetric(std::string_view name) {
    name = name.substr(0, kMetricNameBytes);
    for (size_t i = 0; i < n_metrics; ++i) {
      if (metrics[i].name == name) return &metrics[i];
    }
    if (n_metrics == kMetrics) return nullptr;
    std::copy(name.begin(), name.end(), metric_names[n_metrics].begin());
    metrics[n_metrics] = {.name = {metric_names[n_metrics].data(), name.size()}};
    return &metrics[n_metrics++];
  }
};

PluginCall::PluginCall(std::string plugin, PluginCallSinks sinks)
    : impl_(std::make_unique<Impl>()) {
  impl_->plugin = std::move(plugin);
  impl_->sinks = std::move(sinks);
}
PluginCall::~PluginCall() = default;
PluginCall::PluginCall(PluginCall&&) noexcept = default;
PluginCall& PluginCall::operator=(PluginCall&&) noexcept = default;

const retort_call* PluginCall::Begin(const PluginCallSettings& settings) {
  static_assert(sizeof(std::atomic<int32_t>) == sizeof(int32_t));
  static_assert(std::atomic<int32_t>::is_always_lock_free);
  Impl& self = *impl_;
  self.error_size = 0;
  self.scratch.Reset();
  self.call = {.struct_size = sizeof(retort_call),
               .flags = 0,
               .ctx = &self,
               .cancel = reinterpret_cast<const int32_t*>(settings.cancel),
               .deadline_ns = settings.deadline_ns,
               .step = settings.step,
               .key = settings.key,
               .stream = nullptr,
               .device_type = RETORT_DEVICE_CPU,
               .device_id = 0,
               .n_threads = std::max(settings.n_threads, 1),
               ._pad = 0,
               .error = Impl::OnError,
               .log = Impl::OnLog,
               .metric = Impl::OnMetric,
               .progress = Impl::OnProgress,
               .scratch = Impl::OnScratch};
  return &self.call;
}

Status PluginCall::End(retort_status status, std::string_view attempt) const {
  if (status == RETORT_OK) return OkStatus();
  std::string message = impl_->plugin + ": " + std::string(attempt) + ": ";
  if (!error_text().empty()) {
    message += error_text();
  } else {
    message += "failed with status " + std::to_string(status) + " (" +
               std::string(CodeName(ToCode(status))) + ") and gave no reason";
  }
  return {ToCode(status), std::move(message)};
}

std::string_view PluginCall::error_text() const { return {impl_->error.data(), impl_->error_size}; }

std::span<const PluginCall::Metric> PluginCall::metrics() const {
  return {impl_->metrics.data(), impl_->n_metrics};
}

void PluginCall::ClearMetrics() { impl_->n_metrics = 0; }

Code ToCode(retort_status status) {
  if (status < RETORT_OK || status > RETORT_UNAUTHENTICATED) return Code::kUnknown;
  return static_cast<Code>(status);
}

}  // namespace retort
