// The one symbol of a plugin library and what it leads to.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_ABI_ENTRY_H_
#define RETORT_ABI_ENTRY_H_

#include "retort/abi/call.h"
#include "retort/abi/host.h"
#include "retort/abi/types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RETORT_ABI_MAJOR 1u
/* Grows with every addition and with every change of a draft. A library built with a larger one
 * than the host's is refused; tables of revision 0 work only if both are equal (R2). */
#define RETORT_ABI_MINOR 0u
#define RETORT_PLUGIN_ENTRY_SYMBOL "retort_plugin_entry_v1"

/* Values of descriptor.kind. */
#define RETORT_KIND_FAMILY "family"
#define RETORT_KIND_OP "op"
#define RETORT_KIND_LOSS "loss"
#define RETORT_KIND_OPTIMIZER "optimizer"
#define RETORT_KIND_REWARD "reward"
#define RETORT_KIND_FILTER "filter"
#define RETORT_KIND_SOURCE "source"
#define RETORT_KIND_GENERATOR "generator"

/* Flags of retort_descriptor: hints about where to run it. */
#define RETORT_PLUGIN_ISOLATE_PREFERRED (1u << 0) /* rather in a worker process */
#define RETORT_PLUGIN_NETWORK (1u << 1)           /* opens connections */
#define RETORT_PLUGIN_GPU (1u << 2)               /* takes tensors on the GPU */

/* One plugin of a library. Static: every describe(index) gives the same bytes. */
typedef struct retort_descriptor {
  uint32_t struct_size;
  uint32_t flags;      /* RETORT_PLUGIN_* */
  const char* kind;    /* RETORT_KIND_* */
  const char* id;      /* [a-z][a-z0-9_.-]*, unique per kind among all loaded plugins */
  const char* version; /* of the plugin: "1.4.0" */
  const char* summary; /* one line for people, without a full stop */
  /* JSON Schema of the config object, in the subset of docs/abi.md. NULL: takes no keys. */
  const char* config_schema;
} retort_descriptor;

/* Static; no member may be NULL but deinit. */
typedef struct retort_entry {
  uint32_t struct_size;
  uint32_t abi_minor;     /* RETORT_ABI_MINOR that it was built with */
  const char* library;    /* name for messages: "retort-math" */
  const char* version;    /* of the library */
  const char* license;    /* SPDX expression */
  const char* build_info; /* free text: compiler, commit */
  /* Once per process, before anything else; < 100 ms; starts no thread, opens no device.
   * library_path: absolute, NUL-terminated, valid during the call. [control] */
  retort_status (*init)(const char* library_path);
  void (*deinit)(void); /* after the last destroy, or never. [control]; may be NULL */
  /* How many plugins the library has; always the same number. [any] */
  uint32_t (*count)(void);
  const retort_descriptor* (*describe)(uint32_t index); /* NULL: index >= count(). [any] */
  /* A new instance of the plugin (kind, id). host: valid until destroy. config_json: one object,
   * already checked against config_schema with defaults filled; borrowed. On failure *out is left
   * alone and the text begins with the JSON pointer of the key at fault, if one is. [control]
   * Errors: INVALID_ARGUMENT config, NOT_FOUND no such (kind, id) or a file of the config. */
  retort_status (*create)(const retort_host* host, const retort_call* call, const char* kind,
                          const char* id, retort_str config_json, retort_instance** out);
  /* Frees the instance; its own threads have ended when it returns. Can't fail. [control] */
  void (*destroy)(retort_instance* instance);
  /* The instance's table with that id, valid until destroy, or NULL: it has none. [control] */
  const void* (*get_interface)(retort_instance* instance, const char* interface_id);
} retort_entry;

/* The only export of a plugin library (visible also where -fvisibility=hidden is the rule). Never
 * NULL, always the same pointer. Linked into a program instead, a library names its function
 * <library>_retort_plugin_entry_v1. [any] */
__attribute__((visibility("default"))) const retort_entry* retort_plugin_entry_v1(void);

#ifdef __cplusplus
}
#endif

#endif /* RETORT_ABI_ENTRY_H_ */
