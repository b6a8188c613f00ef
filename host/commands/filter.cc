// filter: a filter chain over samples or records; kept lines go on as they came, or rewritten.
// SPDX-License-Identifier: Apache-2.0
#include <functional>
#include <limits>
#include <string>
#include <utility>

#include "core/base/rng.h"
#include "core/io/filesystem.h"
#include "host/chain/filter_chain.h"
#include "host/commands/chain_lines.h"
#include "host/commands/groups.h"
#include "host/commands/lines.h"

namespace retort::host {
namespace {

constexpr size_t kChunk = 1024;
constexpr size_t kEverything = std::numeric_limits<size_t>::max();

// A kept line whose texts changed: ids and scores of the old text are gone.
Result<std::string> RewrittenLine(const std::string& line, const data::Sample& sample) {
  RETORT_ASSIGN_OR_RETURN(const json::Document document, ParseLine(line, "line"));
  const json::Value root = document.root();
  if (data::IsSampleLine(root)) return data::SampleToJson(sample);
  // A record: its columns, as the filter left them, with the new completion where it came from.
  RETORT_ASSIGN_OR_RETURN(const json::Document record, ParseLine(sample.record, "record"));
  const bool is_text = !root["completion"] && root["text"].is_string();
  const char* target = is_text ? "text" : "completion";
  json::Writer out;
  out.BeginObject();
  for (size_t i = 0; i < root.size(); ++i) {
    const std::string_view key = root.key_at(i);
    if (key == target) continue;
    const json::Value changed = record.root()[key];
    out.Key(key).Copy(changed ? changed : root.value_at(i));
  }
  for (size_t i = 0; i < record.root().size(); ++i) {
    const std::string_view key = record.root().key_at(i);
    if (key == target || key == "uid" || root[key]) continue;
    out.Key(key).Copy(record.root().value_at(i));
  }
  return out.Field(target, sample.completion).EndObject().Take();
}

Status WriteKept(CommandIo& io, const SampleChunk& chunk, const FilterOutcome& outcome) {
  for (size_t k = 0; k < outcome.kept.size(); ++k) {
    const std::string& line = chunk.lines[outcome.input[k]];
    if (outcome.rewritten[k] == 0) {
      RETORT_RETURN_IF_ERROR(io.Line(line));
      continue;
    }
    RETORT_ASSIGN_OR_RETURN(const std::string changed, RewrittenLine(line, outcome.kept[k]));
    RETORT_RETURN_IF_ERROR(io.Line(changed));
  }
  return OkStatus();
}

// One line for people: what each filter did.
std::string Summary(const FilterChain& chain) {
  std::string text;
  for (const FilterCounts& counts : chain.counts()) {
    if (!text.empty()) text += "; ";
    text += counts.name + ": " + std::to_string(counts.n_kept) + " of " +
            std::to_string(counts.n_in) + " kept";
    if (counts.n_rewritten > 0) text += ", " + std::to_string(counts.n_rewritten) + " rewritten";
    if (counts.n_errors > 0) text += ", " + std::to_string(counts.n_errors) + " not judged";
  }
  return text;
}

// The audit file, whole or not at all; without a path nothing.
class Audit {
 public:
  static Result<Audit> Open(const std::string& path) {
    Audit audit;
    if (path.empty()) return audit;
    RETORT_ASSIGN_OR_RETURN(io::DurableFile file,
                            io::DurableFile::Create(io::RealFileSystem(), path));
    audit.file_.emplace(std::move(file));
    return audit;
  }
  Status Add(const AuditEntry& entry) {
    return file_.has_value() ? file_->Append(entry.ToJson() + "\n") : OkStatus();
  }
  Status Publish() { return file_.has_value() ? file_->Publish().status() : OkStatus(); }

 private:
  std::optional<io::DurableFile> file_;
};

}  // namespace

Status FilterLines(FilterChain& chain, InputLines input, const ChainCall& call, CommandIo& io,
                   const std::function<Status(const AuditEntry&)>& audit) {
  GroupReader reader(std::move(input), chain.streams() ? kChunk : kEverything);
  for (double done = 0;;) {
    RETORT_ASSIGN_OR_RETURN(SampleChunk chunk, reader.Next(call.cancel));
    if (chunk.samples.empty()) break;
    done += static_cast<double>(chunk.samples.size());
    RETORT_ASSIGN_OR_RETURN(const FilterOutcome outcome, chain.Run(std::move(chunk.samples), call));
    RETORT_RETURN_IF_ERROR(WriteKept(io, chunk, outcome));
    for (const AuditEntry& entry : outcome.audit) {
      if (audit) RETORT_RETURN_IF_ERROR(audit(entry));
    }
    io.Progress({.what = "filter",
                 .done = done,
                 .total = 0,
                 .unit = "samples",
                 .fraction = reader.fraction()});
  }
  io.Message(Summary(chain));
  return chain.Finish();
}

Outcome RunFilter(const CommandCall& call) {
  const Result<json::Document> entries = ChainEntries(call.args.Texts("filter"), "filter");
  if (!entries.ok()) return Outcome::Usage(entries.status());
  RETORT_RETURN_IF_ERROR(call.session.EnsurePlugins());
  const RngKey key = RootKey(static_cast<uint64_t>(call.args.Int("seed", 0)), "filter");
  Result<FilterChain> chain =
      FilterChain::Create(call.session, entries->root(), {key.hi, key.lo}, "filter");
  if (!chain.ok()) return ChainFailure(chain.status());
  RETORT_ASSIGN_OR_RETURN(const text::Tokenizer* tokenizer, OpenTokenizer(call));
  RETORT_ASSIGN_OR_RETURN(InputLines input, InputLines::Open(call.args.Text("input"), call.io));
  RETORT_ASSIGN_OR_RETURN(Audit audit, Audit::Open(call.args.Text("audit")));

  ChainCall chain_call;
  chain_call.cancel = &call.cancel;
  chain_call.key = {key.hi, key.lo};
  chain_call.n_threads = call.n_threads;
  chain_call.tokenizer = tokenizer;
  chain_call.log = call.log;
  const Status filtered =
      FilterLines(*chain, std::move(input), chain_call, call.io,
                  [&audit](const AuditEntry& entry) { return audit.Add(entry); });
  // The audit of a run that a fuse ended says why.
  if (filtered.ok() || filtered.code() == Code::kAborted) RETORT_RETURN_IF_ERROR(audit.Publish());
  return filtered;
}

}  // namespace retort::host
