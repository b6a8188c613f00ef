/* A context: settings, plugins, and the text of the last error. Everything else belongs to one.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef RETORT_HOST_CONTEXT_H_
#define RETORT_HOST_CONTEXT_H_

#include "retort/abi/call.h"  /* RETORT_LOG_X: levels of log lines */
#include "retort/abi/entry.h" /* retort_entry, of static plugins */
#include "retort/host/types.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct retort_context retort_context;

/* Flags of retort_context_options. */
#define RETORT_CONTEXT_BUILTINS_ONLY 1u /* libraries that are not built in are refused */

typedef struct retort_context_options {
  uint32_t struct_size;
  uint32_t flags; /* RETORT_CONTEXT_X */
  /* Folder of the built-in plugins; absent: `retort/plugins` beside the library, or
   * RETORT_PLUGIN_DIR (ignored in a privileged process). */
  retort_str plugin_dir;
  /* libretort_engine; absent: beside the library. Opened when weights are first needed. */
  retort_str engine_path;
  int32_t n_threads; /* 0: all cores this process may use */
  int32_t log_level; /* the lowest that `log` gets: RETORT_LOG_X */
  void* log_ctx;
  /* May be NULL. From any thread while a call runs, but never twice at once. A failing
   * retort_context_create, which leaves no context to ask, gives its reason here. */
  void (*log)(void* log_ctx, int32_t level, retort_str message);
  /* retort-worker, for plugins in a process of their own; absent: RETORT_WORKER (ignored in a
   * privileged process), else where it is installed. Started when a chain first needs it. */
  retort_str worker_path;
  /* A plugins.lock: libraries that it doesn't list, or lists with another hash, are refused;
   * built-in and static ones are not looked up. Absent: none. Read at the first library. */
  retort_str lock_file;
  /* What plugins see as retort_host.name and .version; absent: "retort" and retort_version(). */
  retort_str host_name;
  retort_str host_version;
} retort_context_options;

/* Creates a context. `options` may be NULL. INVALID_ARGUMENT: struct_size too small, n_threads
 * negative; UNIMPLEMENTED: unknown flags; RESOURCE_EXHAUSTED: no memory. Opens no plugin, no model
 * and no other library. [any] since 1.0 */
RETORT_HOST_API retort_status retort_context_create(const retort_context_options* options,
                                                    retort_context** out);

/* Frees the context. Handles made with it may still be destroyed, not used; what they hold is
 * freed with the last of them. Plugins stay loaded: nothing is ever unloaded. NULL is fine.
 * since 1.0 */
RETORT_HOST_API void retort_context_destroy(retort_context* context);

/* Why the last call with the context, or a handle of it, failed: what was tried, on what, which
 * rule, what to do. Absent after a success. Valid until the next such call. since 1.0 */
RETORT_HOST_API retort_str retort_context_error(const retort_context* context);

/* Loads a plugin library (absolute, or relative to the current folder) after the same checks as
 * everywhere, so that chains, pipelines and commands of this context find its plugins. Loading it
 * twice is no error. NOT_FOUND, PERMISSION_DENIED (world-writable, not in the lock file),
 * INVALID_ARGUMENT (no plugin), ALREADY_EXISTS (an id is taken), FAILED_PRECONDITION (another ABI
 * version). since 1.0 */
RETORT_HOST_API retort_status retort_context_load_plugin(retort_context* context, retort_str path);

/* Adds plugins that are linked into the program: `entry` is the library's
 * `<library>_retort_plugin_entry_v1` (retort_add_plugin(... STATIC)). `name` stands for the path
 * in messages. The same checks as for a file; the same errors. Static plugins run in this process
 * whatever a chain's default is. since 1.0 */
RETORT_HOST_API retort_status retort_context_add_static(retort_context* context,
                                                        const retort_entry* (*entry)(void),
                                                        retort_str name);

/* Asks the running call of the context to stop soon, cleanly: it returns CANCELLED. With none
 * running, the next one that can stop does so as soon as it looks. Forgotten when that call ends.
 * Any thread, also a signal handler; NULL is fine. since 1.0 */
RETORT_HOST_API void retort_cancel(retort_context* context);

/* The plugin that the calling thread is inside of, "reward crash (/path/x.so)", or NULL: for the
 * message of an application's own handler of SIGSEGV or SIGABRT (the library installs none).
 * Async-signal-safe; valid until the plugin's call ends. [any] since 1.0 */
RETORT_HOST_API const char* retort_running_plugin(void);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* RETORT_HOST_CONTEXT_H_ */
