// A reward plugin in plain C with one thing wrong, chosen by -DBAD_<CASE>. Without any, it is fine.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <string.h>

#include "retort/abi/entry.h"
#include "retort/abi/reward.h"

#define EXPORT __attribute__((visibility("default")))

#ifndef BAD_ID
#define BAD_ID "bad"
#endif
#ifndef BAD_KIND
#define BAD_KIND "reward"
#endif
#ifndef BAD_SCHEMA
#define BAD_SCHEMA "{\"type\": \"object\", \"properties\": {\"x\": {\"type\": \"integer\"}}}"
#endif

struct retort_instance {
  int unused;
};
static retort_instance the_instance;

__attribute__((unused)) static retort_status score(retort_instance* instance,
                                                   const retort_call* call,
                                                   const retort_reward_args* args) {
  (void)instance;
  (void)call;
  for (uint64_t i = 0; i < args->n; ++i) {
    args->status[i] = RETORT_SCORE_OK;
    args->score[i] = 1;
#ifdef BAD_SCORE_NAN
    if (i == 1) args->score[i] = NAN;
#endif
#ifdef BAD_STATUS
    if (i == 1) args->status[i] = 9;
#endif
  }
#ifdef BAD_INFO
  args->info(args->info_ctx, args->n, (retort_str){"{}", 2});
#endif
  return RETORT_OK;
}

static const retort_reward_v1 reward_table = {
#ifdef BAD_TABLE_SIZE
    4,
#elif defined(BAD_TABLE_HUGE)
    UINT32_MAX,
#else
    sizeof(retort_reward_v1),
#endif
    0, 0,
#ifdef BAD_NULL_SCORE
    NULL
#else
    score
#endif
};

static retort_status init(const char* path) {
  (void)path;
#ifdef BAD_INIT
  return RETORT_UNAVAILABLE;
#else
  return RETORT_OK;
#endif
}

static uint32_t count(void) {
#ifdef BAD_COUNT
  return 0;
#elif defined(BAD_COUNT_HUGE)
  return UINT32_MAX;
#else
  return 1;
#endif
}

static const retort_descriptor* describe(uint32_t index) {
  static const retort_descriptor descriptor = {
      sizeof(retort_descriptor), 0, BAD_KIND, BAD_ID, "1.0.0", "a plugin for tests", BAD_SCHEMA};
#ifdef BAD_DESCRIBE_NULL
  (void)index;
  (void)descriptor;
  return NULL;
#else
  return index == 0 ? &descriptor : NULL;
#endif
}

static retort_status create(const retort_host* host, const retort_call* call, const char* kind,
                            const char* id, retort_str config, retort_instance** out) {
  (void)host;
  (void)config;
  if (strcmp(kind, BAD_KIND) != 0 || strcmp(id, BAD_ID) != 0) {
    call->error(call->ctx, RETORT_NOT_FOUND, (retort_str){"no such plugin", 14});
    return RETORT_NOT_FOUND;
  }
#ifdef BAD_CREATE
  const char* why = "/x: this plugin never likes its config";
  call->error(call->ctx, RETORT_INVALID_ARGUMENT, (retort_str){why, strlen(why)});
  return RETORT_INVALID_ARGUMENT;
#elif defined(BAD_CREATE_SILENT)
  (void)call;
  return RETORT_UNAVAILABLE;
#elif defined(BAD_CREATE_NULL)
  (void)call;
  *out = NULL;
  return RETORT_OK;
#else
  (void)call;
  *out = &the_instance;
  return RETORT_OK;
#endif
}

static void destroy(retort_instance* instance) { (void)instance; }

static const void* get_interface(retort_instance* instance, const char* id) {
  (void)instance;
#ifdef BAD_NO_INTERFACE
  (void)id;
  return NULL;
#else
  return strcmp(id, RETORT_REWARD_INTERFACE) == 0 ? &reward_table : NULL;
#endif
}

static const retort_entry entry = {
#ifdef BAD_ENTRY_SIZE
    0,
#elif defined(BAD_ENTRY_HUGE)
    UINT32_MAX,
#else
    sizeof(retort_entry),
#endif
#ifdef BAD_MINOR
    RETORT_ABI_MINOR + 1,
#else
    RETORT_ABI_MINOR,
#endif
    "bad",
    "1.0.0",
    "Apache-2.0",
    "for tests",
    init,
    NULL,
    count,
    describe,
#ifdef BAD_NULL_MEMBER
    NULL,
#else
    create,
#endif
    destroy,
    get_interface};

#ifdef BAD_UNRESOLVED
int retort_test_function_that_nobody_has(void);
EXPORT const retort_entry* retort_plugin_entry_v1(void) {
  return retort_test_function_that_nobody_has() ? &entry : NULL;
}
#elif defined(BAD_NULL_ENTRY)
EXPORT const retort_entry* retort_plugin_entry_v1(void) { return &entry == NULL ? &entry : NULL; }
#elif defined(BAD_MAJOR)
EXPORT const void* retort_plugin_entry_v2(void);
EXPORT const void* retort_plugin_entry_v2(void) { return &entry; }
#elif defined(BAD_NO_SYMBOL)
static const void* const kept __attribute__((used)) = &entry;
#else
EXPORT const retort_entry* retort_plugin_entry_v1(void) { return &entry; }
#endif

#ifdef BAD_NEEDS
// Of a library that must not be loaded (stub.c): calls it, so that it is needed.
int retort_test_stub(void);
__attribute__((constructor)) static void call_stub(void) { retort_test_stub(); }
#endif

#ifdef BAD_EXPORTS
EXPORT int retort_test_extra(void);
EXPORT int retort_test_extra(void) { return 1; }
#endif
