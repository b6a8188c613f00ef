/* The least that a reward can do: the length of each completion.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "retort/abi/entry.h"
#include "retort/abi/reward.h"

struct retort_instance {
  int unused;
};

static retort_status score(retort_instance* self, const retort_call* call,
                           const retort_reward_args* args) {
  const char* at = (const char*)args->samples;
  uint64_t i;
  (void)self;
  (void)call;
  for (i = 0; i < args->n; ++i, at += args->sample_stride) {
    args->score[i] = (double)((const retort_sample*)at)->completion.len;
    args->status[i] = RETORT_SCORE_OK;
  }
  return RETORT_OK;
}

static const retort_descriptor kDescriptor = {
    sizeof(retort_descriptor), 0, "reward", "bench_length", "1.0.0", "for the benchmark", NULL};
static const retort_reward_v1 kReward = {sizeof(retort_reward_v1), 0, 0, score};
static retort_instance instance;

static retort_status init(const char* path) {
  (void)path;
  return RETORT_OK;
}
static uint32_t count(void) { return 1; }
static const retort_descriptor* describe(uint32_t index) {
  return index == 0 ? &kDescriptor : NULL;
}
static retort_status create(const retort_host* host, const retort_call* call, const char* kind,
                            const char* id, retort_str config, retort_instance** out) {
  (void)host;
  (void)call;
  (void)config;
  if (strcmp(kind, "reward") != 0 || strcmp(id, "bench_length") != 0) return RETORT_NOT_FOUND;
  *out = &instance;
  return RETORT_OK;
}
static void destroy(retort_instance* self) { (void)self; }
static const void* get_interface(retort_instance* self, const char* id) {
  (void)self;
  return strcmp(id, RETORT_REWARD_INTERFACE) == 0 ? &kReward : NULL;
}

static const retort_entry kEntry = {sizeof(retort_entry),
                                    RETORT_ABI_MINOR,
                                    "bench-length",
                                    "1.0.0",
                                    "Apache-2.0",
                                    "",
                                    init,
                                    NULL,
                                    count,
                                    describe,
                                    create,
                                    destroy,
                                    get_interface};

const retort_entry* retort_plugin_entry_v1(void) { return &kEntry; }
