// What the host offers to plugins, by interface id: so far JSON, so that a plugin in C needs no
// parser and every plugin reads JSON under the same limits and rules.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_ABI_HOST_H_
#define RETORT_ABI_HOST_H_

#include "retort/abi/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Given to create; valid until the instance is destroyed. A host interface is called from the
 * thread of a call to the plugin, during that call. */
typedef struct retort_host {
  uint32_t struct_size;
  uint32_t abi_minor;  /* of the host: for messages, never for decisions (R2) */
  const char* name;    /* "retort", or the embedding program's */
  const char* version; /* "0.1.0" */
  void* ctx;           /* first argument of get_interface */
  /* The table with that id, valid as long as the host struct, or NULL: this host has none. May
   * also be asked during create. [any] */
  const void* (*get_interface)(void* ctx, const char* id);
} retort_host;

#define RETORT_HOST_JSON_INTERFACE "retort.host.json/1"

#define RETORT_JSON_NULL 0u
#define RETORT_JSON_BOOL 1u
#define RETORT_JSON_NUMBER 2u
#define RETORT_JSON_STRING 3u
#define RETORT_JSON_ARRAY 4u
#define RETORT_JSON_OBJECT 5u

/* A parsed text; owned by whoever parsed it until it is given to free. */
typedef struct retort_json_document retort_json_document;

/* One value of a document. Texts live as long as the document. Never changes (R3). */
typedef struct retort_json_value {
  uint32_t node;  /* to look further into arrays and objects; 0 is the root */
  uint32_t type;  /* RETORT_JSON_* */
  uint32_t flags; /* RETORT_JSON_IS_INTEGER */
  uint32_t _pad;
  int64_t integer; /* of an integer; 0 or 1 of a bool */
  double number;   /* of a number */
  uint64_t size;   /* elements of an array, members of an object */
  retort_str text; /* decoded string; a number as it was written */
} retort_json_value;

#define RETORT_JSON_IS_INTEGER (1u << 0) /* integer holds the number exactly */

/* All functions [any]: documents are immutable. */
typedef struct retort_host_json_v1 {
  uint32_t struct_size;
  uint32_t flags; /* none yet */
  void* ctx;      /* first argument of every function */
  /* Copies and parses. RETORT_INVALID_ARGUMENT: not JSON (duplicate keys and bad UTF-8 included);
   * RETORT_RESOURCE_EXHAUSTED: over a limit. error: NULL or 256 bytes that get the reason,
   * NUL-terminated. */
  retort_status (*parse)(void* ctx, retort_str json, retort_json_document** out, char* error);
  void (*free)(void* ctx, retort_json_document* document); /* NULL is fine */
  /* The value itself. node from an earlier answer, or 0. RETORT_OUT_OF_RANGE: no such node. */
  retort_status (*value)(void* ctx, const retort_json_document* document, uint32_t node,
                         retort_json_value* out);
  /* Member `key` of object `node`. RETORT_NOT_FOUND: no such member, or not an object. */
  retort_status (*member)(void* ctx, const retort_json_document* document, uint32_t node,
                          retort_str key, retort_json_value* out);
  /* Element or member number `index` in file order; key (may be NULL) gets a member's key.
   * RETORT_OUT_OF_RANGE: index >= size, or neither array nor object. */
  retort_status (*element)(void* ctx, const retort_json_document* document, uint32_t node,
                           uint64_t index, retort_str* key, retort_json_value* out);
} retort_host_json_v1;

#ifdef __cplusplus
}
#endif

#endif /* RETORT_ABI_HOST_H_ */
