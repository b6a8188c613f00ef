// score: a reward chain over samples.
// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "core/base/rng.h"
#include "host/chain/reward_chain.h"
#include "host/commands/chain_lines.h"
#include "host/commands/groups.h"
#include "host/commands/lines.h"

namespace retort::host {
namespace {

constexpr size_t kChunk = 256;

Status WriteScored(CommandIo& io, const SampleChunk& chunk, const RewardChain& chain,
                   const RewardTable& table) {
  for (size_t i = 0; i < chunk.lines.size(); ++i) {
    RETORT_ASSIGN_OR_RETURN(const json::Document line, ParseLine(chunk.lines[i], "line"));
    json::Writer out;
    out.BeginObject();
    CopyFields(line.root(), {"rewards", "status", "reward", "info"}, out);
    chain.WriteFields(table, i, out);
    RETORT_RETURN_IF_ERROR(io.Line(out.EndObject().text()));
  }
  return OkStatus();
}

}  // namespace

Status ScoreLines(RewardChain& chain, InputLines input, const ChainCall& call, CommandIo& io) {
  GroupReader reader(std::move(input), kChunk);
  for (double done = 0;;) {
    RETORT_ASSIGN_OR_RETURN(const SampleChunk chunk, reader.Next(call.cancel));
    if (chunk.samples.empty()) break;
    RETORT_ASSIGN_OR_RETURN(const RewardTable table, chain.Score(chunk.samples, call));
    RETORT_RETURN_IF_ERROR(WriteScored(io, chunk, chain, table));
    done += static_cast<double>(chunk.samples.size());
    io.Progress({.what = "score",
                 .done = done,
                 .total = 0,
                 .unit = "samples",
                 .fraction = reader.fraction()});
  }
  chain.LogFailures(call);
  return chain.Finish();
}

Outcome RunScore(const CommandCall& call) {
  const Result<json::Document> entries = ChainEntries(call.args.Texts("reward"), "reward");
  if (!entries.ok()) return Outcome::Usage(entries.status());
  RETORT_RETURN_IF_ERROR(call.session.EnsurePlugins());
  const RngKey key = RootKey(static_cast<uint64_t>(call.args.Int("seed", 0)), "score");
  Result<RewardChain> chain =
      RewardChain::Create(call.session, entries->root(), {key.hi, key.lo}, "reward");
  if (!chain.ok()) return ChainFailure(chain.status());
  RETORT_ASSIGN_OR_RETURN(const text::Tokenizer* tokenizer, OpenTokenizer(call));
  RETORT_ASSIGN_OR_RETURN(InputLines input, InputLines::Open(call.args.Text("input"), call.io));

  ChainCall chain_call;
  chain_call.cancel = &call.cancel;
  chain_call.key = {key.hi, key.lo};
  chain_call.n_threads = call.n_threads;
  chain_call.tokenizer = tokenizer;
  chain_call.log = call.log;
  return ScoreLines(*chain, std::move(input), chain_call, call.io);
}

}  // namespace retort::host
