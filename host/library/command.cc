// Commands by name. Nothing here knows what a command does.
// SPDX-License-Identifier: Apache-2.0
#include "host/commands/command.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "host/library/context.h"
#include "host/library/edge.h"

namespace retort::host {
namespace {

constexpr std::string_view kBusy =
    "another call runs with this context, or this one came out of a callback; use a second context";

Outcome RunNamed(ContextState& state, const char* name, retort_str args,
                 const retort_command_io* io) {
  if (name == nullptr) return Outcome::Usage("a command without a name");
  retort_command_io known{};
  if (Status read = ReadStruct(io, "retort_command_io", known); !read.ok()) {
    return Outcome::Usage(std::move(read));
  }
  const Status flags =
      CheckFlags(known.flags, RETORT_IO_WATCHED | RETORT_IO_STREAM, "retort_command_io");
  if (!flags.ok()) return Outcome::Usage(flags);
  CommandIo sink(&known);
  return RunCommand(name, ToView(args),
                    {state.session, sink, state.cancel,
                     [&state](int32_t level, std::string_view text) { state.Log(level, text); }});
}

void Report(const Outcome& outcome, retort_str message, retort_command_result* result) {
  if (result == nullptr || result->struct_size < 2 * sizeof(uint32_t)) return;
  retort_command_result full{};
  full.struct_size = result->struct_size;
  full.outcome = outcome.code();
  full.status = static_cast<retort_status>(outcome.status().code());
  full.message = message;
  std::memcpy(result, &full, std::min<size_t>(result->struct_size, sizeof full));
}

}  // namespace
}  // namespace retort::host

using retort::Code;
using retort::Status;
using retort::host::Outcome;

extern "C" {

retort_status retort_command(retort_context* context, const char* name, retort_str args,
                             const retort_command_io* io, retort_command_result* result) {
  if (context == nullptr) return RETORT_INVALID_ARGUMENT;
  const auto state = context->state;
  Outcome outcome(Status(Code::kFailedPrecondition, ""));
  bool ran = false;
  const retort_status status = retort::host::RunCall(state, [&]() -> Status {
    ran = true;
    outcome = retort::host::Guard([&] { return retort::host::RunNamed(*state, name, args, io); });
    state->cancel = 0;
    return outcome.status();
  });
  const std::string_view message = ran ? std::string_view(state->message) : retort::host::kBusy;
  retort::host::Report(outcome, retort::host::OptionalStr(message), result);
  return status;
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
