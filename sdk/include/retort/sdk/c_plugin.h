// What every plugin in C would write again: failing with a text, reading the config, whole texts
// through sinks and readers, and the library's entry. One library, one plugin; for several write
// the retort_entry by hand (examples/reward_c does).
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_SDK_C_PLUGIN_H_
#define RETORT_SDK_C_PLUGIN_H_

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "retort/abi/entry.h"

/* Set by retort_add_plugin(). */
#ifndef RETORT_PLUGIN_LIBRARY
#define RETORT_PLUGIN_LIBRARY "unnamed"
#endif
#ifndef RETORT_PLUGIN_VERSION
#define RETORT_PLUGIN_VERSION "0.0.0"
#endif
#ifndef RETORT_PLUGIN_LICENSE
#define RETORT_PLUGIN_LICENSE "NOASSERTION"
#endif

/* `return retort_c_fail(call, code, text)`: what was tried, which rule, what to do. */
static inline retort_status retort_c_fail(const retort_call* call, retort_status code,
                                          const char* text) {
  const retort_str message = {text, strlen(text)};
  call->error(call->ctx, code, message);
  return code;
}

/* Poll it now and then in long work; then return RETORT_CANCELLED. */
static inline int retort_c_cancelled(const retort_call* call) {
  return call->cancel && __atomic_load_n(call->cancel, __ATOMIC_RELAXED) != 0;
}

/* ---- the config --------------------------------------------------------------------------- */

/* A parsed object. The host has checked it against the schema and filled in the defaults; what is
 * missing or of another type all the same is remembered as the failure that close gives. */
typedef struct retort_c_config {
  const retort_host_json_v1* json;
  retort_json_document* document;
  const retort_call* call;
  retort_status status;
} retort_c_config;

static inline retort_status retort_c_config_open(const retort_host* host, const retort_call* call,
                                                 retort_str text, retort_c_config* config) {
  char why[256] = "";
  memset(config, 0, sizeof *config);
  config->call = call;
  config->json =
      (const retort_host_json_v1*)host->get_interface(host->ctx, RETORT_HOST_JSON_INTERFACE);
  if (!config->json) {
    return config->status =
               retort_c_fail(call, RETORT_UNIMPLEMENTED, "the host offers no JSON reader");
  }
  config->status = config->json->parse(config->json->ctx, text, &config->document, why);
  if (config->status != RETORT_OK) retort_c_fail(call, config->status, why);
  return config->status;
}

/* Member `key` of that type; *out of type RETORT_JSON_NULL and the failure noted if it isn't. */
static inline void retort_c_config_member(retort_c_config* config, const char* key, uint32_t type,
                                          retort_json_value* out) {
  const retort_str name = {key, strlen(key)};
  char why[256];
  if (config->status == RETORT_OK &&
      config->json->member(config->json->ctx, config->document, 0, name, out) == RETORT_OK &&
      out->type == type) {
    return;
  }
  memset(out, 0, sizeof *out);
  if (config->status != RETORT_OK) return;
  snprintf(why, sizeof why, "/%s: missing, or of another type", key);
  config->status = retort_c_fail(config->call, RETORT_INVALID_ARGUMENT, why);
}

static inline double retort_c_config_number(retort_c_config* config, const char* key) {
  retort_json_value value;
  retort_c_config_member(config, key, RETORT_JSON_NUMBER, &value);
  return value.number;
}

static inline int64_t retort_c_config_integer(retort_c_config* config, const char* key) {
  retort_json_value value;
  retort_c_config_member(config, key, RETORT_JSON_NUMBER, &value);
  return value.integer;
}

static inline int retort_c_config_bool(retort_c_config* config, const char* key) {
  retort_json_value value;
  retort_c_config_member(config, key, RETORT_JSON_BOOL, &value);
  return value.integer != 0;
}

/* A copy that ends with a NUL beyond its `len` bytes: free((void*)text.ptr). ptr NULL: failed. */
static inline retort_str retort_c_config_text(retort_c_config* config, const char* key) {
  retort_json_value value;
  retort_str text = {NULL, 0};
  retort_c_config_member(config, key, RETORT_JSON_STRING, &value);
  if (config->status != RETORT_OK) return text;
  char* copy = (char*)malloc(value.text.len + 1);
  if (!copy) {
    config->status = retort_c_fail(config->call, RETORT_RESOURCE_EXHAUSTED, "out of memory");
    return text;
  }
  if (value.text.len > 0) memcpy(copy, value.text.ptr, value.text.len);
  copy[value.text.len] = 0;
  text.ptr = copy;
  text.len = value.text.len;
  return text;
}

/* The first failure of all the above, already reported. */
static inline retort_status retort_c_config_close(retort_c_config* config) {
  if (config->json) config->json->free(config->json->ctx, config->document);
  return config->status;
}

/* ---- sinks and readers -------------------------------------------------------------------- */

static inline retort_status retort_c_write_all(const retort_sink* sink, const void* data,
                                               uint64_t n) {
  const char* at = (const char*)data;
  while (n > 0) {
    const int64_t taken = sink->write(sink->ctx, at, n);
    if (taken <= 0) return RETORT_ABORTED;
    at += taken;
    n -= (uint64_t)taken;
  }
  return RETORT_OK;
}

/* All that there is, up to `capacity` bytes; more is DATA_LOSS. */
static inline retort_status retort_c_read_all(const retort_reader* reader, void* data,
                                              uint64_t capacity, uint64_t* n) {
  char extra;
  *n = 0;
  for (;;) {
    const int whole = *n == capacity;
    void* to = whole ? (void*)&extra : (void*)((char*)data + *n);
    const int64_t got = reader->read(reader->ctx, to, whole ? 1 : capacity - *n);
    if (got < 0) return RETORT_ABORTED;
    if (got == 0) return RETORT_OK;
    if (whole) return RETORT_DATA_LOSS;
    *n += (uint64_t)got;
  }
}

/* ---- the entry ---------------------------------------------------------------------------- */

/* The one plugin of this library. CREATE, DESTROY and INTERFACE are as in retort_entry; KIND, ID,
 * SUMMARY and SCHEMA constants. Write it once, at the end of the file. */
#define RETORT_C_PLUGIN(KIND, ID, SUMMARY, SCHEMA, CREATE, DESTROY, INTERFACE)                    \
  static const retort_descriptor retort_c_descriptor = {                                          \
      sizeof(retort_descriptor), 0, KIND, ID, RETORT_PLUGIN_VERSION, SUMMARY, SCHEMA};            \
  static retort_status retort_c_init(const char* library_path) {                                  \
    (void)library_path;                                                                           \
    return RETORT_OK;                                                                             \
  }                                                                                               \
  static uint32_t retort_c_count(void) { return 1; }                                              \
  static const retort_descriptor* retort_c_describe(uint32_t index) {                             \
    return index == 0 ? &retort_c_descriptor : NULL;                                              \
  }                                                                                               \
  static retort_status retort_c_create(const retort_host* host, const retort_call* call,          \
                                       const char* kind, const char* id, retort_str json,         \
                                       retort_instance** out) {                                   \
    if (strcmp(kind, retort_c_descriptor.kind) != 0 || strcmp(id, retort_c_descriptor.id) != 0) { \
      return retort_c_fail(call, RETORT_NOT_FOUND, "this library has no such plugin");            \
    }                                                                                             \
    return CREATE(host, call, json, out);                                                         \
  }                                                                                               \
  const retort_entry* retort_plugin_entry_v1(void) {                                              \
    static const retort_entry entry = {sizeof(retort_entry),                                      \
                                       RETORT_ABI_MINOR,                                          \
                                       RETORT_PLUGIN_LIBRARY,                                     \
                                       RETORT_PLUGIN_VERSION,                                     \
                                       RETORT_PLUGIN_LICENSE,                                     \
                                       "C, " __VERSION__,                                         \
                                       retort_c_init,                                             \
                                       NULL,                                                      \
                                       retort_c_count,                                            \
                                       retort_c_describe,                                         \
                                       retort_c_create,                                           \
                                       DESTROY,                                                   \
                                       INTERFACE};                                                \
    return &entry;                                                                                \
  }                                                                                               \
  typedef int retort_c_plugin_needs_a_semicolon

#endif /* RETORT_SDK_C_PLUGIN_H_ */
