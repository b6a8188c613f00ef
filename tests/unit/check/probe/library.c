// A library that breaks one rule about libraries, chosen by -DLIBRARY_<RULE>.
// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "retort/abi/entry.h"
#include "retort/abi/reward.h"

#define EXPORT __attribute__((visibility("default")))

static retort_status score(retort_instance* self, const retort_call* call,
                           const retort_reward_args* args) {
  (void)self;
  (void)call;
  for (uint64_t i = 0; i < args->n; ++i) args->status[i] = RETORT_SCORE_OK, args->score[i] = 1;
  return RETORT_OK;
}

#ifdef LIBRARY_THREADS
static void* stay(void* given) {
  for (;;) pause();
  return given;
}
#endif
#ifdef LIBRARY_NEEDED
int retort_test_stub(void);
#endif
#ifdef LIBRARY_RESOLVE
int retort_test_function_that_nobody_has(void);
#endif

static int n_inits;

static retort_status init(const char* path) {
  (void)path;
  ++n_inits;
#ifdef LIBRARY_LOAD
  return RETORT_UNAVAILABLE;
#endif
#ifdef LIBRARY_NEEDED
  if (retort_test_stub() != 7) return RETORT_INTERNAL;
#endif
#ifdef LIBRARY_STATE
  setenv("RETORT_TEST_LIBRARY", "was here", 1);
#endif
#ifdef LIBRARY_OUTPUT
  fputs("loaded\n", stderr);
#endif
#ifdef LIBRARY_THREADS
  pthread_t thread;
  if (pthread_create(&thread, NULL, stay, NULL) == 0) pthread_detach(thread);
#endif
#ifdef LIBRARY_SCAN_TIME
  usleep(150000);
#endif
#ifdef LIBRARY_INIT_AGAIN
  if (n_inits == 3) return RETORT_FAILED_PRECONDITION;
#endif
  return RETORT_OK;
}

#ifdef LIBRARY_SCHEMA
#define SCHEMA \
  "{\"type\": \"object\", \"properties\": {\"n\": {\"type\": \"integer\", \"default\": \"x\"}}}"
#else
#define SCHEMA NULL
#endif

static uint32_t count(void) { return 1; }

static const retort_descriptor* describe(uint32_t index) {
  static retort_descriptor descriptor = {
      sizeof(retort_descriptor), 0, "reward", "one", "1.0.0", "scores 1", SCHEMA};
#ifdef LIBRARY_DESCRIPTOR
  descriptor.summary = "";
#endif
#ifdef LIBRARY_DESCRIBE_END
  return &descriptor;
#endif
#ifdef LIBRARY_DESCRIPTOR_STABLE
  descriptor.version = descriptor.version[0] == '1' ? "2.0.0" : "1.0.0";
#endif
  return index == 0 ? &descriptor : NULL;
}

static retort_status create(const retort_host* host, const retort_call* call, const char* kind,
                            const char* id, retort_str config, retort_instance** out) {
  static int instance;
  (void)host;
  (void)config;
#ifndef LIBRARY_UNKNOWN_PLUGIN
  if (strcmp(kind, "reward") != 0 || strcmp(id, "one") != 0) {
    static const char why[] = "no such plugin";
    call->error(call->ctx, RETORT_NOT_FOUND, (retort_str){why, sizeof why - 1});
    return RETORT_NOT_FOUND;
  }
#endif
  (void)call;
  (void)kind;
  (void)id;
  *out = (retort_instance*)(void*)&instance;
  return RETORT_OK;
}

static void destroy(retort_instance* self) { (void)self; }

static const void* get_interface(retort_instance* self, const char* id) {
  static const retort_reward_v1 table = {sizeof(retort_reward_v1), 0, 0, score};
  (void)self;
  return strcmp(id, RETORT_REWARD_INTERFACE) == 0 ? &table : NULL;
}

EXPORT const retort_entry* retort_plugin_entry_v1(void) {
  static const retort_entry entry = {sizeof(retort_entry),
                                     RETORT_ABI_MINOR,
                                     "library",
                                     "1.0.0",
                                     "Apache-2.0",
                                     "for tests",
                                     init,
                                     NULL,
                                     count,
                                     describe,
                                     create,
                                     destroy,
                                     get_interface};
#ifdef LIBRARY_RESOLVE
  if (retort_test_function_that_nobody_has() == 7) return NULL;
#endif
  return &entry;
}

#ifdef LIBRARY_EXPORT
EXPORT int retort_test_extra(void);
EXPORT int retort_test_extra(void) { return 1; }
#endif
