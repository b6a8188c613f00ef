// Contexts: made, asked, loaded with plugins.
// SPDX-License-Identifier: Apache-2.0
#include "host/library/context.h"

#include <cfenv>

#include "core/base/plugin_call.h"
#include "host/library/edge.h"
#include "host/plugin/running.h"

namespace retort::host {

struct ContextCall::FloatingPoint {
  FloatingPoint() { std::fegetenv(&environment); }
  ~FloatingPoint() { std::fesetenv(&environment); }
  FloatingPoint(const FloatingPoint&) = delete;
  FloatingPoint& operator=(const FloatingPoint&) = delete;
  std::fenv_t environment;
};

ContextState::ContextState(SessionOptions options, const retort_context_options& given)
    : session(std::move(options)),
      log_level_(given.log_level),
      log_ctx_(given.log_ctx),
      log_(given.log) {}

void ContextState::Log(int32_t level, std::string_view text) {
  if (log_ == nullptr || level < log_level_) return;
  const std::lock_guard lock(log_mutex_);
  log_(log_ctx_, level, ToStr(text));
}

ChainCall ContextState::NewChainCall() {
  ChainCall call;
  call.cancel = &cancel;
  call.n_threads = session.n_threads();
  call.log = [this](int32_t level, std::string_view text) { Log(level, text); };
  return call;
}

ContextCall::ContextCall(std::shared_ptr<ContextState> state) : state_(std::move(state)) {
  if (state_->closed.load() || state_->busy.exchange(true)) return;
  claimed_ = true;
  before_ = std::make_unique<FloatingPoint>();
}

ContextCall::~ContextCall() {
  if (claimed_) state_->busy.store(false);
}

retort_status ContextCall::End(const Status& status) {
  state_->message = status.message();
  return static_cast<retort_status>(status.code());
}

namespace {

Status Create(const retort_context_options* options, retort_context** out) {
  retort_context_options known{};
  RETORT_RETURN_IF_ERROR(ReadStruct(options, "retort_context_options", known));
  RETORT_RETURN_IF_ERROR(
      CheckFlags(known.flags, RETORT_CONTEXT_BUILTINS_ONLY, "retort_context_options"));
  if (known.n_threads < 0) {
    return InvalidArgument("retort_context_options.n_threads is " +
                           std::to_string(known.n_threads) + "; 0 stands for all cores");
  }
  SessionOptions session;
  session.plugin_dir = ToView(known.plugin_dir);
  session.engine_path = ToView(known.engine_path);
  session.worker_path = ToView(known.worker_path);
  session.n_threads = known.n_threads;
  session.policy.lock_file = ToView(known.lock_file);
  session.policy.builtins_only = (known.flags & RETORT_CONTEXT_BUILTINS_ONLY) != 0;
  session.host_name = ToView(known.host_name);
  session.host_version = ToView(known.host_version);
  auto context = std::make_unique<retort_context>();
  context->state = std::make_shared<ContextState>(std::move(session), known);
  *out = context.release();
  return OkStatus();
}

// The reason of a failed create, to whoever can be told.
void Tell(const retort_context_options* options, const Status& status) {
  retort_context_options known{};
  if (options == nullptr || !ReadStruct(options, "", known).ok() || known.log == nullptr) return;
  known.log(known.log_ctx, RETORT_LOG_ERROR, ToStr(status.message()));
}

}  // namespace
}  // namespace retort::host

using retort::Code;
using retort::Status;
using retort::host::Guard;
using retort::host::RunCall;

extern "C" {

retort_status retort_context_create(const retort_context_options* options, retort_context** out) {
  if (out == nullptr) return RETORT_INVALID_ARGUMENT;
  *out = nullptr;
  const Status status = Guard([&] { return retort::host::Create(options, out); });
  if (!status.ok()) {
    (void)Guard([&]() -> Status {
      retort::host::Tell(options, status);
      return {};
    });
  }
  return static_cast<retort_status>(status.code());
}

void retort_context_destroy(retort_context* context) {
  if (context == nullptr) return;
  context->state->closed.store(true);
  (void)Guard([&]() -> Status {
    const std::unique_ptr<retort_context> owner(context);
    return {};
  });
}

retort_str retort_context_error(const retort_context* context) {
  if (context == nullptr) return {nullptr, 0};
  return retort::host::OptionalStr(context->state->message);
}

retort_status retort_context_load_plugin(retort_context* context, retort_str path) {
  if (context == nullptr) return RETORT_INVALID_ARGUMENT;
  const auto state = context->state;
  return RunCall(state, [&]() -> Status {
    RETORT_ASSIGN_OR_RETURN(const std::string file, retort::host::PathOf(path, "path"));
    RETORT_RETURN_IF_ERROR(state->session.EnsurePlugins());
    return state->session.plugins().LoadFile(file);
  });
}

retort_status retort_context_add_static(retort_context* context, const retort_entry* (*entry)(void),
                                        retort_str name) {
  if (context == nullptr) return RETORT_INVALID_ARGUMENT;
  const auto state = context->state;
  return RunCall(state, [&]() -> Status {
    const std::string called(retort::ToView(name));
    if (entry == nullptr) {
      return retort::InvalidArgument("entry: NULL; pass <library>_retort_plugin_entry_v1");
    }
    if (called.empty()) return retort::InvalidArgument("name: empty; name the linked library");
    RETORT_RETURN_IF_ERROR(state->session.EnsurePlugins());
    return state->session.plugins().AddStatic(entry(), called);
  });
}

void retort_cancel(retort_context* context) {
  if (context != nullptr) context->state->cancel.store(1, std::memory_order_relaxed);
}

const char* retort_running_plugin(void) { return retort::host::RunningPlugin(); }

const char* retort_version(void) { return RETORT_VERSION; }

const char* retort_status_name(retort_status status) {
  return retort::CodeName(static_cast<Code>(status)).data();
}

}  // extern "C"
