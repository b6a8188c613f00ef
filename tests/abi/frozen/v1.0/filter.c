// A filter as an author wrote it for ABI 1.0: one pass sums the lengths of completions; judge drops
// those longer than twice the mean, rewrites those with a trailing space, and gives up on empty
// ones. SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "retort/abi/entry.h"
#include "retort/abi/filter.h"

struct state {
  uint64_t magic, n, bytes;
};
#define MAGIC UINT64_C(0x6e65657366696c74)

struct instance {
  struct state state;
  retort_filter_v1 table;
};

static struct instance* of(retort_instance* p) { return (struct instance*)p; }

static const retort_sample* sample_at(const retort_filter_args* args, uint64_t i) {
  return (const retort_sample*)(const void*)((const char*)args->samples + i * args->sample_stride);
}

static const retort_group* group_at(const retort_filter_args* args, uint64_t i) {
  return (const retort_group*)(const void*)((const char*)args->groups + i * args->group_stride);
}

static retort_status observe(retort_instance* p, const retort_call* call,
                             const retort_filter_args* args) {
  (void)call;
  for (uint64_t i = 0; i < args->n_samples; ++i) {
    of(p)->state.n += 1;
    of(p)->state.bytes += sample_at(args, i)->completion.len;
  }
  return RETORT_OK;
}

static retort_status end_pass(retort_instance* p, const retort_call* call, uint32_t pass) {
  (void)p, (void)call;
  return pass == 0 ? RETORT_OK : RETORT_INVALID_ARGUMENT;
}

static retort_decision decide(const struct instance* self, retort_str text) {
  retort_decision d = {0};
  d.struct_size = sizeof d;
  d.quality = (double)text.len;
  if (text.len == 0) {
    d.action = RETORT_ERROR;
    d.reason = (retort_str){"empty", 5};
  } else if (text.len * self->state.n > 2 * self->state.bytes) {
    d.action = RETORT_DROP;
    d.reason_code = 1;
    d.reason = (retort_str){"long", 4};
  } else if (text.ptr[text.len - 1] == ' ') {
    d.action = RETORT_REWRITE;
    d.reason = (retort_str){"trimmed", 7};
    d.completion = (retort_str){text.ptr, text.len - 1};
  }
  return d;
}

static retort_status judge(retort_instance* p, const retort_call* call,
                           const retort_filter_args* args) {
  (void)call;
  for (uint64_t g = 0; g < args->n_groups; ++g) {
    const retort_group* group = group_at(args, g);
    for (uint64_t i = group->first; i < group->first + group->n; ++i) {
      const retort_decision d = decide(of(p), sample_at(args, i)->completion);
      args->decide(args->out_ctx, i, &d);
    }
  }
  return RETORT_OK;
}

static retort_status save(retort_instance* p, const retort_call* call, const retort_sink* sink) {
  const char* bytes = (const char*)&of(p)->state;
  uint64_t done = 0;
  (void)call;
  while (done < sizeof of(p)->state) {
    const int64_t n = sink->write(sink->ctx, bytes + done, sizeof of(p)->state - done);
    if (n <= 0) return RETORT_ABORTED;
    done += (uint64_t)n;
  }
  return RETORT_OK;
}

static retort_status merge(retort_instance* p, const retort_call* call,
                           const retort_reader* reader) {
  struct state other;
  char extra;
  uint64_t done = 0;
  (void)call;
  while (done < sizeof other) {
    const int64_t n = reader->read(reader->ctx, (char*)&other + done, sizeof other - done);
    if (n < 0) return RETORT_ABORTED;
    if (n == 0) return RETORT_DATA_LOSS;
    done += (uint64_t)n;
  }
  if (other.magic != MAGIC || reader->read(reader->ctx, &extra, 1) != 0) return RETORT_DATA_LOSS;
  of(p)->state.n += other.n;
  of(p)->state.bytes += other.bytes;
  return RETORT_OK;
}

static retort_status init(const char* path) { return path[0] == '/' ? RETORT_OK : RETORT_INTERNAL; }
static uint32_t count(void) { return 1; }

static const retort_descriptor* describe(uint32_t index) {
  static const retort_descriptor kLong = {sizeof(retort_descriptor),
                                          0,
                                          RETORT_KIND_FILTER,
                                          "frozen_long",
                                          "1.0.0",
                                          "drops what is longer than twice the mean",
                                          NULL};
  return index == 0 ? &kLong : NULL;
}

static retort_status create(const retort_host* host, const retort_call* call, const char* kind,
                            const char* id, retort_str config, retort_instance** out) {
  (void)host, (void)call, (void)config;
  if (strcmp(kind, RETORT_KIND_FILTER) != 0 || strcmp(id, "frozen_long") != 0) {
    return RETORT_NOT_FOUND;
  }
  struct instance* self = calloc(1, sizeof *self);
  if (self == NULL) return RETORT_RESOURCE_EXHAUSTED;
  self->state.magic = MAGIC;
  self->table =
      (retort_filter_v1){sizeof(retort_filter_v1), 0, 1, 0, observe, end_pass, judge, save, merge};
  *out = (retort_instance*)self;
  return RETORT_OK;
}

static void destroy(retort_instance* p) { free(of(p)); }

static const void* get_interface(retort_instance* p, const char* id) {
  return strcmp(id, RETORT_FILTER_INTERFACE) == 0 ? &of(p)->table : NULL;
}

const retort_entry* retort_plugin_entry_v1(void) {
  static const retort_entry kEntry = {sizeof(retort_entry),
                                      RETORT_ABI_MINOR,
                                      "frozen-filter",
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
