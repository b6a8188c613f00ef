// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/sample_job.h"

#include <algorithm>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/data/sample.h"
#include "host/pipeline/ordered_samples.h"

namespace retort::host {
namespace {

// Collects completions as they come, writes them in order.
class OrderedWriter {
 public:
  OrderedWriter(StageRun& run, const SampleJob& job, const PreparedPrompts& prepared,
                OrderedSamples file)
      : run_(run), job_(job), prepared_(prepared), file_(std::move(file)) {
    for (size_t i = 0; i < job.records.size(); ++i) record_of_[job.records[i].uid] = i;
  }

  void Take(const engine::Completion& completion) {
    Mirror();
    if (completion.finish == engine::Finish::kCancelled) return;
    const size_t record = record_of_.at(completion.uid);
    const size_t position = SampleOrder{job_.records, job_.samples}.At(record, completion.index);
    if (file_.Has(position)) return;  // written before the stop
    if (completion.finish == engine::Finish::kError && errors_++ == 0) {
      run_.Warn(job_.records[record].where + ": " + completion.error);
    }
    if (status_.ok()) {
      status_ =
          file_.Add(position, data::SampleToJson(MakeSample(job_, prepared_, record, completion)));
    }
    if (!status_.ok()) stop_.store(1);
    Report();
  }

  void Progress(int64_t tokens) {
    Mirror();
    tokens_ = tokens;
    Report();
  }

  Status Finish() {
    RETORT_RETURN_IF_ERROR(status_);
    return file_.Sync();
  }
  const engine::Cancel* stop() const { return &stop_; }
  int64_t errors() const { return errors_; }
  void StartRate() { rate_clock_.Restart(); }

 private:
  // The engine polls one flag: the caller's wish and our own failure meet in it.
  void Mirror() {
    if (run_.cancelled()) stop_.store(1);
  }

  void Report() {
    const double seconds = rate_clock_.Seconds();
    run_.Emit(
        {.kind = RunEvent::Kind::kProgress,
         .done = static_cast<double>(file_.taken()),
         .total = static_cast<double>(job_.records.size()) * static_cast<double>(job_.samples),
         .unit = job_.unit,
         .rate = seconds > 0 ? static_cast<double>(tokens_) / seconds : 0});
  }

  StageRun& run_;
  const SampleJob& job_;
  const PreparedPrompts& prepared_;
  OrderedSamples file_;
  std::unordered_map<uint64_t, size_t> record_of_;
  engine::Cancel stop_{0};
  Status status_;
  int64_t errors_ = 0, tokens_ = 0;
  Stopwatch rate_clock_;
};

}  // namespace

Status WriteSamples(StageRun& run, const SampleJob& job, const std::string& path) {
  const SampleOrder order = {job.records, job.samples};
  RETORT_ASSIGN_OR_RETURN(OrderedSamples file, OrderedSamples::Open(run.folder->fs(), path, order));
  const size_t done = file.written(), total = order.total();
  if (done > 0 && done < total) {
    run.Resumed(std::to_string(done) + " of " + std::to_string(total) + " samples were there");
  }
  if (done == total) return OkStatus();
  RETORT_ASSIGN_OR_RETURN(const PreparedPrompts prepared, PreparePrompts(job));
  const std::vector<engine::GenerateRequest> requests =
      MakeRequests(job, prepared, done / static_cast<size_t>(job.samples));
  OrderedWriter writer(run, job, prepared, std::move(file));
  if (run.cancelled()) return run.CancelledStatus();
  RETORT_ASSIGN_OR_RETURN(engine::GenerateOptions options, OptionsOf(job));
  options.on_done = [&](const engine::Completion& c) { writer.Take(c); };
  options.on_progress = [&](int64_t tokens) { writer.Progress(tokens); };
  options.cancel = writer.stop();
  writer.StartRate();
  const Result<engine::GenerateStats> stats = job.weights->Generate(requests, options);
  if (stats.ok()) AddStats(*stats, &run.numbers);
  RETORT_RETURN_IF_ERROR(writer.Finish());
  if (run.cancelled()) return run.CancelledStatus();
  if (writer.errors() > 0) run.numbers.Add("errors", static_cast<double>(writer.errors()));
  return stats.status();
}

}  // namespace retort::host
