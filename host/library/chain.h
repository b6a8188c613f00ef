// What the two kinds of chain handles share: their settings, and lines through callbacks.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "core/base/rng.h"
#include "core/base/status.h"
#include "core/json/json.h"
#include "host/commands/io.h"
#include "host/library/context.h"
#include "host/library/model.h"

namespace retort::host {

struct ChainSettings {
  json::Document entries;
  retort_key key{};
  std::shared_ptr<ModelObject> tokenizer;  // or NULL
};

// `stage` names the random numbers, "score" or "filter": the same as of the command.
Result<ChainSettings> ReadChainSettings(const retort_context& context,
                                        const retort_chain_options* options, const char* stage);

// For a call with a chain: everything of the context, and the tokenizer.
ChainCall CallOf(ContextState& state, const ChainSettings& settings);

// Lines from a reader and to a sink, for the code behind the commands.
class LinePipe {
 public:
  LinePipe(const retort_reader* in, const retort_sink* out) : in_(in), out_(out) {}
  LinePipe(const LinePipe&) = delete;
  LinePipe& operator=(const LinePipe&) = delete;

  // INVALID_ARGUMENT without a reader or a sink.
  Status Check() const;
  retort_command_io Io();
  // `status`, or why a line could not be written.
  Status Outcome(Status status) const { return failure_.ok() ? std::move(status) : failure_; }

 private:
  const retort_reader* in_;
  const retort_sink* out_;
  std::string line_;
  Status failure_;
};

}  // namespace retort::host
