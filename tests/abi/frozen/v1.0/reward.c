// A reward and its answers as an author wrote them for ABI 1.0: counts a configured word in the
// completion, reads the record through the host's JSON, reports a metric and an extra column.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "retort/abi/entry.h"
#include "retort/abi/reward.h"

struct instance {
  const retort_host* host;
  const retort_host_json_v1* json;
  char word[64];
  retort_reward_v1 reward;
  retort_answer_v1 answer;
};

static struct instance* of(retort_instance* p) { return (struct instance*)p; }

static void say(const retort_call* call, retort_status code, const char* text) {
  const retort_str message = {text, strlen(text)};
  call->error(call->ctx, code, message);
}

static uint64_t count_word(retort_str text, const char* word) {
  const uint64_t n = strlen(word);
  uint64_t found = 0;
  for (uint64_t i = 0; text.ptr != NULL && i + n <= text.len; ++i) {
    if (memcmp(text.ptr + i, word, n) == 0) ++found;
  }
  return found;
}

/* The record's "level" times ten, or 0. */
static double level_of(const struct instance* self, retort_str record) {
  retort_json_document* document = NULL;
  retort_json_value value;
  const retort_str key = {"level", 5};
  double level = 0;
  if (record.ptr == NULL) return 0;
  if (self->json->parse(self->json->ctx, record, &document, NULL) != RETORT_OK) return 0;
  if (self->json->member(self->json->ctx, document, 0, key, &value) == RETORT_OK &&
      value.type == RETORT_JSON_NUMBER) {
    level = value.number * 10;
  }
  self->json->free(self->json->ctx, document);
  return level;
}

static const retort_sample* sample_at(const retort_sample* first, uint64_t stride, uint64_t i) {
  return (const retort_sample*)(const void*)((const char*)first + i * stride);
}

static retort_status score(retort_instance* p, const retort_call* call,
                           const retort_reward_args* args) {
  const struct instance* self = of(p);
  const retort_str metric = {"words", 5};
  for (uint64_t i = 0; i < args->n; ++i) {
    const retort_sample* sample = sample_at(args->samples, args->sample_stride, i);
    if (call->cancel != NULL && __atomic_load_n(call->cancel, __ATOMIC_RELAXED) != 0) {
      return RETORT_CANCELLED;
    }
    if (sample->completion.len == 0) {
      args->status[i] = RETORT_SCORE_NOT_APPLICABLE;
      continue;
    }
    const uint64_t n = count_word(sample->completion, self->word);
    args->score[i] = (double)n + level_of(self, sample->record);
    args->status[i] = RETORT_SCORE_OK;
    call->metric(call->ctx, metric, (double)n, 1);
    if (args->info != NULL) {
      char text[64];
      snprintf(text, sizeof text, "{\"words\":%llu}", (unsigned long long)n);
      const retort_str json = {text, strlen(text)};
      args->info(args->info_ctx, i, json);
    }
  }
  return RETORT_OK;
}

/* Equal completions are equal answers; an empty one is none. */
static retort_status classes(retort_instance* p, const retort_call* call,
                             const retort_sample* samples, uint64_t stride, uint64_t n,
                             int64_t* first_equal) {
  (void)p, (void)call;
  for (uint64_t i = 0; i < n; ++i) {
    const retort_str a = sample_at(samples, stride, i)->completion;
    first_equal[i] = a.len == 0 ? -1 : (int64_t)i;
    for (uint64_t k = 0; a.len > 0 && k < i; ++k) {
      const retort_str b = sample_at(samples, stride, k)->completion;
      if (a.len == b.len && memcmp(a.ptr, b.ptr, a.len) == 0) {
        first_equal[i] = first_equal[k];
        break;
      }
    }
  }
  return RETORT_OK;
}

static retort_status init(const char* path) { return path[0] == '/' ? RETORT_OK : RETORT_INTERNAL; }
static uint32_t count(void) { return 1; }

static const retort_descriptor* describe(uint32_t index) {
  static const retort_descriptor kWords = {
      sizeof(retort_descriptor),
      0,
      RETORT_KIND_REWARD,
      "frozen_words",
      "1.0.0",
      "how often a word occurs",
      "{\"type\":\"object\",\"properties\":{\"word\":{\"type\":\"string\",\"default\":\"so\"}}}"};
  return index == 0 ? &kWords : NULL;
}

static retort_status read_word(struct instance* self, const retort_call* call, retort_str config) {
  retort_json_document* document = NULL;
  retort_json_value value;
  const retort_str key = {"word", 4};
  char why[256];
  retort_status status = self->json->parse(self->json->ctx, config, &document, why);
  if (status != RETORT_OK) {
    say(call, status, why);
    return status;
  }
  status = self->json->member(self->json->ctx, document, 0, key, &value);
  if (status == RETORT_OK && value.text.len > 0 && value.text.len < sizeof self->word) {
    memcpy(self->word, value.text.ptr, value.text.len);
  } else {
    status = RETORT_INVALID_ARGUMENT;
    say(call, status, "/word: must have 1 to 63 bytes");
  }
  self->json->free(self->json->ctx, document);
  return status;
}

static retort_status create(const retort_host* host, const retort_call* call, const char* kind,
                            const char* id, retort_str config, retort_instance** out) {
  if (strcmp(kind, RETORT_KIND_REWARD) != 0 || strcmp(id, "frozen_words") != 0) {
    say(call, RETORT_NOT_FOUND, "no such plugin in this library");
    return RETORT_NOT_FOUND;
  }
  struct instance* self = calloc(1, sizeof *self);
  if (self == NULL) return RETORT_RESOURCE_EXHAUSTED;
  self->host = host;
  self->json = host->get_interface(host->ctx, RETORT_HOST_JSON_INTERFACE);
  retort_status status = RETORT_UNIMPLEMENTED;
  if (self->json != NULL) status = read_word(self, call, config);
  if (status != RETORT_OK) {
    free(self);
    return status;
  }
  self->reward = (retort_reward_v1){sizeof(retort_reward_v1), RETORT_REWARD_PURE, 0, score};
  self->answer = (retort_answer_v1){sizeof(retort_answer_v1), 0, classes};
  *out = (retort_instance*)self;
  return RETORT_OK;
}

static void destroy(retort_instance* p) { free(of(p)); }

static const void* get_interface(retort_instance* p, const char* id) {
  if (strcmp(id, RETORT_REWARD_INTERFACE) == 0) return &of(p)->reward;
  if (strcmp(id, RETORT_ANSWER_INTERFACE) == 0) return &of(p)->answer;
  return NULL;
}

const retort_entry* retort_plugin_entry_v1(void) {
  static const retort_entry kEntry = {sizeof(retort_entry),
                                      RETORT_ABI_MINOR,
                                      "frozen-reward",
                                      "1.0.0",
                                      "Apache-2.0",
                                      "frozen at 1.0",
                                      init,
                                      NULL,
                                      count,
                                      describe,
                                      create,
                                      destroy,
                                      get_interface};
  return &kEntry;
}
