// Samples to fewer samples: the chain's entries in order, groups kept together, every drop with
// its reason in audit.jsonl. Quick beside the stages around it, so a stopped one starts anew.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <iterator>
#include <map>
#include <optional>
#include <utility>

#include "core/base/threads.h"
#include "core/json/json.h"
#include "host/chain/filter_chain.h"
#include "host/pipeline/stage.h"
#include "host/pipeline/stage_data.h"
#include "host/pipeline/stage_models.h"
#include "host/pipeline/stage_rewards.h"

namespace retort::host {
namespace {

constexpr size_t kChunkSamples = 256;

// The stage's `tokenizer`, else that of the model that wrote the samples.
Result<const text::Tokenizer*> TokenizerFor(StageRun& run) {
  const FilterStage& config = run.stage->filter;
  std::optional<ModelRef> ref = config.tokenizer;
  for (const DataRef& data : config.data) {
    const StageConfig* stage = data.stage.empty() ? nullptr : run.pipeline->FindStage(data.stage);
    const bool by_model =
        stage != nullptr && stage->kind == StageKind::kGenerate && !stage->generate.generator;
    if (!ref && by_model) ref = stage->generate.model;
  }
  if (!ref) return static_cast<const text::Tokenizer*>(nullptr);
  RETORT_ASSIGN_OR_RETURN(const StageModel model,
                          OpenStageModel(*run.session, *run.pipeline, *ref, run.folder->path()));
  return static_cast<const text::Tokenizer*>(model.opened->tokenizer.get());
}

// Whole groups of about a chunk's size; everything at once for a chain that must see it all.
std::vector<std::vector<data::Sample>> Chunks(std::vector<data::Sample> samples, bool streams) {
  std::vector<std::vector<data::Sample>> chunks;
  if (!streams) {
    chunks.push_back(std::move(samples));
    return chunks;
  }
  const std::vector<GroupSpan> groups = GroupsOf(samples);
  for (const GroupSpan& group : groups) {
    if (chunks.empty() || chunks.back().size() >= kChunkSamples) chunks.emplace_back();
    const auto first = samples.begin() + static_cast<ptrdiff_t>(group.first);
    std::move(first, first + static_cast<ptrdiff_t>(group.n), std::back_inserter(chunks.back()));
  }
  return chunks;
}

struct Writers {
  io::DurableFile kept, audit;
  size_t n_kept = 0;
  std::map<std::string, int64_t> dropped_by;  // plugin -> samples
};

Status WriteOutcome(const FilterOutcome& outcome, Writers* writers) {
  for (const data::Sample& sample : outcome.kept) {
    RETORT_RETURN_IF_ERROR(writers->kept.Append(data::SampleToJson(sample) + "\n"));
  }
  for (const AuditEntry& entry : outcome.audit) {
    RETORT_RETURN_IF_ERROR(writers->audit.Append(entry.ToJson() + "\n"));
    ++writers->dropped_by[entry.plugin];
  }
  writers->n_kept += outcome.kept.size();
  return OkStatus();
}

Status RunChain(StageRun& run, FilterChain& chain, std::vector<data::Sample> samples,
                Writers* writers) {
  const double total = static_cast<double>(samples.size());
  double done = 0;
  ChainCall call;
  call.cancel = run.options->cancel;
  call.key = {run.key().hi, run.key().lo};
  call.n_threads = ResolveThreads(static_cast<int32_t>(run.pipeline->threads));
  RETORT_ASSIGN_OR_RETURN(call.tokenizer, TokenizerFor(run));
  call.log = [&run](int32_t level, std::string_view message) {
    constexpr int32_t kWarning = 2;
    if (level >= kWarning) run.Warn(std::string(message));
  };
  const auto report = [&](double now) {
    run.Emit({.kind = RunEvent::Kind::kProgress, .done = now, .total = total, .unit = "samples"});
  };
  call.on_progress = [&](int64_t n) { report(done + static_cast<double>(n)); };
  for (std::vector<data::Sample>& chunk : Chunks(std::move(samples), chain.streams())) {
    if (run.cancelled()) return run.CancelledStatus();
    const size_t size = chunk.size();
    RETORT_ASSIGN_OR_RETURN(const FilterOutcome outcome, chain.Run(std::move(chunk), call));
    RETORT_RETURN_IF_ERROR(WriteOutcome(outcome, writers));
    done += static_cast<double>(size);
    report(done);
  }
  return chain.Finish();
}

Result<io::FileDigest> Publish(io::DurableFile& file, const char* name) {
  RETORT_ASSIGN_OR_RETURN(io::FileDigest digest, file.Publish());
  digest.name = name;
  return digest;
}

}  // namespace

Result<StageOutput> RunFilter(StageRun& run) {
  const FilterStage& config = run.stage->filter;
  RETORT_ASSIGN_OR_RETURN(
      std::vector<StageData> data,
      LoadData(*run.session, *run.pipeline, config.data, config.limit, run.folder->path()));
  RETORT_ASSIGN_OR_RETURN(std::vector<data::Sample> samples, AsSamples(std::move(data)));
  RETORT_ASSIGN_OR_RETURN(const json::Document entries,
                          ChainEntriesOf(config.filters, *run.pipeline, run.folder->path()));
  RETORT_ASSIGN_OR_RETURN(FilterChain chain, FilterChain::Create(*run.session, entries.root(),
                                                                 {run.key().hi, run.key().lo},
                                                                 config.filters.key_path));
  io::FileSystem& fs = run.folder->fs();
  RETORT_ASSIGN_OR_RETURN(io::DurableFile kept,
                          io::DurableFile::Create(fs, io::Join(run.dir, "kept.jsonl")));
  RETORT_ASSIGN_OR_RETURN(io::DurableFile audit,
                          io::DurableFile::Create(fs, io::Join(run.dir, "audit.jsonl")));
  Writers writers = {.kept = std::move(kept), .audit = std::move(audit), .dropped_by = {}};
  const size_t n_in = samples.size();
  RETORT_RETURN_IF_ERROR(RunChain(run, chain, std::move(samples), &writers));
  StageOutput output;
  RETORT_ASSIGN_OR_RETURN(io::FileDigest digest, Publish(writers.audit, "audit.jsonl"));
  output.files.push_back(std::move(digest));
  RETORT_ASSIGN_OR_RETURN(digest, Publish(writers.kept, "kept.jsonl"));
  output.files.push_back(std::move(digest));
  run.numbers.Set("samples", static_cast<double>(n_in));
  run.numbers.Set("kept", static_cast<double>(writers.n_kept));
  for (const auto& [plugin, n] : writers.dropped_by) {
    run.numbers.Set("dropped/" + plugin, static_cast<double>(n));
  }
  for (const FilterCounts& n : chain.counts()) run.numbers.AddFailures(n.name, n.n_errors, 0);
  for (const RewardCounts& n : chain.reward_counts()) {
    run.numbers.AddFailures(n.name, n.n_errors, n.n_timeouts);
  }
  if (writers.n_kept == 0) run.Warn("nothing was kept of " + std::to_string(n_in) + " samples");
  return output;
}

}  // namespace retort::host
