/* A command by name: everything that the program `retort` does, results line by line.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef RETORT_HOST_COMMAND_H_
#define RETORT_HOST_COMMAND_H_

#include "retort/host/context.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How a command ended, for programs: also the exit codes of `retort`. */
#define RETORT_OUTCOME_DONE 0
#define RETORT_OUTCOME_FAILED 1   /* a model, data or plugin file, a stage */
#define RETORT_OUTCOME_USAGE 2    /* what the caller wrote: arguments, pipeline file, configs */
#define RETORT_OUTCOME_STOPPED 75 /* stopped cleanly; the same command continues */

#define RETORT_EVENT_MESSAGE 0 /* something to tell: a stage started, a file was written */
#define RETORT_EVENT_PROGRESS                              \
  1 /* long work moved on: ten times a second at most with \
       RETORT_IO_WATCHED, else every ten seconds or so */
#define RETORT_EVENT_WARNING 2

typedef struct retort_command_event {
  uint32_t struct_size;
  uint32_t kind;       /* RETORT_EVENT_X */
  double fraction;     /* PROGRESS: 0 to 1; negative: the total is not known */
  int64_t done, total; /* PROGRESS: in units of `unit`; total 0: not known */
  retort_str what;     /* PROGRESS: what is under way: "cot", "logprob" */
  retort_str unit;     /* PROGRESS: "samples", "steps" */
  retort_str text;     /* one line for people; of PROGRESS: counts, rate, time left, the metric */
} retort_command_event;

/* Where a command's results go and its input comes from. All callbacks may be NULL. */
typedef struct retort_command_io {
  uint32_t struct_size;
  uint32_t flags; /* RETORT_IO_X */
  void* ctx;      /* of the callbacks */
  /* One line of the result, without its line feed. Nonzero: nobody listens any more (a broken
   * pipe); the command ends with CANCELLED. */
  int32_t (*line)(void* ctx, retort_str line);
  /* A piece of text to show at once, no line feed implied: a completion as it is written. Only
   * with RETORT_IO_STREAM. Same result as `line`. */
  int32_t (*text)(void* ctx, retort_str text);
  void (*event)(void* ctx, const retort_command_event* event);
  /* Up to `n` bytes of the input named "-"; 0 at its end, negative on failure. NULL: no input. */
  int64_t (*read)(void* ctx, void* data, uint64_t n);
} retort_command_io;

#define RETORT_IO_WATCHED 1u /* a person watches the events: progress comes often */
#define RETORT_IO_STREAM \
  2u /* a person reads the result: one prompt's text comes as it is written */

typedef struct retort_command_result {
  uint32_t struct_size;
  int32_t outcome;      /* RETORT_OUTCOME_X */
  retort_status status; /* the same as returned */
  uint32_t _pad;
  retort_str message; /* why, if not OK; valid until the context's next call */
} retort_command_result;

/* Runs the command `name` ("run", "plan", "plugin.list", "plugin.info", "model.show", "tokenize",
 * "logprob", "generate", "score", "filter", "doctor"; retort_command_names lists them) with
 * `args`, a JSON object; unknown names and keys are refused with the nearest known one. Blocks.
 * Returns the canonical status; `result` (may be NULL) says more. since 1.0 */
RETORT_HOST_API retort_status retort_command(retort_context* context, const char* name,
                                             retort_str args, const retort_command_io* io,
                                             retort_command_result* result);

/* The names that retort_command knows, NULL after the last. Static. since 1.0 */
RETORT_HOST_API const char* const* retort_command_names(void);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* RETORT_HOST_COMMAND_H_ */
