// A reward that tells what it sees: the host's name and version, as info of each sample. With
// "disturb" it leaves the thread's floating-point mode changed, as code built with -ffast-math may.
// SPDX-License-Identifier: Apache-2.0
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xmmintrin.h>

#include "retort/abi/entry.h"
#include "retort/abi/reward.h"

typedef struct teller {
  char told[256];
  int disturb;
} teller;

static retort_status score(retort_instance* instance, const retort_call* call,
                           const retort_reward_args* args) {
  const teller* self = (const teller*)instance;
  call->log(call->ctx, RETORT_LOG_WARNING, (retort_str){"scored", 6});
  if (self->disturb) _mm_setcsr(_mm_getcsr() | 0x8040);  // flush to zero, denormals are zero
  for (uint64_t i = 0; i < args->n; ++i) {
    const char* at = (const char*)args->samples + i * args->sample_stride;
    args->score[i] = (double)((const retort_sample*)at)->completion.len;
    args->status[i] = RETORT_SCORE_OK;
    args->info(args->info_ctx, i, (retort_str){self->told, strlen(self->told)});
  }
  return RETORT_OK;
}

static const retort_reward_v1 table = {sizeof table, 0, 0, score};

static retort_status init(const char* path) {
  (void)path;
  return RETORT_OK;
}
static uint32_t count(void) { return 1; }
static const retort_descriptor descriptor = {
    .struct_size = sizeof descriptor,
    .kind = RETORT_KIND_REWARD,
    .id = "teller",
    .version = "1.0.0",
    .summary = "tells what it sees of its host",
    .config_schema =
        "{\"type\": \"object\", \"properties\": {"
        "\"disturb\": {\"type\": \"boolean\", \"default\": false}}}"};
static const retort_descriptor* describe(uint32_t index) { return index == 0 ? &descriptor : NULL; }

static retort_status create(const retort_host* host, const retort_call* call, const char* kind,
                            const char* id, retort_str config, retort_instance** out) {
  (void)call;
  (void)kind;
  (void)id;
  teller* self = calloc(1, sizeof *self);
  if (!self) return RETORT_RESOURCE_EXHAUSTED;
  snprintf(self->told, sizeof self->told, "{\"host\":\"%s\",\"version\":\"%s\"}", host->name,
           host->version);
  for (uint64_t i = 0; i + 4 <= config.len; ++i) {
    if (memcmp(config.ptr + i, "true", 4) == 0) self->disturb = 1;
  }
  *out = (retort_instance*)self;
  return RETORT_OK;
}
static void destroy(retort_instance* instance) { free(instance); }
static const void* get_interface(retort_instance* instance, const char* id) {
  (void)instance;
  return strcmp(id, RETORT_REWARD_INTERFACE) == 0 ? &table : NULL;
}

static const retort_entry entry = {.struct_size = sizeof entry,
                                   .abi_minor = RETORT_ABI_MINOR,
                                   .library = RETORT_PLUGIN_LIBRARY,
                                   .version = RETORT_PLUGIN_VERSION,
                                   .license = RETORT_PLUGIN_LICENSE,
                                   .build_info = "plain C",
                                   .init = init,
                                   .count = count,
                                   .describe = describe,
                                   .create = create,
                                   .destroy = destroy,
                                   .get_interface = get_interface};

const retort_entry* retort_plugin_entry_v1(void) { return &entry; }
