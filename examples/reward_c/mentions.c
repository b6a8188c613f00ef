// A reward in plain C: the share of given phrases that the completion mentions. It shows all that a
// C plugin needs: the entry table, a config read through the host's JSON service, errors with the
// key at fault, memory of its own per instance. The C++ SDK does most of this for you.
// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "retort/abi/entry.h"
#include "retort/abi/reward.h"

// [instance.begin]
// One instance: the phrases, copied from the config (which dies with create).
typedef struct mentions {
  uint64_t n;
  retort_str phrases[];  // each ptr is our own malloc
} mentions;

static void destroy(retort_instance* instance) {
  mentions* self = (mentions*)instance;
  for (uint64_t i = 0; i < self->n; ++i) free((void*)self->phrases[i].ptr);
  free(self);
}
// [instance.end]

// [score.begin]
// Texts are not NUL-terminated and may contain NULs: search by length.
static int contains(retort_str text, retort_str phrase) {
  for (uint64_t i = 0; i + phrase.len <= text.len; ++i) {
    if (memcmp(text.ptr + i, phrase.ptr, phrase.len) == 0) return 1;
  }
  return 0;
}

static retort_status score(retort_instance* instance, const retort_call* call,
                           const retort_reward_args* args) {
  const mentions* self = (const mentions*)instance;
  const char* at = (const char*)args->samples;
  for (uint64_t i = 0; i < args->n; ++i, at += args->sample_stride) {  // by the stride: rule R3
    if (call->cancel && __atomic_load_n(call->cancel, __ATOMIC_RELAXED)) return RETORT_CANCELLED;
    const retort_sample* sample = (const retort_sample*)at;
    uint64_t found = 0;
    for (uint64_t k = 0; k < self->n; ++k) found += contains(sample->completion, self->phrases[k]);
    args->score[i] = (double)found / (double)self->n;
    args->status[i] = RETORT_SCORE_OK;
  }
  return RETORT_OK;
}

static const retort_reward_v1 reward_table = {sizeof(reward_table), RETORT_REWARD_PURE, 0, score};
// [score.end]

static retort_status fail(const retort_call* call, retort_status code, const char* text) {
  call->error(call->ctx, code, (retort_str){text, strlen(text)});
  return code;
}

// [create.begin]
// Copies the strings of the array at `node`. The schema has made sure that they are strings.
static retort_status read_phrases(const retort_host_json_v1* json, const retort_call* call,
                                  const retort_json_document* config, retort_json_value array,
                                  mentions** out) {
  if (array.size == 0) {
    return fail(call, RETORT_INVALID_ARGUMENT, "/phrases: is empty; give at least one phrase");
  }
  mentions* self = calloc(1, sizeof(*self) + array.size * sizeof(retort_str));
  if (!self) return fail(call, RETORT_RESOURCE_EXHAUSTED, "out of memory");
  for (; self->n < array.size; ++self->n) {
    retort_json_value item;
    json->element(json->ctx, config, array.node, self->n, NULL, &item);
    char* copy = item.text.len > 0 ? malloc(item.text.len) : NULL;
    if (!copy) {
      destroy((retort_instance*)self);
      return fail(call, RETORT_INVALID_ARGUMENT, "/phrases: a phrase is empty");
    }
    memcpy(copy, item.text.ptr, item.text.len);
    self->phrases[self->n] = (retort_str){copy, item.text.len};
  }
  *out = self;
  return RETORT_OK;
}

static retort_status create(const retort_host* host, const retort_call* call, const char* kind,
                            const char* id, retort_str config_json, retort_instance** out) {
  (void)kind;
  (void)id;  // this library has one plugin only
  const retort_host_json_v1* json = host->get_interface(host->ctx, RETORT_HOST_JSON_INTERFACE);
  if (!json) return fail(call, RETORT_UNIMPLEMENTED, "the host offers no JSON reader");
  char why[256] = "";
  retort_json_document* config = NULL;
  retort_status status = json->parse(json->ctx, config_json, &config, why);
  if (status != RETORT_OK) return fail(call, status, why);
  retort_json_value phrases;
  const char* key = "phrases";
  status = json->member(json->ctx, config, 0, (retort_str){key, strlen(key)}, &phrases);
  mentions* self = NULL;
  if (status == RETORT_OK) status = read_phrases(json, call, config, phrases, &self);
  json->free(json->ctx, config);
  if (status == RETORT_OK) *out = (retort_instance*)self;
  return status;
}
// [create.end]

// [entry.begin]
static retort_status init(const char* library_path) {
  (void)library_path;
  return RETORT_OK;
}

static uint32_t count(void) { return 1; }

static const retort_descriptor descriptor = {
    .struct_size = sizeof(descriptor),
    .kind = RETORT_KIND_REWARD,
    .id = "mentions",
    .version = RETORT_PLUGIN_VERSION,
    .summary = "share of the given phrases that the completion mentions",
    .config_schema =
        "{\"type\": \"object\", \"required\": [\"phrases\"], \"properties\": {"
        "\"phrases\": {\"type\": \"array\", \"items\": {\"type\": \"string\"},"
        " \"description\": \"texts to look for, case-sensitive\"}}}"};

static const retort_descriptor* describe(uint32_t index) { return index == 0 ? &descriptor : NULL; }

static const void* get_interface(retort_instance* instance, const char* id) {
  (void)instance;
  return strcmp(id, RETORT_REWARD_INTERFACE) == 0 ? &reward_table : NULL;
}

static const retort_entry entry = {.struct_size = sizeof(entry),
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
// [entry.end]
