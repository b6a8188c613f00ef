// Pipelines: loaded from text, planned, run whole and in steps, stopped and continued.
// SPDX-License-Identifier: Apache-2.0
#include <thread>

#include "tests/unit/library/host_api.h"

namespace retort::host {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
namespace fs = std::filesystem;

// Events as "kind stage", progress left out; metrics by their step.
struct Events {
  std::vector<std::string> seen;
  std::vector<int64_t> steps;
  size_t n_progress = 0;
  retort_context* cancel_at_metric = nullptr;
  retort_status failed = RETORT_OK;
  std::thread canceller;

  retort_run_options Options() {
    auto options = Sized<retort_run_options>();
    options.event_ctx = this;
    options.event = [](void* ctx, const retort_run_event* event) {
      static_cast<Events*>(ctx)->Take(*event);
    };
    return options;
  }
  void Take(const retort_run_event& event) {
    const json::Document json = json::Document::Parse(Text(event.json), "event").value();
    EXPECT_EQ(json.root()["stage"].StringOr(""), Text(event.stage));
    EXPECT_LT(event.stage_index, event.n_stages);
    switch (event.kind) {
      case RETORT_RUN_STAGE_STARTED: return Note("started ", event);
      case RETORT_RUN_STAGE_RESUMED: return Note("resumed ", event);
      case RETORT_RUN_STAGE_SKIPPED: return Note("skipped ", event);
      case RETORT_RUN_STAGE_FINISHED: return Note("finished ", event);
      case RETORT_RUN_STAGE_FAILED: failed = event.status; return Note("failed ", event);
      case RETORT_RUN_PROGRESS: ++n_progress; return;
      case RETORT_RUN_WARNING: EXPECT_NE(event.text.len, 0u); return;  // "2 records are too long"
      case RETORT_RUN_METRIC: break;
    }
    EXPECT_TRUE(json.root()["loss"]);
    steps.push_back(event.step);
    if (cancel_at_metric != nullptr && !canceller.joinable()) {
      canceller = std::thread([context = cancel_at_metric] { retort_cancel(context); });
      canceller.join();
      canceller = std::thread([] {});
    }
  }
  void Note(const char* what, const retort_run_event& event) {
    seen.push_back(what + Text(event.stage));
  }
  ~Events() {
    if (canceller.joinable()) canceller.join();
  }
};

const auto kAllStages = ElementsAre("started cot", "finished cot", "started clean",
                                    "finished clean", "started sft", "finished sft");

TEST(PipelineHandle, RunsWithEventsAndASummary) {
  const Context context = NewContext();
  const std::string output = Scratch();
  const Pipeline pipeline = LoadText(context, TinyPipeline(output));
  Collected plan, summary;
  const retort_sink plan_sink = plan.sink(), summary_sink = summary.sink();
  EXPECT_RETORT_OK(context, retort_pipeline_plan(pipeline.get(), &plan_sink));
  const json::Document planned = json::Document::Parse(plan.text, "plan").value();
  EXPECT_EQ(planned.root()["stages"].size(), 3u);
  EXPECT_TRUE(fs::is_empty(output));  // a plan writes nothing

  Events events;
  const retort_run_options options = events.Options();
  EXPECT_RETORT_OK(context, retort_pipeline_run(pipeline.get(), &options, &summary_sink));
  EXPECT_THAT(events.seen, kAllStages);
  EXPECT_THAT(events.steps, ElementsAre(1, 2, 3, 4));
  EXPECT_GT(events.n_progress, 0u);
  const json::Document told = json::Document::Parse(summary.text, "summary").value();
  EXPECT_EQ(told.root()["stages"].size(), 3u) << summary.text;

  Events again;
  const retort_run_options more = again.Options();
  EXPECT_RETORT_OK(context, retort_pipeline_run(pipeline.get(), &more, nullptr));
  EXPECT_THAT(again.seen, ElementsAre("skipped cot", "skipped clean", "skipped sft"));
}

TEST(PipelineHandle, StepsRunOneStageEach) {
  const Context context = NewContext();
  const std::string output = Scratch();
  Pipeline pipeline = LoadText(context, TinyPipeline(output));
  Events events;
  const retort_run_options options = events.Options();
  retort_run* out = nullptr;
  EXPECT_RETORT_OK(context, retort_run_start(pipeline.get(), &options, &out));
  const RunHandle run(out);
  EXPECT_THAT(events.seen, ElementsAre());
  // The folder is held: nobody else runs in it.
  EXPECT_EQ(retort_pipeline_run(pipeline.get(), nullptr, nullptr), RETORT_FAILED_PRECONDITION);
  EXPECT_THAT(ErrorOf(context), HasSubstr(output));
  pipeline.reset();
  int32_t more = 0;
  EXPECT_RETORT_OK(context, retort_run_step(run.get(), &more));
  EXPECT_EQ(more, 1);
  EXPECT_THAT(events.seen, ElementsAre("started cot", "finished cot"));
  EXPECT_RETORT_OK(context, retort_run_step(run.get(), &more));
  Collected summary;
  const retort_sink sink = summary.sink();
  EXPECT_RETORT_OK(context, retort_run_summary(run.get(), &sink));
  EXPECT_EQ(json::Document::Parse(summary.text, "summary").value().root()["stages"].size(), 2u);
  EXPECT_RETORT_OK(context, retort_run_step(run.get(), &more));
  EXPECT_EQ(more, 0);
  EXPECT_THAT(events.seen, kAllStages);
  EXPECT_RETORT_OK(context, retort_run_step(run.get(), &more));  // nothing left
  EXPECT_EQ(more, 0);
  EXPECT_EQ(events.seen.size(), 6u);
}

TEST(PipelineHandle, AStoppedStepGoesOnFromWhereItWas) {
  const Context context = NewContext();
  const std::string output = Scratch();
  const Pipeline pipeline = LoadText(context, TinyPipeline(output));
  Events events;
  events.cancel_at_metric = context.get();
  retort_run_options options = events.Options();
  retort_run* out = nullptr;
  EXPECT_RETORT_OK(context, retort_run_start(pipeline.get(), &options, &out));
  const RunHandle run(out);
  EXPECT_RETORT_OK(context, retort_run_step(run.get(), nullptr));
  EXPECT_RETORT_OK(context, retort_run_step(run.get(), nullptr));
  EXPECT_EQ(retort_run_step(run.get(), nullptr), RETORT_CANCELLED);
  EXPECT_EQ(events.failed, RETORT_CANCELLED);
  EXPECT_THAT(events.seen, Contains("failed sft"));
  int32_t more = 1;
  EXPECT_RETORT_OK(context, retort_run_step(run.get(), &more));
  EXPECT_EQ(more, 0);
  EXPECT_EQ(events.seen.back(), "finished sft");
  // The same loss per step as in one go: the next run finds nothing to do.
  Events again;
  options = again.Options();
  const Context second = NewContext();
  const Pipeline same = LoadText(second, TinyPipeline(output));
  EXPECT_EQ(retort_pipeline_run(same.get(), &options, nullptr), RETORT_FAILED_PRECONDITION);
}

TEST(PipelineHandle, OptionsSelectStages) {
  const Context context = NewContext();
  const std::string output = Scratch();
  const Pipeline pipeline = LoadText(context, TinyPipeline(output));
  Events events;
  retort_run_options options = events.Options();
  options.only = retort_text("cot");
  EXPECT_RETORT_OK(context, retort_pipeline_run(pipeline.get(), &options, nullptr));
  EXPECT_THAT(events.seen, ElementsAre("started cot", "finished cot"));
  options.only = retort_text("cto");
  EXPECT_EQ(retort_pipeline_run(pipeline.get(), &options, nullptr), RETORT_INVALID_ARGUMENT);
  EXPECT_THAT(ErrorOf(context), HasSubstr("did you mean 'cot'"));
  options.only = retort_text(nullptr);
  options.flags = 1u << 8;
  EXPECT_EQ(retort_pipeline_run(pipeline.get(), &options, nullptr), RETORT_UNIMPLEMENTED);
}

TEST(PipelineHandle, TextAndFileAndOverrides) {
  const Context context = NewContext();
  const std::string folder = Scratch();
  auto options = Sized<retort_pipeline_options>();
  retort_pipeline* out = nullptr;
  EXPECT_EQ(retort_pipeline_load(context.get(), &options, &out), RETORT_INVALID_ARGUMENT);
  EXPECT_THAT(ErrorOf(context), HasSubstr("file"));
  options.file = retort_text("/nowhere/p.json");
  EXPECT_NE(retort_pipeline_load(context.get(), &options, &out), RETORT_OK);
  EXPECT_THAT(ErrorOf(context), HasSubstr("/nowhere/p.json"));
  options.file = retort_text("mine.json");
  options.folder = Str(folder);
  options.text = retort_text(R"({"retort": 1, "stages": [{"name": "a", "kind": "sft"}]})");
  EXPECT_EQ(retort_pipeline_load(context.get(), &options, &out), RETORT_INVALID_ARGUMENT);
  EXPECT_THAT(ErrorOf(context), HasSubstr(folder + "/mine.json:1:"));

  options = Sized<retort_pipeline_options>();
  const std::string text = TinyPipeline(folder + "/out");
  const retort_str set[] = {retort_text("seed=11"), retort_text("stages.sft.max_steps=2")};
  options.text = Str(text);
  options.set = set;
  options.n_set = 2;
  EXPECT_RETORT_OK(context, retort_pipeline_load(context.get(), &options, &out));
  const Pipeline pipeline(out);
  Collected config;
  const retort_sink sink = config.sink();
  EXPECT_RETORT_OK(context, retort_pipeline_config(pipeline.get(), &sink));
  const json::Document resolved = json::Document::Parse(config.text, "config").value();
  EXPECT_EQ(resolved.root()["seed"].IntOr(0), 11);
}

}  // namespace
}  // namespace retort::host
