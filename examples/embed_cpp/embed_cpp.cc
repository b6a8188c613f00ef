// An application in C++ around retort: plans and runs a pipeline with events, stage by stage, and
// filters lines with a chain that has a plugin of its own linked in.
//   embed_cpp MODEL QUESTIONS.jsonl OUTPUT
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <exception>
#include <string>

#include "owners.h"

// [entry.begin]
extern "C" const retort_entry* shouting_retort_plugin_entry_v1(void);
// [entry.end]

namespace {

using app::Context;
using app::Str;
using app::View;

// [events.begin]
void OnEvent(void* ctx, const retort_run_event* event) {
  auto& stages = *static_cast<int*>(ctx);
  const std::string stage(View(event->stage));
  switch (event->kind) {
    case RETORT_RUN_STAGE_STARTED:
      std::printf("%u/%u %s starts\n", event->stage_index + 1, event->n_stages, stage.c_str());
      return;
    case RETORT_RUN_STAGE_FINISHED: ++stages; [[fallthrough]];
    case RETORT_RUN_STAGE_SKIPPED: std::printf("%s is done\n", stage.c_str()); return;
    case RETORT_RUN_STAGE_FAILED:
      std::printf("%s: %s\n", stage.c_str(), std::string(View(event->text)).c_str());
      return;
    default: return;  // progress, metrics: event->json has all of them
  }
}
// [events.end]

// [pipeline.begin]
app::Pipeline Load(const Context& context, const std::string& model, const std::string& questions,
                   const std::string& output) {
  // What the application decides itself: here as text, with the rest as overrides.
  static constexpr char kText[] = R"({
    "retort": 1, "name": "embedded", "seed": 1,
    "models": {"m": "${model}"}, "vars": {"model": "", "questions": ""},
    "data": {"q": {"path": "${questions}", "map": {"prompt": "question"}, "limit": 3}},
    "stages": [
      {"name": "answers", "kind": "generate", "model": "m", "data": "q", "samples": 2,
       "sampling": {"temperature": 0.8, "max_tokens": 12}},
      {"name": "calm", "kind": "filter", "data": "@answers", "filters": ["shouting"]}]})";
  const std::string set[] = {"vars.model=" + model, "vars.questions=" + questions,
                             "output=" + output};
  const retort_str overrides[] = {Str(set[0]), Str(set[1]), Str(set[2])};
  retort_pipeline_options options{};
  options.struct_size = sizeof options;
  options.text = Str(kText);
  options.set = overrides;
  options.n_set = 3;
  retort_pipeline* out = nullptr;
  context.Check(retort_pipeline_load(context.get(), &options, &out));
  return app::Pipeline(out);
}

void RunInSteps(const Context& context, retort_pipeline* pipeline) {
  std::string plan;
  const retort_sink sink = app::Into(plan);
  context.Check(retort_pipeline_plan(pipeline, &sink));  // throws what is wrong, runs nothing
  int stages = 0;
  retort_run_options options{};
  options.struct_size = sizeof options;
  options.event_ctx = &stages;
  options.event = OnEvent;
  retort_run* out = nullptr;
  context.Check(retort_run_start(pipeline, &options, &out));
  const app::Run run(out);
  for (int32_t more = 1; more != 0;) context.Check(retort_run_step(run.get(), &more));
  std::printf("%d stages ran\n", stages);
}
// [pipeline.end]

// [filter.begin]
void FilterLines(const Context& context, std::string_view lines) {
  retort_chain_options options{};
  options.struct_size = sizeof options;
  options.entries = retort_text(R"([{"plugin": "length", "config": {"min_chars": 4}},
                                    {"plugin": "shouting", "config": {"max_share": 0.3}}])");
  retort_filter_chain* out = nullptr;
  context.Check(retort_filter_chain_create(context.get(), &options, &out));
  const app::FilterChain chain(out);
  std::string kept, audit;
  const retort_reader reader = app::From(lines);
  const retort_sink kept_sink = app::Into(kept), audit_sink = app::Into(audit);
  context.Check(retort_filter_chain_run_lines(chain.get(), &reader, &kept_sink, &audit_sink));
  std::printf("kept:\n%sdropped:\n%s", kept.c_str(), audit.c_str());
}
// [filter.end]

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s MODEL QUESTIONS.jsonl OUTPUT\n", argv[0]);
    return 2;
  }
  try {
    const Context context;
    // [add_static.begin]
    context.Check(retort_context_add_static(context.get(), shouting_retort_plugin_entry_v1,
                                            retort_text("shouting")));
    // [add_static.end]
    const app::Pipeline pipeline = Load(context, argv[1], argv[2], argv[3]);
    RunInSteps(context, pipeline.get());
    FilterLines(context,
                "{\"uid\": \"a\", \"prompt\": \"q\", \"completion\": \"a quiet answer\"}\n"
                "{\"uid\": \"b\", \"prompt\": \"q\", \"completion\": \"A LOUD ONE\"}\n"
                "{\"uid\": \"c\", \"prompt\": \"q\", \"completion\": \"so\"}\n");
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "embed_cpp: %s\n", error.what());
    return 1;
  }
}
