/* Plugins for the chain's tests, over the bare ABI: what they do is written in each completion.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "retort/abi/entry.h"
#include "retort/abi/filter.h"
#include "retort/abi/reward.h"

struct retort_instance {
  const char* id;
  double sum; /* above_mean: of lengths */
  double n;
};

static int starts(retort_str text, const char* with) {
  const size_t n = strlen(with);
  return text.len >= n && memcmp(text.ptr, with, n) == 0;
}

static retort_str text_of(const char* text) {
  retort_str out;
  out.ptr = text;
  out.len = strlen(text);
  return out;
}

static const retort_sample* sample_at(const retort_sample* samples, uint64_t stride, uint64_t i) {
  return (const retort_sample*)((const char*)samples + i * stride);
}

/* ---- rewards ---- */

static void score_one(const retort_reward_args* args, const retort_sample* sample, uint64_t i) {
  char number[32] = {0};
  if (starts(sample->completion, "untouched")) return;
  args->status[i] = RETORT_SCORE_OK;
  if (starts(sample->completion, "na")) {
    args->status[i] = sample->completion.len == 2 ? RETORT_SCORE_NOT_APPLICABLE : RETORT_SCORE_OK;
  } else if (starts(sample->completion, "error")) {
    args->status[i] = RETORT_SCORE_ERROR;
  } else if (starts(sample->completion, "timeout")) {
    args->status[i] = RETORT_SCORE_TIMEOUT;
  } else if (starts(sample->completion, "odd")) {
    args->status[i] = 9;
    args->score[i] = 1;
  } else {
    memcpy(number, sample->completion.ptr,
           sample->completion.len < 31 ? sample->completion.len : 31);
    args->score[i] = atof(number);
  }
}

static retort_status score(retort_instance* self, const retort_call* call,
                           const retort_reward_args* args) {
  uint64_t i;
  for (i = 0; i < args->n; ++i) {
    const retort_sample* sample = sample_at(args->samples, args->sample_stride, i);
    if (starts(sample->completion, "crash")) {
      call->error(call->ctx, RETORT_INTERNAL, text_of("the batch broke"));
      return RETORT_INTERNAL;
    }
    score_one(args, sample, i);
    if (strcmp(self->id, "count_ids") == 0) args->score[i] = sample->n_completion_ids;
    if (starts(sample->record, "{\"tell\"")) {
      char json[160];
      snprintf(json, sizeof json, "{\"n\":%llu,\"group\":%u,\"index\":%u,\"gold\":\"%.*s\"}",
               (unsigned long long)args->n, sample->group, sample->index, (int)sample->gold.len,
               sample->gold.ptr == NULL ? "" : sample->gold.ptr);
      args->info(args->info_ctx, i, text_of(json));
    }
  }
  return RETORT_OK;
}

static int same(retort_str a, retort_str b) {
  return a.len == b.len && memcmp(a.ptr, b.ptr, a.len) == 0;
}

static retort_status classes(retort_instance* self, const retort_call* call,
                             const retort_sample* samples, uint64_t stride, uint64_t n,
                             int64_t* first_equal) {
  uint64_t i, k;
  (void)self;
  (void)call;
  for (i = 0; i < n; ++i) {
    const retort_str text = sample_at(samples, stride, i)->completion;
    first_equal[i] = (int64_t)i;
    for (k = i; k > 0; --k) {
      if (same(sample_at(samples, stride, k - 1)->completion, text))
        first_equal[i] = (int64_t)k - 1;
    }
    if (text.len == 0) first_equal[i] = -1;
  }
  return RETORT_OK;
}

/* ---- filters ---- */

static void decide(const retort_filter_args* args, uint64_t i, uint32_t action, retort_str reason,
                   retort_str completion, retort_str record) {
  retort_decision decision;
  memset(&decision, 0, sizeof decision);
  decision.struct_size = sizeof decision;
  decision.action = action;
  decision.reason = reason;
  decision.completion = completion;
  decision.record = record;
  args->decide(args->out_ctx, i, &decision);
}

static retort_str after(retort_str text, const char* prefix) {
  text.ptr += strlen(prefix);
  text.len -= strlen(prefix);
  return text;
}

static retort_status judge_script(const retort_call* call, const retort_filter_args* args) {
  const retort_str none = {NULL, 0};
  uint64_t i;
  for (i = 0; i < args->n_samples; ++i) {
    const retort_str text = sample_at(args->samples, args->sample_stride, i)->completion;
    if (starts(text, "drop:")) {
      decide(args, i, RETORT_DROP, after(text, "drop:"), none, none);
    } else if (starts(text, "rewrite:")) {
      decide(args, i, RETORT_REWRITE, text_of("shorter"), after(text, "rewrite:"), none);
    } else if (starts(text, "record:")) {
      decide(args, i, RETORT_REWRITE, text_of("new record"), none, after(text, "record:"));
    } else if (starts(text, "error:")) {
      decide(args, i, RETORT_ERROR, after(text, "error:"), none, none);
    } else if (starts(text, "crash")) {
      call->error(call->ctx, RETORT_INTERNAL, text_of("the batch broke"));
      return RETORT_INTERNAL;
    }
  }
  return RETORT_OK;
}

/* Drops everything and says as the reason what it was handed. */
static retort_status judge_report(const retort_filter_args* args) {
  const retort_str none = {NULL, 0};
  uint64_t i, r;
  for (i = 0; i < args->n_samples; ++i) {
    char text[400];
    size_t used = 0;
    for (r = 0; r < args->n_rewards; ++r) {
      const uint64_t cell = i * args->n_rewards + r;
      used += (size_t)snprintf(text + used, sizeof text - used, "%s=%g/%u*%g ",
                               args->reward_names[r], args->scores[cell], args->score_status[cell],
                               args->reward_weights == NULL ? 1.0 : args->reward_weights[r]);
      if (args->info != NULL && args->info[cell].ptr != NULL) {
        used += (size_t)snprintf(text + used, sizeof text - used, "info ");
      }
    }
    if (args->first_equal != NULL) {
      used +=
          (size_t)snprintf(text + used, sizeof text - used, "class=%d ", (int)args->first_equal[i]);
    }
    snprintf(text + used, sizeof text - used, "groups=%d", (int)args->n_groups);
    decide(args, i, RETORT_DROP, text_of(text), none, none);
  }
  return RETORT_OK;
}

static retort_status observe(retort_instance* self, const retort_call* call,
                             const retort_filter_args* args) {
  uint64_t i;
  (void)call;
  for (i = 0; i < args->n_samples; ++i) {
    self->sum += (double)sample_at(args->samples, args->sample_stride, i)->completion.len;
    self->n += 1;
  }
  return RETORT_OK;
}

static retort_status end_pass(retort_instance* self, const retort_call* call, uint32_t pass) {
  (void)call;
  (void)pass;
  self->sum = self->n > 0 ? self->sum / self->n : 0;
  return RETORT_OK;
}

static retort_status judge_mean(const retort_instance* self, const retort_filter_args* args) {
  const retort_str none = {NULL, 0};
  uint64_t i;
  for (i = 0; i < args->n_samples; ++i) {
    const double length = (double)sample_at(args->samples, args->sample_stride, i)->completion.len;
    if (length < self->sum) decide(args, i, RETORT_DROP, text_of("below the mean"), none, none);
  }
  return RETORT_OK;
}

static retort_status judge(retort_instance* self, const retort_call* call,
                           const retort_filter_args* args) {
  if (strcmp(self->id, "script") == 0) return judge_script(call, args);
  if (strcmp(self->id, "above_mean") == 0) return judge_mean(self, args);
  return judge_report(args);
}

static retort_status save(retort_instance* self, const retort_call* call, const retort_sink* sink) {
  (void)call;
  return sink->write(sink->ctx, &self->sum, sizeof self->sum) < 0 ? RETORT_ABORTED : RETORT_OK;
}

static retort_status merge(retort_instance* self, const retort_call* call,
                           const retort_reader* reader) {
  (void)self;
  (void)call;
  (void)reader;
  return RETORT_UNIMPLEMENTED;
}

/* ---- the library ---- */

#define REWARD(NAME) \
  { sizeof(retort_descriptor), 0, "reward", NAME, "1.0.0", "for tests", NULL }
#define FILTER(NAME) \
  { sizeof(retort_descriptor), 0, "filter", NAME, "1.0.0", "for tests", NULL }

static const retort_descriptor kDescriptors[] = {
    REWARD("plain"),        REWARD("by_three"),     REWARD("grouped"), REWARD("count_ids"),
    REWARD("voter"),        FILTER("script"),       FILTER("report"),  FILTER("above_mean"),
    FILTER("needs_scores"), FILTER("needs_answers")};

static const retort_reward_v1 kPlain = {sizeof(retort_reward_v1), 0, 0, score};
static const retort_reward_v1 kByThree = {sizeof(retort_reward_v1), 0, 3, score};
static const retort_reward_v1 kGrouped = {sizeof(retort_reward_v1), RETORT_REWARD_GROUPWISE, 3,
                                          score};
static const retort_reward_v1 kIds = {sizeof(retort_reward_v1), RETORT_REWARD_NEEDS_IDS, 0, score};
static const retort_answer_v1 kAnswer = {sizeof(retort_answer_v1), 0, classes};
static const retort_filter_v1 kFilter = {
    sizeof(retort_filter_v1), 0, 0, 0, NULL, NULL, judge, NULL, NULL};
static const retort_filter_v1 kScores = {
    sizeof(retort_filter_v1), RETORT_FILTER_NEEDS_SCORES, 0, 0, NULL, NULL, judge, NULL, NULL};
static const retort_filter_v1 kAnswers = {
    sizeof(retort_filter_v1), RETORT_FILTER_NEEDS_ANSWERS, 0, 0, NULL, NULL, judge, NULL, NULL};
static const retort_filter_v1 kMean = {
    sizeof(retort_filter_v1), 0, 1, 0, observe, end_pass, judge, save, merge};

static retort_status init(const char* path) {
  (void)path;
  return RETORT_OK;
}
static uint32_t count(void) { return sizeof kDescriptors / sizeof kDescriptors[0]; }
static const retort_descriptor* describe(uint32_t index) {
  return index < count() ? &kDescriptors[index] : NULL;
}

static retort_status create(const retort_host* host, const retort_call* call, const char* kind,
                            const char* id, retort_str config, retort_instance** out) {
  uint32_t i;
  (void)host;
  (void)call;
  (void)config;
  for (i = 0; i < count(); ++i) {
    if (strcmp(kDescriptors[i].kind, kind) != 0 || strcmp(kDescriptors[i].id, id) != 0) continue;
    *out = (retort_instance*)calloc(1, sizeof **out);
    if (*out == NULL) return RETORT_RESOURCE_EXHAUSTED;
    (*out)->id = kDescriptors[i].id;
    return RETORT_OK;
  }
  return RETORT_NOT_FOUND;
}

static void destroy(retort_instance* self) { free(self); }

static const void* reward_table(const char* id) {
  if (strcmp(id, "by_three") == 0) return &kByThree;
  if (strcmp(id, "grouped") == 0) return &kGrouped;
  if (strcmp(id, "count_ids") == 0) return &kIds;
  return strcmp(id, "plain") == 0 || strcmp(id, "voter") == 0 ? &kPlain : NULL;
}

static const void* filter_table(const char* id) {
  if (strcmp(id, "above_mean") == 0) return &kMean;
  if (strcmp(id, "needs_scores") == 0) return &kScores;
  if (strcmp(id, "needs_answers") == 0) return &kAnswers;
  return strcmp(id, "script") == 0 || strcmp(id, "report") == 0 ? &kFilter : NULL;
}

static const void* get_interface(retort_instance* self, const char* interface_id) {
  if (strcmp(interface_id, RETORT_REWARD_INTERFACE) == 0) return reward_table(self->id);
  if (strcmp(interface_id, RETORT_FILTER_INTERFACE) == 0) return filter_table(self->id);
  if (strcmp(interface_id, RETORT_ANSWER_INTERFACE) == 0 && strcmp(self->id, "voter") == 0) {
    return &kAnswer;
  }
  return NULL;
}

static const retort_entry kEntry = {sizeof(retort_entry),
                                    RETORT_ABI_MINOR,
                                    "probe",
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

#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
const retort_entry*
retort_plugin_entry_v1(void) {
  return &kEntry;
}
