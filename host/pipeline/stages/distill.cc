// Records and samples to a checkpoint by a teacher's distributions: from the teacher beside the
// student, or from the cache of its likeliest tokens.
// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "host/pipeline/stage.h"
#include "host/pipeline/stage_teacher.h"
#include "host/pipeline/stages/own_samples.h"
#include "host/pipeline/stages/sft_data.h"
#include "host/pipeline/stages/teacher_pass.h"
#include "host/pipeline/stages/training_loop.h"

namespace retort::host {
namespace {

Result<StageOutput> TrainBeside(StageRun& run, const StageModel& student, const StageModel& teacher,
                                SftData& data, const SftEvalData& held_back) {
  RETORT_ASSIGN_OR_RETURN(const std::unique_ptr<engine::Model> weights,
                          run.session->LoadModel(*teacher.opened, teacher.storage));
  run.NoteWeights(teacher.label, *weights);
  engine::TrainerOptions options;
  options.teacher = weights.get();
  OwnSamples own(run, student, data.build.examples);
  const WindowMaker as_they_are = [](std::vector<data::PackedBatch> batches, int64_t,
                                     StageTrainer&) {
    return Result(ToMicroBatches(std::move(batches)));
  };
  const WindowMaker make_window =
      [&](std::vector<data::PackedBatch> batches, int64_t step,
          StageTrainer& trainer) -> Result<std::vector<engine::MicroBatch>> {
    if (own.IsDue(step)) return own.Draw(batches, step, trainer);
    return ToMicroBatches(std::move(batches));
  };
  return TrainOn(run, student, data, options, make_window, {held_back.batches, as_they_are});
}

// Windows with what the cache has of their tokens.
WindowMaker FromCache(const TeacherCache& cache) {
  return [&cache](std::vector<data::PackedBatch> batches, int64_t,
                  StageTrainer& trainer) -> Result<std::vector<engine::MicroBatch>> {
    const int64_t vocab = trainer.model().graph().vocab();
    std::vector<engine::TeacherRows> rows;
    for (const data::PackedBatch& batch : batches) {
      RETORT_ASSIGN_OR_RETURN(engine::TeacherRows one, cache.RowsOf(batch.pieces, vocab));
      rows.push_back(std::move(one));
    }
    std::vector<engine::MicroBatch> window = ToMicroBatches(std::move(batches));
    for (size_t i = 0; i < window.size(); ++i) window[i].teacher = std::move(rows[i]);
    return window;
  };
}

Result<StageOutput> TrainCached(StageRun& run, const StageModel& student, const StageModel& teacher,
                                SftData& data, const SftEvalData& held_back) {
  std::optional<TeacherCache> eval_cache;
  HeldBack evaluated = {.batches = held_back.batches};
  if (!held_back.batches.empty()) {
    RETORT_ASSIGN_OR_RETURN(eval_cache,
                            FillTeacherCache(run, teacher, held_back.build.examples, "evaluation"));
    evaluated.make_window = FromCache(*eval_cache);
  }
  RETORT_ASSIGN_OR_RETURN(const TeacherCache cache,
                          FillTeacherCache(run, teacher, data.build.examples, ""));
  return TrainOn(run, student, data, {}, FromCache(cache), evaluated);
}

}  // namespace

Result<StageOutput> RunDistill(StageRun& run) {
  const SftStage& config = run.stage->sft;
  const DistillOptions& distill = run.stage->distill;
  const std::string& path = run.folder->path();
  RETORT_ASSIGN_OR_RETURN(const StageModel student,
                          OpenStageModel(*run.session, *run.pipeline, config.model, path));
  RETORT_ASSIGN_OR_RETURN(const StageModel teacher,
                          OpenStageModel(*run.session, *run.pipeline, distill.teacher, path));
  RETORT_RETURN_IF_ERROR(CheckSameTokenizer(*student.opened, *teacher.opened));
  RETORT_ASSIGN_OR_RETURN(const std::unique_ptr<SftData> data, LoadSftData(run, config, student));
  RETORT_ASSIGN_OR_RETURN(const std::unique_ptr<SftEvalData> held_back,
                          LoadSftEvalData(run, config, student));
  return distill.teacher_top_k > 0 ? TrainCached(run, student, teacher, *data, *held_back)
                                   : TrainBeside(run, student, teacher, *data, *held_back);
}

}  // namespace retort::host
