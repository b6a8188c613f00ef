// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/stages/teacher_pass.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/clock.h"
#include "core/base/fault.h"
#include "host/pipeline/stage_teacher.h"

namespace retort::host {
namespace {

// The first token that is predicted and trained; examples have one.
int64_t FirstTrained(const data::SftExample& example) {
  const auto begin = example.trained.begin();
  return std::find(begin + 1, example.trained.end(), uint8_t{1}) - begin;
}

// The rows of trained tokens out of those of all from the first one on.
void AppendTrained(const data::SftExample& example, const engine::TeacherRows& scored,
                   engine::TeacherRows* rows) {
  const auto k = static_cast<std::ptrdiff_t>(scored.k);
  const int64_t first = FirstTrained(example);
  for (int64_t t = first; t < static_cast<int64_t>(example.ids.size()); ++t) {
    if (example.trained[static_cast<size_t>(t)] == 0) continue;
    const auto ids = scored.ids.begin() + (t - first) * k;
    const auto logp = scored.logp.begin() + (t - first) * k;
    rows->ids.insert(rows->ids.end(), ids, ids + k);
    rows->logp.insert(rows->logp.end(), logp, logp + k);
    rows->tail.push_back(scored.tail[static_cast<size_t>(t - first)]);
  }
}

class TeacherPass {
 public:
  TeacherPass(StageRun& run, const StageModel& teacher, const TeacherCacheIdentity& identity,
              TeacherCache& cache)
      : run_(run), teacher_(teacher), identity_(identity), cache_(cache) {}

  Status Run() {
    std::vector<size_t> missing;
    for (size_t shard = 0; shard < cache_.n_shards(); ++shard) {
      const Status there = cache_.Map(shard);
      if (there.ok()) continue;
      if (io::IsOfTheSystem(there)) return there;
      if (there.code() == Code::kDataLoss) run_.Warn(there.message() + "; made anew");
      missing.push_back(shard);
      total_ += static_cast<double>(cache_.ExamplesOf(shard).size());
    }
    if (missing.empty()) return OkStatus();
    if (missing.size() < cache_.n_shards()) {
      run_.Resumed(std::to_string(cache_.n_shards() - missing.size()) + " of " +
                   std::to_string(cache_.n_shards()) + " parts of the teacher's cache were there");
    }
    RETORT_ASSIGN_OR_RETURN(weights_, run_.session->LoadModel(*teacher_.opened, teacher_.storage));
    run_.NoteWeights(teacher_.label, *weights_);
    for (const size_t shard : missing) {
      if (run_.cancelled()) return run_.CancelledStatus();
      RETORT_RETURN_IF_ERROR(Make(shard));
    }
    return OkStatus();
  }

 private:
  Status Make(size_t shard) {
    const std::span<const data::SftExample> examples = cache_.ExamplesOf(shard);
    std::vector<engine::ScoreRequest> requests;
    int64_t tokens = 0;
    for (const data::SftExample& example : examples) {
      requests.push_back({.ids = example.ids,
                          .first = FirstTrained(example),
                          .adapter = teacher_.opened->adapter_index(),
                          .temperature = identity_.temperature,
                          .top_k = identity_.k});
      tokens += static_cast<int64_t>(example.ids.size());
    }
    Stopwatch watch;
    const auto report = [&](int64_t done) {
      Report(done_ + static_cast<double>(done) / static_cast<double>(tokens) *
                         static_cast<double>(examples.size()),
             static_cast<double>(done) / std::max(watch.Seconds(), 1e-9));
    };
    Result<std::vector<engine::ScoreResult>> scored =
        weights_->Score(requests, 0, run_.options->cancel, report);
    if (scored.status().code() == Code::kCancelled) return run_.CancelledStatus();
    RETORT_RETURN_IF_ERROR(scored.status());
    engine::TeacherRows rows = {.k = identity_.k, .ids = {}, .logp = {}, .tail = {}};
    for (size_t i = 0; i < examples.size(); ++i) {
      AppendTrained(examples[i], (*scored)[i].rows, &rows);
      (*scored)[i] = {};
    }
    RETORT_RETURN_IF_ERROR(cache_.Write(shard, rows));
    run_.numbers.Add("teacher_tokens", static_cast<double>(tokens));
    run_.numbers.Add("teacher_seconds", watch.Seconds());
    done_ += static_cast<double>(examples.size());
    FaultPoint("teacher.shard");
    return cache_.Map(shard);
  }

  void Report(double done, double rate) {
    run_.Emit({.kind = RunEvent::Kind::kProgress,
               .done = done,
               .total = total_,
               .unit = "examples (teacher)",
               .rate = rate});
  }

  StageRun& run_;
  const StageModel& teacher_;
  const TeacherCacheIdentity& identity_;
  TeacherCache& cache_;
  std::unique_ptr<engine::Model> weights_;
  double done_ = 0, total_ = 0;  // examples to be scored
};

}  // namespace

Result<TeacherCache> FillTeacherCache(StageRun& run, const StageModel& teacher,
                                      std::span<const data::SftExample> examples,
                                      const std::string& part) {
  const DistillOptions& config = run.stage->distill;
  RETORT_ASSIGN_OR_RETURN(const TeacherWants wants, WantsOfTeacher(*run.session, *run.stage));
  TeacherCacheIdentity identity = {.tokenizer = teacher.opened->tokenizer->hash(),
                                   .temperature = wants.temperature,
                                   .k = static_cast<int32_t>(config.teacher_top_k),
                                   .examples = HashExamples(examples)};
  RETORT_ASSIGN_OR_RETURN(identity.teacher, HashTeacher(teacher));
  const std::string folder =
      config.teacher_cache.empty()
          ? io::Join(io::Join(run.folder->path(), "teacher_cache"), identity.Hash().substr(0, 16))
          : (part.empty() ? config.teacher_cache : io::Join(config.teacher_cache, part));
  RETORT_ASSIGN_OR_RETURN(TeacherCache cache,
                          TeacherCache::Open(run.folder->fs(), folder, identity, examples));
  RETORT_RETURN_IF_ERROR(TeacherPass(run, teacher, identity, cache).Run());
  const auto rows = static_cast<double>(cache.rows()), bytes = static_cast<double>(cache.bytes());
  run.numbers.Set("teacher_cache_rows", rows);
  run.numbers.Set("teacher_cache_bytes", bytes);
  run.numbers.Set("teacher_cache_bytes_per_token", bytes / std::max(rows, 1.0));
  return cache;
}

}  // namespace retort::host
