/* Plugins for the worker's tests, over the bare ABI: a completion (record, request) says what they
 * do (deeds.h). SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "deeds.h"
#include "retort/abi/draft/generator.h"
#include "retort/abi/draft/source.h"
#include "retort/abi/entry.h"
#include "retort/abi/filter.h"
#include "retort/abi/reward.h"

#define MAX_QUEUE 64

struct retort_instance {
  const char* id;
  const retort_host* host;
  uint64_t next;     /* source: number of the next record */
  double sum, n;     /* filter: of lengths; after the pass the mean */
  uint64_t n_queued; /* generator */
  uint64_t queued[MAX_QUEUE];
  char bad[MAX_QUEUE];
  char config[256];
};

static const retort_sample* sample_at(const retort_sample* samples, uint64_t stride, uint64_t i) {
  return (const retort_sample*)((const char*)samples + i * stride);
}

/* ---- rewards ---- */

/* The integer member "n" of the record, by the host's JSON. */
static double from_json(const retort_host* host, retort_str record) {
  const retort_host_json_v1* json =
      (const retort_host_json_v1*)host->get_interface(host->ctx, RETORT_HOST_JSON_INTERFACE);
  retort_json_document* document = NULL;
  retort_json_value value;
  double out = -1;
  if (json->parse(json->ctx, record, &document, NULL) != RETORT_OK) return -2;
  if (json->member(json->ctx, document, 0, text_of("n"), &value) == RETORT_OK) {
    out = (double)value.integer;
  }
  json->free(json->ctx, document);
  return out;
}

static double count_byte(retort_str text, char byte) {
  uint64_t i, n = 0;
  for (i = 0; i < text.len; ++i) n += text.ptr[i] == byte;
  return (double)n;
}

static retort_status score(retort_instance* self, const retort_call* call,
                           const retort_reward_args* args) {
  uint64_t i;
  for (i = 0; i < args->n; ++i) {
    const retort_sample* sample = sample_at(args->samples, args->sample_stride, i);
    const retort_str text = sample->completion;
    const retort_status status = do_deed(call, text);
    if (status != RETORT_OK) return status;
    if (starts(text, "refuse")) {
      call->error(call->ctx, RETORT_INTERNAL, text_of("refused"));
      return RETORT_INTERNAL;
    }
    args->status[i] = RETORT_SCORE_OK;
    args->score[i] = (double)text.len;
    if (starts(text, "na")) args->status[i] = RETORT_SCORE_NOT_APPLICABLE;
    if (starts(text, "group")) args->score[i] = sample->group * 100 + sample->index;
    if (starts(text, "batch")) args->score[i] = (double)args->n;
    if (starts(text, "json")) args->score[i] = from_json(self->host, sample->record);
    if (starts(text, "nul")) args->score[i] = count_byte(text, '\0');
    if (starts(text, "ids")) {
      args->score[i] = sample->prompt_ids == NULL
                           ? -1
                           : (double)sample->prompt_ids[1] * 1000 +
                                 (double)sample->completion_ids[sample->n_completion_ids - 1] +
                                 (double)sample->logp[0];
    }
    if (starts(text, "absent")) args->score[i] = sample->gold.ptr == NULL;
    if (starts(text, "key")) args->score[i] = (double)(call->key.hi * 10 + call->key.lo);
    if (starts(text, "step")) args->score[i] = (double)(call->step * 100 + call->n_threads);
    if (starts(text, "deadline")) args->score[i] = call->deadline_ns > 0;
    if (starts(text, "pid")) args->score[i] = getpid();
    if (starts(text, "info")) args->info(args->info_ctx, i, text_of("{\"seen\":1}"));
    if (starts(text, "badinfo")) args->info(args->info_ctx, i, text_of("{oops"));
    if (starts(text, "log")) call->log(call->ctx, RETORT_LOG_WARNING, text_of("a line"));
    if (starts(text, "metric")) call->metric(call->ctx, text_of("lengths"), (double)text.len, 1);
    if (starts(text, "progress")) call->progress(call->ctx, 0.5, text_of("half"));
  }
  return RETORT_OK;
}

static retort_status classes(retort_instance* self, const retort_call* call,
                             const retort_sample* samples, uint64_t stride, uint64_t n,
                             int64_t* first_equal) {
  uint64_t i;
  (void)self;
  for (i = 0; i < n; ++i) {
    const retort_str text = sample_at(samples, stride, i)->completion;
    uint64_t k = 0;
    if (starts(text, "class:crash")) do_deed(call, text_of("crash"));
    while (sample_at(samples, stride, k)->completion.len != text.len) ++k;
    first_equal[i] = (int64_t)k;
  }
  return RETORT_OK;
}

/* ---- filters ---- */

static retort_status judge(retort_instance* self, const retort_call* call,
                           const retort_filter_args* args) {
  uint64_t i;
  for (i = 0; i < args->n_samples; ++i) {
    const retort_sample* sample = sample_at(args->samples, args->sample_stride, i);
    const retort_status status = do_deed(call, sample->completion);
    retort_decision decision;
    char reason[256];
    if (status != RETORT_OK) return status;
    memset(&decision, 0, sizeof decision);
    decision.struct_size = sizeof decision;
    if (starts(sample->completion, "rewrite")) {
      decision.action = RETORT_REWRITE;
      decision.reason = text_of("shorter");
      decision.completion = text_of("new");
      args->decide(args->out_ctx, i, &decision);
    } else if (starts(sample->completion, "report")) {
      decision.action = RETORT_DROP;
      snprintf(reason, sizeof reason, "%s=%g/%u*%g class=%d info=%.*s pass=%u groups=%d",
               args->reward_names[0], args->scores[i * args->n_rewards],
               args->score_status[i * args->n_rewards], args->reward_weights[0],
               (int)args->first_equal[i], (int)args->info[i * args->n_rewards].len,
               args->info[i * args->n_rewards].ptr, args->pass, (int)args->n_groups);
      decision.reason = text_of(reason);
      args->decide(args->out_ctx, i, &decision);
    } else if (strcmp(self->id, "mean") == 0) {
      decision.action = RETORT_DROP;
      snprintf(reason, sizeof reason, "mean %g", self->sum);
      decision.reason = text_of(reason);
      args->decide(args->out_ctx, i, &decision);
    }
  }
  return RETORT_OK;
}

static retort_status observe(retort_instance* self, const retort_call* call,
                             const retort_filter_args* args) {
  uint64_t i;
  for (i = 0; i < args->n_samples; ++i) {
    const retort_str text = sample_at(args->samples, args->sample_stride, i)->completion;
    if (starts(text, "observe:") && text.len > 8) {
      const retort_str deed = {text.ptr + 8, text.len - 8};
      do_deed(call, deed);
    }
    self->sum += (double)text.len;
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

static retort_status save(retort_instance* self, const retort_call* call, const retort_sink* sink) {
  double state[2];
  (void)call;
  state[0] = self->sum;
  state[1] = self->n;
  return sink->write(sink->ctx, state, sizeof state) == sizeof state ? RETORT_OK : RETORT_ABORTED;
}

static retort_status merge(retort_instance* self, const retort_call* call,
                           const retort_reader* reader) {
  double state[2];
  if (reader->read(reader->ctx, state, sizeof state) != sizeof state) {
    call->error(call->ctx, RETORT_DATA_LOSS, text_of("cut"));
    return RETORT_DATA_LOSS;
  }
  self->sum += state[0];
  self->n += state[1];
  return RETORT_OK;
}

/* ---- a source: {"n":0}, {"n":1}, ... up to ten; the config's deed is done at record 5 ---- */

static retort_status next(retort_instance* self, const retort_call* call, uint64_t max_n, void* ctx,
                          void (*on)(void* ctx, const retort_record* record), int32_t* end) {
  uint64_t i;
  for (i = 0; i < max_n && self->next < 10; ++i) {
    char json[64];
    retort_record record;
    if (self->next == 5) do_deed(call, text_of(self->config));
    memset(&record, 0, sizeof record);
    snprintf(json, sizeof json, "{\"n\":%d}", (int)self->next);
    record.struct_size = sizeof record;
    record.uid = 100 + self->next++;
    record.json = text_of(json);
    record.origin = text_of("probe");
    on(ctx, &record);
  }
  *end = self->next >= 10;
  return RETORT_OK;
}

static retort_status save_position(retort_instance* self, const retort_call* call,
                                   const retort_sink* sink) {
  (void)call;
  return sink->write(sink->ctx, &self->next, sizeof self->next) < 0 ? RETORT_ABORTED : RETORT_OK;
}

static retort_status load_position(retort_instance* self, const retort_call* call,
                                   const retort_reader* reader) {
  (void)call;
  return reader->read(reader->ctx, &self->next, sizeof self->next) == sizeof self->next
             ? RETORT_OK
             : RETORT_DATA_LOSS;
}

/* ---- a generator: answers "echo" to each sample of a request; a request may be a deed ---- */

static retort_status submit(retort_instance* self, const retort_call* call,
                            const retort_request* requests, uint64_t stride, uint64_t n,
                            uint64_t* n_taken) {
  uint64_t i;
  (void)call;
  for (i = 0; i < n && self->n_queued < MAX_QUEUE; ++i) {
    const retort_request* request = (const retort_request*)((const char*)requests + i * stride);
    self->bad[self->n_queued] = starts(request->messages_json, "crash") ? 1 : 0;
    self->queued[self->n_queued++] = request->uid;
  }
  *n_taken = i;
  return RETORT_OK;
}

static retort_status poll_events(retort_instance* self, const retort_call* call, void* ctx,
                                 void (*on)(void* ctx, const retort_event* event)) {
  static const int32_t ids[2] = {4, 5};
  static const float logp[2] = {-0.5f, -0.25f};
  retort_event event;
  if (self->n_queued == 0) return RETORT_OK;
  --self->n_queued;
  if (self->bad[self->n_queued]) do_deed(call, text_of("crash"));
  memset(&event, 0, sizeof event);
  event.struct_size = sizeof event;
  event.kind = RETORT_EVENT_DONE;
  event.uid = self->queued[self->n_queued];
  event.text = text_of("echo");
  event.ids = ids;
  event.logp = logp;
  event.n_ids = 2;
  on(ctx, &event);
  return RETORT_OK;
}

static retort_status cancel(retort_instance* self, const retort_call* call, uint64_t uid) {
  uint64_t i, kept = 0;
  (void)call;
  for (i = 0; i < self->n_queued; ++i) {
    self->bad[kept] = self->bad[i];
    self->queued[kept] = self->queued[i];
    if (self->queued[i] != uid) ++kept;
  }
  self->n_queued = kept;
  return RETORT_OK;
}

/* ---- the library ---- */

#define DEED_SCHEMA                                                                       \
  "{\"type\":\"object\",\"properties\":{\"deed\":{\"type\":\"string\",\"default\":\"\"}," \
  "\"at\":{\"type\":\"string\",\"enum\":[\"create\",\"destroy\",\"call\"],\"default\":\"call\"}}}"
#define PLUGIN(KIND, NAME) \
  { sizeof(retort_descriptor), 0, KIND, NAME, "1.0.0", "for tests", DEED_SCHEMA }

static const retort_descriptor kDescriptors[] = {
    PLUGIN("reward", "probe"),     PLUGIN("reward", "groups"), PLUGIN("reward", "voter"),
    PLUGIN("filter", "script"),    PLUGIN("filter", "mean"),   PLUGIN("source", "counter"),
    PLUGIN("generator", "mirror"), PLUGIN("op", "none")};

static const retort_reward_v1 kReward = {sizeof(retort_reward_v1), RETORT_REWARD_CONCURRENT, 64,
                                         score};
static const retort_reward_v1 kGroups = {sizeof(retort_reward_v1), RETORT_REWARD_GROUPWISE, 64,
                                         score};
static const retort_answer_v1 kAnswer = {sizeof(retort_answer_v1), 0, classes};
static const retort_filter_v1 kFilter = {
    sizeof(retort_filter_v1), 0, 0, 0, NULL, NULL, judge, NULL, NULL};
static const retort_filter_v1 kMean = {
    sizeof(retort_filter_v1), 0, 1, 0, observe, end_pass, judge, save, merge};
static const retort_source_v1 kSource = {sizeof(retort_source_v1), 0, next, save_position,
                                         load_position};
static const retort_generator_v1 kGenerator = {sizeof(retort_generator_v1), 0, submit, poll_events,
                                               cancel};

static retort_status init(const char* path) {
  (void)path;
  return RETORT_OK;
}
static uint32_t count(void) { return sizeof kDescriptors / sizeof kDescriptors[0]; }
static const retort_descriptor* describe(uint32_t index) {
  return index < count() ? &kDescriptors[index] : NULL;
}

/* The string member `key` of a flat config without escapes. */
static void member(retort_str config, const char* key, char* out, size_t size) {
  char text[512], pattern[32];
  const char* at;
  size_t n = config.len < sizeof text - 1 ? config.len : sizeof text - 1;
  memcpy(text, config.ptr, n);
  text[n] = '\0';
  snprintf(pattern, sizeof pattern, "\"%s\":\"", key);
  at = strstr(text, pattern);
  if (at == NULL) return;
  at += strlen(pattern);
  n = strcspn(at, "\"");
  if (n >= size) return;
  memcpy(out, at, n);
  out[n] = '\0';
}

static retort_status create(const retort_host* host, const retort_call* call, const char* kind,
                            const char* id, retort_str config, retort_instance** out) {
  uint32_t i;
  char at[16] = "";
  for (i = 0; i < count(); ++i) {
    if (strcmp(kDescriptors[i].kind, kind) != 0 || strcmp(kDescriptors[i].id, id) != 0) continue;
    *out = (retort_instance*)calloc(1, sizeof **out);
    if (*out == NULL) return RETORT_RESOURCE_EXHAUSTED;
    (*out)->id = kDescriptors[i].id;
    (*out)->host = host;
    member(config, "deed", (*out)->config, sizeof(*out)->config);
    member(config, "at", at, sizeof at);
    if (strcmp(at, "create") == 0) do_deed(call, text_of((*out)->config));
    if (strcmp((*out)->config, "refuse") == 0) {
      call->error(call->ctx, RETORT_INVALID_ARGUMENT, text_of("/deed: not this one"));
      return RETORT_INVALID_ARGUMENT;
    }
    return RETORT_OK;
  }
  return RETORT_NOT_FOUND;
}

static void destroy(retort_instance* self) {
  if (starts(text_of(self->config), "destroy:")) {
    /* Leaves a trace: proof that the worker's plugin was destroyed in order. */
    FILE* file = fopen(self->config + 8, "w");
    if (file != NULL) fclose(file);
  }
  if (strcmp(self->config, "hang") == 0) do_deed(NULL, text_of("hang"));
  free(self);
}

static const void* get_interface(retort_instance* self, const char* interface_id) {
  const int is_reward = strcmp(interface_id, RETORT_REWARD_INTERFACE) == 0;
  if (is_reward && strcmp(self->id, "groups") == 0) return &kGroups;
  if (is_reward && strcmp(self->id, "probe") == 0) return &kReward;
  if (is_reward && strcmp(self->id, "voter") == 0) return &kReward;
  if (strcmp(interface_id, RETORT_ANSWER_INTERFACE) == 0 && strcmp(self->id, "voter") == 0) {
    return &kAnswer;
  }
  if (strcmp(interface_id, RETORT_FILTER_INTERFACE) == 0) {
    if (strcmp(self->id, "mean") == 0) return &kMean;
    if (strcmp(self->id, "script") == 0) return &kFilter;
  }
  if (strcmp(interface_id, RETORT_SOURCE_INTERFACE) == 0 && strcmp(self->id, "counter") == 0) {
    return &kSource;
  }
  if (strcmp(interface_id, RETORT_GENERATOR_INTERFACE) == 0 && strcmp(self->id, "mirror") == 0) {
    return &kGenerator;
  }
  return NULL;
}

static const retort_entry kEntry = {sizeof(retort_entry),
                                    RETORT_ABI_MINOR,
                                    "worker-probe",
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
