// SPDX-License-Identifier: Apache-2.0
#include "host/plugin/call_relay.h"

namespace retort::host {

CallRelay::CallRelay(const retort_call* outer) noexcept
    : outer_(outer), inner_(*outer), thread_(std::this_thread::get_id()) {
  inner_.struct_size = sizeof(inner_);
  inner_.ctx = this;
  inner_.error = [](void* ctx, retort_status code, retort_str message) {
    CallRelay& self = Of(ctx);
    self.Run([&] { self.outer_->error(self.outer_->ctx, code, message); });
  };
  inner_.log = [](void* ctx, int32_t level, retort_str message) {
    CallRelay& self = Of(ctx);
    self.RunFromAnyThread([&] { self.outer_->log(self.outer_->ctx, level, message); });
  };
  inner_.metric = [](void* ctx, retort_str name, double sum, double count) {
    CallRelay& self = Of(ctx);
    self.Run([&] { self.outer_->metric(self.outer_->ctx, name, sum, count); });
  };
  inner_.progress = [](void* ctx, double fraction, retort_str what) {
    CallRelay& self = Of(ctx);
    self.Run([&] { self.outer_->progress(self.outer_->ctx, fraction, what); });
  };
  inner_.scratch = [](void* ctx, uint64_t bytes, uint64_t alignment) -> void* {
    CallRelay& self = Of(ctx);
    void* memory = nullptr;
    self.Run([&] { memory = self.outer_->scratch(self.outer_->ctx, bytes, alignment); });
    return memory;
  };
}

retort_status CallRelay::Finish(retort_status status) const noexcept {
  if (!first_.ok()) return Report(outer_, first_.code(), first_.message());
  if (foreign_thread_.load(std::memory_order_relaxed)) {
    return Report(outer_, Code::kInternal,
                  "a callback came from another thread than the call's (only log may)");
  }
  if (log_failed_.load(std::memory_order_relaxed)) {
    return Report(outer_, Code::kResourceExhausted, "a line for the log could not be kept");
  }
  return status;
}

int64_t SinkRelay::Write(void* ctx, const void* data, uint64_t n) noexcept {
  const SinkRelay& self = *static_cast<SinkRelay*>(ctx);
  int64_t taken = -1;
  self.relay_->Run([&] { taken = self.outer_->write(self.outer_->ctx, data, n); });
  return taken;
}

int64_t ReaderRelay::Read(void* ctx, void* data, uint64_t n) noexcept {
  const ReaderRelay& self = *static_cast<ReaderRelay*>(ctx);
  int64_t given = -1;
  self.relay_->Run([&] { given = self.outer_->read(self.outer_->ctx, data, n); });
  return given;
}

}  // namespace retort::host
