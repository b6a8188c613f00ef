/* Pipelines: load a file or a text, look at its plan, run it whole or stage by stage.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef RETORT_HOST_PIPELINE_H_
#define RETORT_HOST_PIPELINE_H_

#include "retort/host/context.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct retort_pipeline retort_pipeline;

typedef struct retort_pipeline_options {
  uint32_t struct_size;
  uint32_t flags; /* none yet: 0 */
  /* The file; with `text`, only its name in messages (absent: "pipeline.json"). */
  retort_str file;
  /* The pipeline itself, JSON as in a file; absent: read `file`. */
  retort_str text;
  /* With `text`: the folder that its relative paths start from; absent: the current folder. */
  retort_str folder;
  retort_str profile;    /* one of the file's profiles; absent: none */
  const retort_str* set; /* [n_set] "stages.sft.max_steps=20", applied in order, after profile */
  uint64_t n_set;
} retort_pipeline_options;

/* Reads and checks; opens no plugin, model or data. INVALID_ARGUMENT lists every mistake found, one
 * a line: file:line:column, the key's path, the rule, the nearest known name. since 1.0 */
RETORT_HOST_API retort_status retort_pipeline_load(retort_context* context,
                                                   const retort_pipeline_options* options,
                                                   retort_pipeline** out);
RETORT_HOST_API void retort_pipeline_destroy(retort_pipeline* pipeline);

/* Writes the whole file with every default filled in, overrides applied, paths absolute: JSON.
 * since 1.0 */
RETORT_HOST_API retort_status retort_pipeline_config(retort_pipeline* pipeline,
                                                     const retort_sink* json);

/* Loads the plugins, checks their configs, opens the models, counts the data and writes the plan,
 * JSON as of `retort plan --json`; runs nothing and writes no file. INVALID_ARGUMENT: the file or a
 * plugin's config is wrong; others: a model, data or plugin file. since 1.0 */
RETORT_HOST_API retort_status retort_pipeline_plan(retort_pipeline* pipeline,
                                                   const retort_sink* json);

/* ---- runs ------------------------------------------------------------------------------- */

/* Values of retort_run_event.kind. Every stage that a run looks at gives exactly one of SKIPPED,
 * FINISHED and FAILED, last. */
#define RETORT_RUN_STAGE_STARTED 0u
#define RETORT_RUN_STAGE_RESUMED 1u /* after STARTED: it goes on; `text` says from where */
#define RETORT_RUN_STAGE_SKIPPED 2u /* finished before, nothing changed since */
#define RETORT_RUN_STAGE_FINISHED 3u
#define RETORT_RUN_STAGE_FAILED                                                              \
  4u                           /* `status` and `text`; CANCELLED: stopped, a new run goes on \
                                */
#define RETORT_RUN_PROGRESS 5u /* at most ten times a second */
#define RETORT_RUN_METRIC 6u   /* one line of metrics.jsonl */
#define RETORT_RUN_WARNING 7u

typedef struct retort_run_event {
  uint32_t struct_size;
  uint32_t kind;         /* RETORT_RUN_X */
  retort_str stage;      /* its name; absent: about the whole run */
  retort_str stage_kind; /* "generate", "filter" ... */
  uint32_t stage_index;  /* among the pipeline's stages, from 0 */
  uint32_t n_stages;
  double fraction;      /* PROGRESS: 0 to 1; negative: the total is not known */
  int64_t done;         /* PROGRESS: in units of `unit` */
  int64_t total;        /* PROGRESS: 0: not known */
  retort_str unit;      /* PROGRESS: "samples", "steps" */
  double rate;          /* PROGRESS: tokens per second; 0: not known */
  retort_str metric;    /* PROGRESS: the number that matters: "loss", "reward"; or absent */
  double value;         /* of metric */
  int64_t step;         /* METRIC: of the stage; else -1 */
  retort_status status; /* FAILED: why; else OK */
  uint32_t _pad;
  retort_str text; /* one line for people */
  retort_str json; /* the event as one JSON object; of METRIC the line itself */
} retort_run_event;

/* Flags of retort_run_options. */
#define RETORT_RUN_FRESH 1u /* everything anew; what is there goes to .trash */
/* Go on although thread count, processor level or library differ from the run's first part. */
#define RETORT_RUN_ALLOW_INEXACT 2u

typedef struct retort_run_options {
  uint32_t struct_size;
  uint32_t flags;  /* RETORT_RUN_X */
  retort_str only; /* this stage alone; its inputs must be there. Absent: all */
  retort_str from; /* this stage and the later ones anew. Absent: only what changed */
  void* event_ctx;
  void (*event)(void* event_ctx, const retort_run_event* event); /* may be NULL */
} retort_run_options;

/* Runs or continues to the end; finished stages whose inputs did not change are skipped. Writes the
 * summary (JSON as of `retort run --json`) to `summary` (may be NULL). `options` may be NULL.
 * CANCELLED: stopped cleanly, the same call continues; FAILED_PRECONDITION: another run holds the
 * folder; INVALID_ARGUMENT: as of plan. since 1.0 */
RETORT_HOST_API retort_status retort_pipeline_run(retort_pipeline* pipeline,
                                                  const retort_run_options* options,
                                                  const retort_sink* summary);

/* The same in steps: a run in progress. It owns the run's folder (run.lock) until destroyed. */
typedef struct retort_run retort_run;

/* Plans, takes the folder and puts away what FRESH and `from` name; runs nothing. `event` is called
 * during retort_run_step. The pipeline may be destroyed before the run. since 1.0 */
RETORT_HOST_API retort_status retort_run_start(retort_pipeline* pipeline,
                                               const retort_run_options* options, retort_run** out);

/* One step: passes over the stages that are done already (an event each) and runs the next one that
 * isn't to its end. *more (may be NULL): 1 while stages are left to look at, else 0; a step with
 * nothing left does nothing and returns OK. After a failure or CANCELLED the next step tries the
 * same stage again, from where it stopped. since 1.0 */
RETORT_HOST_API retort_status retort_run_step(retort_run* run, int32_t* more);

/* Writes the summary of the stages so far, as of retort_pipeline_run. since 1.0 */
RETORT_HOST_API retort_status retort_run_summary(retort_run* run, const retort_sink* json);

/* Gives the folder back. What is done stays; a later run continues. since 1.0 */
RETORT_HOST_API void retort_run_destroy(retort_run* run);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* RETORT_HOST_PIPELINE_H_ */
