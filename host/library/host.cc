// The C edge: retort/host.h over sessions and commands. Every function is guarded; nothing here
// knows what a command does.
// SPDX-License-Identifier: Apache-2.0
#include "retort/host.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "core/base/plugin_call.h"
#include "host/commands/command.h"
#include "host/library/guard.h"
#include "host/session/session.h"

using retort::Code;
using retort::InvalidArgument;
using retort::Status;
using retort::ToStr;
using retort::ToView;
using retort::host::Guard;
using retort::host::Outcome;

struct retort_context {
  explicit retort_context(retort::host::SessionOptions options) : session(std::move(options)) {}

  void Log(int32_t level, std::string_view text) {
    if (log == nullptr || level < log_level) return;
    const std::lock_guard lock(log_mutex);
    log(log_ctx, level, ToStr(text));
  }

  retort::host::Session session;
  retort::engine::Cancel cancel{0};
  std::string message;  // of the last command
  std::mutex log_mutex;
  int32_t log_level = 0;
  void* log_ctx = nullptr;
  void (*log)(void*, int32_t, retort_str) = nullptr;
};

namespace {

// The caller's struct as far as it goes; members that it doesn't know are zero.
template <class T>
Status ReadStruct(const T* given, const char* name, T& known) {
  known = {};
  if (given == nullptr) return {};
  if (given->struct_size < 2 * sizeof(uint32_t)) {
    return InvalidArgument(std::string(name) + ".struct_size is " +
                           std::to_string(given->struct_size) + "; set it to sizeof");
  }
  std::memcpy(&known, given, std::min<size_t>(given->struct_size, sizeof known));
  return {};
}

Status Create(const retort_context_options* options, retort_context** out) {
  retort_context_options known{};
  if (Status read = ReadStruct(options, "retort_context_options", known); !read.ok()) return read;
  if (known.flags != 0) return {Code::kUnimplemented, "unknown retort_context_options.flags"};
  retort::host::SessionOptions session;
  session.plugin_dir = ToView(known.plugin_dir);
  session.engine_path = ToView(known.engine_path);
  session.n_threads = known.n_threads;
  auto context = std::make_unique<retort_context>(std::move(session));
  context->log_level = known.log_level;
  context->log_ctx = known.log_ctx;
  context->log = known.log;
  *out = context.release();
  return {};
}

Outcome RunGuarded(retort_context& context, const char* name, retort_str args,
                   const retort_command_io* io) {
  if (name == nullptr) return Outcome::Usage("a command without a name");
  retort_command_io known{};
  if (Status read = ReadStruct(io, "retort_command_io", known); !read.ok()) {
    return Outcome::Usage(std::move(read));
  }
  retort::host::CommandIo sink(&known);
  return retort::host::RunCommand(
      name, ToView(args),
      {context.session, sink, context.cancel,
       [&context](int32_t level, std::string_view text) { context.Log(level, text); }});
}

void Report(const retort_context& context, const Outcome& outcome, retort_command_result* result) {
  if (result == nullptr || result->struct_size < 2 * sizeof(uint32_t)) return;
  retort_command_result full{};
  full.struct_size = result->struct_size;
  full.outcome = outcome.code();
  full.status = static_cast<retort_status>(outcome.status().code());
  full.message = ToStr(context.message);
  std::memcpy(result, &full, std::min<size_t>(result->struct_size, sizeof full));
}

}  // namespace

extern "C" {

retort_status retort_context_create(const retort_context_options* options, retort_context** out) {
  if (out == nullptr) return RETORT_INVALID_ARGUMENT;
  *out = nullptr;
  return static_cast<retort_status>(Guard([&] { return Create(options, out); }).code());
}

void retort_context_destroy(retort_context* context) {
  (void)Guard([&]() -> Status {
    delete context;
    return {};
  });
}

const char* retort_version(void) { return RETORT_VERSION; }

retort_status retort_command(retort_context* context, const char* name, retort_str args,
                             const retort_command_io* io, retort_command_result* result) {
  if (context == nullptr) return RETORT_INVALID_ARGUMENT;
  const Outcome outcome = Guard([&] { return RunGuarded(*context, name, args, io); });
  context->cancel = 0;
  context->message = outcome.status().message();
  Report(*context, outcome, result);
  return static_cast<retort_status>(outcome.status().code());
}

void retort_cancel(retort_context* context) {
  if (context != nullptr) context->cancel.store(1, std::memory_order_relaxed);
}

const char* const* retort_command_names(void) {
  static const std::vector<const char*> names = [] {
    std::vector<const char*> list;
    for (const auto& command : retort::host::Commands()) list.push_back(command.name);
    list.push_back(nullptr);
    return list;
  }();
  return names.data();
}

}  // extern "C"
