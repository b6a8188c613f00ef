// A reward or filter plugin that is fine until it does one thing, ZOO_DO, at one place, ZOO_AT:
// while it is loaded, in init, create, score (or judge) of a sample whose completion begins with
// "poison", or destroy. Members and outcomes: zoo.txt. SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <fenv.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

#include "retort/abi/entry.h"
#include "retort/abi/filter.h"
#include "retort/abi/reward.h"

#define AT_LOAD 0
#define AT_INIT 1
#define AT_DESCRIBE 2
#define AT_CREATE 3
#define AT_SAMPLE 4
#define AT_DESTROY 5
#define SCHEMA                                                                                \
  "{\"type\": \"object\", \"properties\": {\"trigger\": {\"type\": \"string\", \"default\": " \
  "\"\"}}}"
#ifndef ZOO_FLAGS
#define ZOO_FLAGS 0
#endif

struct state { /* of a filter's observe pass */
  int64_t n_seen;
  double sum;
};
struct retort_instance {
  struct state state;
  size_t n_trigger;
  char trigger[16];
};

// Where the deed is done; members may be NULL.
struct place {
  retort_instance* self;
  const retort_call* call;
  const retort_reward_args* rewards;
  uint64_t index;
};

static retort_status score(retort_instance* self, const retort_call* call,
                           const retort_reward_args* args);

// ---- deeds -------------------------------------------------------------------------------------

#define DEED static __attribute__((unused)) void

DEED nothing(const struct place* p) { (void)p; }
DEED crash(const struct place* p) {
  volatile int* volatile nowhere = NULL;
  *nowhere = p->index == 0;
}
DEED aborts(const struct place* p) {
  (void)p;
  abort();
}
DEED exits(const struct place* p) {
  (void)p;
  exit(0);
}
DEED exits_now(const struct place* p) {
  (void)p;
  _exit(0);
}
DEED loops(const struct place* p) {
  for (volatile uint64_t turns = p->index;; ++turns) {
  }
}
DEED deadlocks(const struct place* p) {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  (void)p;
  pthread_mutex_lock(&mutex);
  pthread_mutex_lock(&mutex);
}
DEED stops(const struct place* p) {
  (void)p;
  raise(SIGSTOP);
}
static int descend(volatile char* above) {
  volatile char block[4096];
  block[0] = above[0];
  block[4095] = 0;
  if (above[0] == 77) return 0;  // never: no sample has that many before it
  return descend(block) + block[4095];
}
DEED overflows_stack(const struct place* p) {
  volatile char first = (char)p->index;
  descend(&first);
}
DEED reenters(const struct place* p) { score(p->self, p->call, p->rewards); }
DEED leaks(const struct place* p) {
  static char* volatile leaked;  // so that the compiler keeps it
  const size_t n = (size_t)1 << 30;
  char* block = leaked = malloc(n);
  (void)p;
  for (size_t i = 0; block != NULL && i < n; i += 1 << 20) block[i] = 1;
}
DEED frees_host_memory(const struct place* p) {
  void* volatile block = (void*)(uintptr_t)p->rewards->samples;
  free(block);
  free(block);
}
DEED overruns(const struct place* p) {
  for (uint64_t i = 0; i < (uint64_t)1 << 24; ++i) p->rewards->score[p->rewards->n + i] = 7;
}
DEED info_out_of_range(const struct place* p) {
  p->rewards->info(p->rewards->info_ctx, p->rewards->n, (retort_str){"{}", 2});
}
DEED info_no_json(const struct place* p) {
  p->rewards->info(p->rewards->info_ctx, p->index, (retort_str){"{]", 2});
}
static void* report_from_thread(void* raw) {
  const struct place* p = raw;
  p->rewards->info(p->rewards->info_ctx, p->index, (retort_str){"{}", 2});
  p->call->metric(p->call->ctx, (retort_str){"from a thread", 13}, 1, 1);
  return NULL;
}
DEED calls_from_thread(const struct place* p) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, report_from_thread, (void*)(uintptr_t)p) != 0) return;
  pthread_join(thread, NULL);
}
static void* stay(void* nothing_given) {
  for (;;) sleep(1);
  return nothing_given;
}
DEED leaves_thread(const struct place* p) {
  pthread_t thread;
  (void)p;
  if (pthread_create(&thread, NULL, stay, NULL) == 0) pthread_detach(thread);
}
static const retort_call* kept_call;
DEED keeps_call(const struct place* p) {
  if (kept_call == NULL) kept_call = p->call;
  kept_call->log(kept_call->ctx, RETORT_LOG_INFO, (retort_str){"from an old call", 16});
}
static void on_signal(int number) { (void)number; }
DEED sets_signal_handlers(const struct place* p) {
  (void)p;
  signal(SIGTERM, on_signal);
  signal(SIGSEGV, on_signal);
  signal(SIGINT, SIG_IGN);
}
DEED sets_locale(const struct place* p) {
  (void)p;
  setlocale(LC_ALL, "C.UTF-8");
}
DEED sets_flush_to_zero(const struct place* p) {
  (void)p;
#ifdef __SSE__
  _mm_setcsr(_mm_getcsr() | 0x8040);
#endif
}
DEED sets_rounding(const struct place* p) {
  (void)p;
  fesetround(FE_UPWARD);
}
DEED sets_traps(const struct place* p) {
  (void)p;
  feenableexcept(FE_DIVBYZERO | FE_INVALID);
}
DEED changes_folder(const struct place* p) {
  (void)p;
  if (chdir("/") != 0) abort();
}
DEED sets_umask(const struct place* p) {
  (void)p;
  umask(0);
}
DEED closes_standard(const struct place* p) {
  (void)p;
  for (int fd = 0; fd < 3; ++fd) close(fd);
}
DEED closes_all(const struct place* p) {
  (void)p;
  for (int fd = 3; fd < 1024; ++fd) close(fd);
}
DEED writes_everywhere(const struct place* p) {
  static const char text[] = "garbage garbage garbage garbage garbage";
  (void)p;
  for (int fd = 3; fd < 64; ++fd) {
    if (write(fd, text, sizeof text) < 0) continue;
  }
}
DEED prints(const struct place* p) {
  (void)p;
  printf("{\"this\": is no line of the result\n");
  fflush(stdout);
}
DEED forgets(const struct place* p) { p->rewards->status[p->index] = RETORT_SCORE_ERROR; }
DEED says_nan(const struct place* p) { p->rewards->score[p->index] = NAN; }
DEED says_unknown_status(const struct place* p) { p->rewards->status[p->index] = 9; }
static uint64_t n_calls;
DEED counts_up(const struct place* p) { p->rewards->score[p->index] = (double)++n_calls; }

#ifdef ZOO_CLASH
// Names of the host's and of libc's own functions, hidden: they are this library's alone.
const char* retort_version(void);
const char* retort_version(void) { return "not retort's"; }
int isalnum(int c);
int isalnum(int c) { return c == 42; }
DEED clashes(const struct place* p) {
  const int ours = retort_version()[0] == 'n' && isalnum(42) && !isalnum('a');
  p->rewards->score[p->index] = ours ? 1 : NAN;
}
#endif

static void act(const struct place* p) { ZOO_DO(p); }

// ---- the plugin around it ----------------------------------------------------------------------

static int is_poison(const retort_instance* self, const retort_sample* sample) {
  const size_t n = self->n_trigger;
  return sample->completion.len >= n && memcmp(sample->completion.ptr, self->trigger, n) == 0;
}
static const retort_sample* sample_at(const retort_sample* first, uint64_t stride, uint64_t i) {
  return (const retort_sample*)(const void*)((const char*)first + i * stride);
}

static retort_status score(retort_instance* self, const retort_call* call,
                           const retort_reward_args* args) {
  for (uint64_t i = 0; i < args->n; ++i) {
    const retort_sample* sample = sample_at(args->samples, args->sample_stride, i);
    args->status[i] = RETORT_SCORE_OK;
    args->score[i] = (double)sample->completion.len;
    if (ZOO_AT == AT_SAMPLE && is_poison(self, sample)) act(&(struct place){self, call, args, i});
  }
  return RETORT_OK;
}

static __attribute__((unused))
const retort_reward_v1 reward_table = {sizeof(retort_reward_v1), ZOO_FLAGS, 0, score};

#ifdef ZOO_FILTER
// Keeps completions that are not longer than the mean; what is done wrong is chosen by ZOO_FILTER.
#define DECIDES_OUT_OF_RANGE 1
#define UNKNOWN_ACTION 2
#define DROPS_WITHOUT_REASON 3
#define DECIDES_IN_OBSERVE 4
#define MERGES_DIFFERENTLY 5
#define DEEDS_ONLY 6

static void decide(const retort_filter_args* args, uint64_t i, uint32_t action, const char* why) {
  const retort_decision decision = {
      .struct_size = sizeof decision, .action = action, .quality = 1, .reason = {why, strlen(why)}};
  args->decide(args->out_ctx, i, &decision);
}

static retort_status observe(retort_instance* self, const retort_call* call,
                             const retort_filter_args* args) {
  (void)call;
  for (uint64_t i = 0; i < args->n_samples; ++i) {
    const retort_sample* sample = sample_at(args->samples, args->sample_stride, i);
    ++self->state.n_seen;
    self->state.sum += (double)sample->completion.len;
  }
  if (ZOO_FILTER == DECIDES_IN_OBSERVE) decide(args, 0, RETORT_KEEP, "");
  return RETORT_OK;
}
static retort_status end_pass(retort_instance* self, const retort_call* call, uint32_t pass) {
  (void)self;
  (void)call;
  (void)pass;
  return RETORT_OK;
}
static retort_status judge(retort_instance* self, const retort_call* call,
                           const retort_filter_args* args) {
  const double mean = self->state.n_seen > 0 ? self->state.sum / (double)self->state.n_seen : 0;
  for (uint64_t i = 0; i < args->n_samples; ++i) {
    const retort_sample* sample = sample_at(args->samples, args->sample_stride, i);
    const int is_long = (double)sample->completion.len > 2 * mean;
    decide(args, i, is_long ? RETORT_DROP : RETORT_KEEP, is_long ? "long" : "");
    if (!is_poison(self, sample)) continue;
    if (ZOO_FILTER == DECIDES_OUT_OF_RANGE) decide(args, args->n_samples, RETORT_DROP, "nobody");
    if (ZOO_FILTER == UNKNOWN_ACTION) decide(args, i, 9, "nine");
    if (ZOO_FILTER == DROPS_WITHOUT_REASON) decide(args, i, RETORT_DROP, "");
    if (ZOO_AT == AT_SAMPLE) act(&(struct place){self, call, NULL, i});
  }
  return RETORT_OK;
}
static retort_status save(retort_instance* self, const retort_call* call, const retort_sink* sink) {
  (void)call;
  const char* bytes = (const char*)&self->state;
  for (uint64_t done = 0; done < sizeof self->state;) {
    const int64_t n = sink->write(sink->ctx, bytes + done, sizeof self->state - done);
    if (n <= 0) return RETORT_UNAVAILABLE;
    done += (uint64_t)n;
  }
  return RETORT_OK;
}
static retort_status merge(retort_instance* self, const retort_call* call,
                           const retort_reader* reader) {
  struct state other;
  (void)call;
  for (uint64_t done = 0; done < sizeof other;) {
    const int64_t n = reader->read(reader->ctx, (char*)&other + done, sizeof other - done);
    if (n <= 0) return RETORT_DATA_LOSS;
    done += (uint64_t)n;
  }
  if (ZOO_FILTER == MERGES_DIFFERENTLY) other.n_seen += self->state.n_seen * 2;
  self->state.n_seen += other.n_seen;
  self->state.sum += other.sum;
  return RETORT_OK;
}
static const retort_filter_v1 filter_table = {.struct_size = sizeof(retort_filter_v1),
                                              .n_observe_passes = 1,
                                              .observe = observe,
                                              .end_pass = end_pass,
                                              .judge = judge,
                                              .save = save,
                                              .merge = merge};
#endif

#if ZOO_AT == AT_LOAD
__attribute__((constructor)) static void on_load(void) { act(&(struct place){0}); }
#endif

static retort_status init(const char* path) {
  (void)path;
  if (ZOO_AT == AT_INIT) act(&(struct place){0});
  return RETORT_OK;
}

static uint32_t count(void) { return 1; }

static const retort_descriptor* describe_only(uint32_t index) {
  static const retort_descriptor descriptor = {sizeof(retort_descriptor),
                                               0,
#ifdef ZOO_FILTER
                                               RETORT_KIND_FILTER,
#else
                                               RETORT_KIND_REWARD,
#endif
                                               ZOO_ID,
                                               "1.0.0",
                                               "a plugin that misbehaves",
                                               SCHEMA};
  return index == 0 ? &descriptor : NULL;
}
static const retort_descriptor* describe(uint32_t index) {
  if (ZOO_AT == AT_DESCRIBE) act(&(struct place){0});
  return describe_only(index);
}

static retort_status create(const retort_host* host, const retort_call* call, const char* kind,
                            const char* id, retort_str config, retort_instance** out) {
  (void)host;
  if (strcmp(kind, describe_only(0)->kind) != 0 || strcmp(id, ZOO_ID) != 0) {
    call->error(call->ctx, RETORT_NOT_FOUND, (retort_str){"no such plugin", 14});
    return RETORT_NOT_FOUND;
  }
  if (ZOO_AT == AT_CREATE) act(&(struct place){.call = call});
  retort_instance* self = calloc(1, sizeof *self);
  if (self == NULL) return RETORT_RESOURCE_EXHAUSTED;
  // {"trigger":"WORD"}: the host has checked it and writes it without blanks.
  const size_t head = strlen("{\"trigger\":\"");
  while (self->n_trigger < sizeof self->trigger && head + self->n_trigger < config.len &&
         config.ptr[head + self->n_trigger] != '"') {
    self->trigger[self->n_trigger] = config.ptr[head + self->n_trigger];
    ++self->n_trigger;
  }
  *out = self;
  return RETORT_OK;
}

static void destroy(retort_instance* self) {
  if (ZOO_AT == AT_DESTROY) act(&(struct place){0});
  free(self);
}

static const void* get_interface(retort_instance* self, const char* id) {
  (void)self;
#ifdef ZOO_FILTER
  if (strcmp(id, RETORT_FILTER_INTERFACE) == 0) return &filter_table;
#else
  if (strcmp(id, RETORT_REWARD_INTERFACE) == 0) return &reward_table;
#endif
  return NULL;
}

__attribute__((visibility("default"))) const retort_entry* retort_plugin_entry_v1(void) {
  static const retort_entry entry = {sizeof(retort_entry),
                                     RETORT_ABI_MINOR,
                                     "zoo",
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
  return &entry;
}
