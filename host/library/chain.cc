// SPDX-License-Identifier: Apache-2.0
#include "host/library/chain.h"

#include "core/io/jsonl.h"
#include "host/commands/lines.h"
#include "host/library/edge.h"

namespace retort::host {
namespace {

// JSON, or as on the command line ID or ID:CONFIG.
Result<json::Document> ReadEntriesText(std::string_view text) {
  if (text.empty()) return InvalidArgument("retort_chain_options.entries: none given");
  if (text.find_first_of("[{\"") == 0 || text.find_first_of(" \t\n") == 0) {
    return json::Document::Parse(text, "entries");
  }
  return ChainEntries({std::string(text)}, "entries");
}

}  // namespace

Result<ChainSettings> ReadChainSettings(const retort_context& context,
                                        const retort_chain_options* options, const char* stage) {
  retort_chain_options known{};
  RETORT_RETURN_IF_ERROR(ReadStruct(options, "retort_chain_options", known));
  RETORT_RETURN_IF_ERROR(CheckFlags(known.flags, 0, "retort_chain_options"));
  RETORT_ASSIGN_OR_RETURN(json::Document entries, ReadEntriesText(ToView(known.entries)));
  const RngKey key = RootKey(known.seed, stage);
  ChainSettings settings{std::move(entries), {key.hi, key.lo}, nullptr};
  if (known.tokenizer == nullptr) return settings;
  if (known.tokenizer->state != context.state) {
    return InvalidArgument("retort_chain_options.tokenizer: a model of another context");
  }
  settings.tokenizer = known.tokenizer->object;
  RETORT_RETURN_IF_ERROR(TokenizerOf(*settings.tokenizer->opened).status());
  return settings;
}

ChainCall CallOf(ContextState& state, const ChainSettings& settings) {
  ChainCall call = state.NewChainCall();
  call.key = settings.key;
  if (settings.tokenizer != nullptr) call.tokenizer = settings.tokenizer->opened->tokenizer.get();
  return call;
}

Status LinePipe::Check() const {
  if (in_ == nullptr || in_->read == nullptr) {
    return InvalidArgument("jsonl: NULL; give a reader with a read function");
  }
  return CheckSink(out_, "out");
}

retort_command_io LinePipe::Io() {
  retort_command_io io{};
  io.struct_size = sizeof io;
  io.ctx = this;
  io.line = [](void* ctx, retort_str line) -> int32_t {
    auto& self = *static_cast<LinePipe*>(ctx);
    self.failure_ = Guard([&]() -> Status {
      (self.line_ = ToView(line)) += '\n';
      return WriteAll(self.out_, self.line_);
    });
    return self.failure_.ok() ? 0 : 1;
  };
  io.read = [](void* ctx, void* data, uint64_t n) -> int64_t {
    const retort_reader& reader = *static_cast<LinePipe*>(ctx)->in_;
    const int64_t got = reader.read(reader.ctx, data, n);
    return got > static_cast<int64_t>(n) ? -1 : got;
  };
  return io;
}

}  // namespace retort::host
