/* The embedding API of retort: everything that the program `retort` does, as one C library.
 *
 * One call, retort_command, runs a command by name with its arguments as a JSON object; results
 * arrive line by line through a sink, progress and messages as events. The program itself uses
 * nothing else.
 *
 * The library installs no signal handler, writes nothing to standard output or standard error,
 * never exits, and changes neither the current folder, the locale nor the floating-point mode.
 *
 * Rules of growth, as in the plugin ABI: structs start with `struct_size` (set it to sizeof),
 * members are only ever added at the end, absent members mean zero. Texts are (pointer, length),
 * UTF-8, borrowed for the duration of the call that they are handed to.
 *
 * Threads: a context is used by one thread at a time, except for retort_cancel, which any thread
 * and a signal handler may call. Callbacks run on the thread that called retort_command, but for
 * log.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef RETORT_HOST_H
#define RETORT_HOST_H

#include <stdint.h>

#include "retort/abi/call.h"  /* RETORT_LOG_X: levels of log lines */
#include "retort/abi/types.h" /* retort_str, retort_status, their values */

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define RETORT_HOST_API __attribute__((visibility("default")))
#else
#define RETORT_HOST_API
#endif

typedef struct retort_context retort_context;

/* ---- a context -------------------------------------------------------------------------- */

typedef struct retort_context_options {
  uint32_t struct_size;
  uint32_t flags; /* none yet: 0 */
  /* Folder of the built-in plugins; absent: `retort/plugins` beside the library, or
   * RETORT_PLUGIN_DIR (ignored in a privileged process). */
  retort_str plugin_dir;
  /* libretort_engine; absent: beside the library. Opened when a command first needs it. */
  retort_str engine_path;
  int32_t n_threads; /* 0: all cores this process may use */
  int32_t log_level; /* the lowest that `log` gets: RETORT_LOG_X */
  void* log_ctx;
  /* May be NULL. From any thread while a command runs, but never twice at once. */
  void (*log)(void* log_ctx, int32_t level, retort_str message);
} retort_context_options;

/* Creates a context. `options` may be NULL. INVALID_ARGUMENT if struct_size is too small;
 * RESOURCE_EXHAUSTED without memory. Opens no plugin, no model and no other library. since 1.0 */
RETORT_HOST_API retort_status retort_context_create(const retort_context_options* options,
                                                    retort_context** out);
/* Frees it with all models it opened. NULL is fine. Plugins stay loaded: nothing is ever
 * unloaded. Not while a command runs. since 1.0 */
RETORT_HOST_API void retort_context_destroy(retort_context* context);

/* "0.1.0". since 1.0 */
RETORT_HOST_API const char* retort_version(void);

/* ---- a command -------------------------------------------------------------------------- */

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

/* Asks the running command to stop soon, cleanly; with none running, the next one stops as soon as
 * it looks. Forgotten when a command ends. Async-signal-safe; any thread. since 1.0 */
RETORT_HOST_API void retort_cancel(retort_context* context);

/* The names that retort_command knows, NULL after the last. Static. since 1.0 */
RETORT_HOST_API const char* const* retort_command_names(void);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* RETORT_HOST_H */
