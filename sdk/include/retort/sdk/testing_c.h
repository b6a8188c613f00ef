// Plays the host in a test of a plugin, in plain C (and C++): opens the built library, creates an
// instance from a config as the host would, records errors, and hands out samples, tensors and
// streams. It helps to test what the plugin says; `retort plugin check` tests the rules of the ABI.
//
//   int main(int argc, char** argv) {
//     retort_test t;
//     retort_test_open(&t, argc, argv);        // the library is the first argument
//     retort_test_create(&t, "reward", "my_reward", "{}");
//     RETORT_TEST_CHECK(&t, ...);
//     return retort_test_finish(&t);
//   }
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_SDK_TESTING_C_H_
#define RETORT_SDK_TESTING_C_H_

#include <dlfcn.h>
#include <math.h>

#include "retort/abi/entry.h"
#include "retort/abi/filter.h"
#include "retort/abi/reward.h"
#include "retort/abi/tensor.h"
#include "retort/sdk/testing_json.h"
#include "retort/sdk/testing_schema.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RETORT_TEST_SCRATCH 64

typedef struct retort_test {
  const retort_entry* entry;
  retort_instance* instance; /* of the last create */
  retort_host host;
  retort_call call;
  retort_status error_code; /* of the last call that failed, and its text */
  char error[512];
  int32_t cancel; /* set it to 1 to see the plugin stop */
  int checks, failures;
  void* scratch[RETORT_TEST_SCRATCH]; /* of the current call */
  uint32_t n_scratch;
} retort_test;

/* Counts, and prints what failed; goes on. */
static inline int retort_test_note(retort_test* t, int good, const char* file, int line,
                                   const char* what) {
  ++t->checks;
  if (good) return 1;
  ++t->failures;
  printf("%s:%d: failed: %s%s%s\n", file, line, what, t->error[0] ? "\n  the plugin said: " : "",
         t->error);
  return 0;
}
#define RETORT_TEST_CHECK(t, condition) \
  retort_test_note(t, (condition) ? 1 : 0, __FILE__, __LINE__, #condition)
#define RETORT_TEST_NEAR(t, a, b, tolerance) \
  retort_test_near(t, a, b, tolerance, __FILE__, __LINE__, #a)

static inline int retort_test_near(retort_test* t, double a, double b, double tolerance,
                                   const char* file, int line, const char* what) {
  char text[256];
  snprintf(text, sizeof text, "%s is %.9g, expected %.9g within %.3g", what, a, b, tolerance);
  return retort_test_note(t, fabs(a - b) <= tolerance, file, line, text);
}

/* Ends the program: without this nothing else can be tested. */
static inline void retort_test_die(const char* what, const char* why) {
  printf("%s: %s\n", what, why);
  exit(1);
}

static inline void retort_test_on_error(void* ctx, retort_status code, retort_str text) {
  retort_test* t = (retort_test*)ctx;
  const uint64_t n = text.len < sizeof t->error - 1 ? text.len : sizeof t->error - 1;
  t->error_code = code;
  if (n > 0) memcpy(t->error, text.ptr, n);
  t->error[n] = 0;
}
static inline void retort_test_on_log(void* ctx, int32_t level, retort_str text) {
  (void)ctx;
  printf("log %d: %.*s\n", (int)level, (int)text.len, text.ptr ? text.ptr : "");
}
static inline void retort_test_on_metric(void* ctx, retort_str name, double sum, double count) {
  (void)ctx;
  printf("metric %.*s: %g / %g\n", (int)name.len, name.ptr, sum, count);
}
static inline void retort_test_on_progress(void* ctx, double fraction, retort_str what) {
  (void)ctx;
  (void)fraction;
  (void)what;
}
static inline void* retort_test_on_scratch(void* ctx, uint64_t bytes, uint64_t alignment) {
  retort_test* t = (retort_test*)ctx;
  const uint64_t a = alignment < 64 ? 64 : alignment;
  if (t->n_scratch == RETORT_TEST_SCRATCH) return NULL;
  void* memory = aligned_alloc(a, (bytes / a + 1) * a);
  if (memory) t->scratch[t->n_scratch++] = memory;
  return memory;
}

static inline const void* retort_test_host_interface(void* ctx, const char* id) {
  (void)ctx;
  return strcmp(id, RETORT_HOST_JSON_INTERFACE) == 0 ? &retort_test_json_table : NULL;
}

/* The argument of a call to the plugin: error and scratch of the call before are gone. */
static inline const retort_call* retort_test_call(retort_test* t) {
  while (t->n_scratch > 0) free(t->scratch[--t->n_scratch]);
  t->error_code = RETORT_OK;
  t->error[0] = 0;
  return &t->call;
}

/* For a library that is linked in. */
static inline void retort_test_begin(retort_test* t, const retort_entry* entry) {
  memset(t, 0, sizeof *t);
  t->entry = entry;
  t->host.struct_size = sizeof t->host;
  t->host.abi_minor = RETORT_ABI_MINOR;
  t->host.name = "plugin test";
  t->host.version = "0";
  t->host.get_interface = retort_test_host_interface;
  t->call.struct_size = sizeof t->call;
  t->call.ctx = t;
  t->call.cancel = &t->cancel;
  t->call.step = -1;
  t->call.device_type = RETORT_DEVICE_CPU;
  t->call.n_threads = 1;
  t->call.key.hi = 1;
  t->call.key.lo = 2;
  t->call.error = retort_test_on_error;
  t->call.log = retort_test_on_log;
  t->call.metric = retort_test_on_metric;
  t->call.progress = retort_test_on_progress;
  t->call.scratch = retort_test_on_scratch;
}

/* Opens argv[1], checks the entry, runs its init. */
static inline void retort_test_open(retort_test* t, int argc, char** argv) {
  typedef const retort_entry* (*get_entry)(void);
  if (argc < 2) retort_test_die("usage", "TEST LIBRARY.so");
  void* library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (!library) retort_test_die(argv[1], dlerror());
  void* symbol = dlsym(library, RETORT_PLUGIN_ENTRY_SYMBOL);
  if (!symbol) retort_test_die(argv[1], "has no " RETORT_PLUGIN_ENTRY_SYMBOL);
  get_entry get;
  memcpy(&get, &symbol, sizeof get); /* no cast leads from an object to a function */
  const retort_entry* entry = get();
  if (!entry || entry->struct_size < sizeof *entry) retort_test_die(argv[1], "the entry is broken");
  if (entry->init(argv[1]) != RETORT_OK) retort_test_die(argv[1], "init failed");
  retort_test_begin(t, entry);
}

static inline const retort_descriptor* retort_test_descriptor(const retort_test* t,
                                                              const char* kind, const char* id) {
  for (uint32_t i = 0; i < t->entry->count(); ++i) {
    const retort_descriptor* d = t->entry->describe(i);
    if (strcmp(d->kind, kind) == 0 && strcmp(d->id, id) == 0) return d;
  }
  retort_test_die(id, "the library has no plugin of that kind and id");
  return NULL;
}

/* A new instance in t->instance, or the failure with its text in t->error. The config is checked
 * against the plugin's schema and its defaults are filled in first, as the host does. */
static inline retort_status retort_test_try_create(retort_test* t, const char* kind, const char* id,
                                                   const char* config) {
  const retort_descriptor* d = retort_test_descriptor(t, kind, id);
  const retort_call* call = retort_test_call(t);
  char* filled = NULL;
  const retort_status checked =
      retort_test_fill(d->config_schema, config, &filled, t->error, sizeof t->error);
  if (checked != RETORT_OK) return checked;
  if (t->instance) t->entry->destroy(t->instance);
  t->instance = NULL;
  const retort_str json = {filled, strlen(filled)};
  const retort_status status = t->entry->create(&t->host, call, kind, id, json, &t->instance);
  free(filled);
  return status;
}

static inline void retort_test_create(retort_test* t, const char* kind, const char* id,
                                      const char* config) {
  if (retort_test_try_create(t, kind, id, config) != RETORT_OK) retort_test_die(config, t->error);
}

/* The config must be refused with a text that contains `part`. */
#define RETORT_TEST_REFUSES(t, kind, id, config, part)                         \
  retort_test_note(t,                                                          \
                   retort_test_try_create(t, kind, id, config) != RETORT_OK && \
                       strstr((t)->error, part) != NULL,                       \
                   __FILE__, __LINE__, "the config " config " is refused with: " part)

/* The instance's table; ends the program without it. */
static inline const void* retort_test_table(retort_test* t, const char* interface_id) {
  const void* table = t->entry->get_interface(t->instance, interface_id);
  if (!table) retort_test_die(interface_id, "the instance has no such table");
  return table;
}

/* The program's exit code. */
static inline int retort_test_finish(retort_test* t) {
  retort_test_call(t);
  if (t->instance) t->entry->destroy(t->instance);
  if (t->entry->deinit) t->entry->deinit();
  printf("%d checks, %d failed\n", t->checks, t->failures);
  return t->failures == 0 && t->checks > 0 ? 0 : 1;
}

/* ---- texts, samples, streams, tensors ----------------------------------------------------- */

/* NULL: absent. */
static inline retort_str retort_test_text(const char* text) {
  const retort_str s = {text, text ? strlen(text) : 0};
  return s;
}

static inline retort_sample retort_test_sample(const char* completion, const char* gold) {
  retort_sample s;
  memset(&s, 0, sizeof s);
  s.prompt = retort_test_text("");
  s.completion = retort_test_text(completion);
  s.gold = retort_test_text(gold);
  return s;
}

static inline void retort_test_no_info(void* ctx, uint64_t index, retort_str json) {
  (void)ctx;
  (void)index;
  (void)json;
}

/* Scores a batch; score and status have room for n, and are prefilled as the host does. */
static inline retort_status retort_test_score(retort_test* t, const retort_sample* samples,
                                              uint64_t n, double* score, uint8_t* status) {
  const retort_reward_v1* reward =
      (const retort_reward_v1*)retort_test_table(t, RETORT_REWARD_INTERFACE);
  retort_reward_args args;
  memset(&args, 0, sizeof args);
  args.struct_size = sizeof args;
  args.sample_stride = sizeof *samples;
  args.samples = samples;
  args.n = n;
  args.score = score;
  args.status = status;
  args.info = retort_test_no_info;
  for (uint64_t i = 0; i < n; ++i) {
    score[i] = (double)NAN;
    status[i] = RETORT_SCORE_ERROR;
  }
  return reward->score(t->instance, retort_test_call(t), &args);
}

static inline void retort_test_on_decide(void* ctx, uint64_t sample, const retort_decision* d) {
  ((uint32_t*)ctx)[sample] = d->action;
}

/* Judges the samples as one group; action has room for n (RETORT_KEEP where nothing was said). */
static inline retort_status retort_test_judge(retort_test* t, const retort_sample* samples,
                                              uint64_t n, uint32_t* action) {
  const retort_filter_v1* filter =
      (const retort_filter_v1*)retort_test_table(t, RETORT_FILTER_INTERFACE);
  const retort_group group = {0, n, 0};
  retort_filter_args args;
  memset(&args, 0, sizeof args);
  memset(action, 0, n * sizeof *action);
  args.struct_size = sizeof args;
  args.sample_stride = sizeof *samples;
  args.group_stride = sizeof group;
  args.samples = samples;
  args.n_samples = n;
  args.groups = &group;
  args.n_groups = 1;
  args.pass = filter->n_observe_passes;
  args.out_ctx = action;
  args.decide = retort_test_on_decide;
  return filter->judge(t->instance, retort_test_call(t), &args);
}

/* What save writes and load reads; both ends take three bytes at a time, as they may. */
typedef struct retort_test_buffer {
  char data[4096];
  uint64_t n, at;
} retort_test_buffer;

static inline int64_t retort_test_buffer_write(void* ctx, const void* data, uint64_t n) {
  retort_test_buffer* b = (retort_test_buffer*)ctx;
  const uint64_t taken = n < 3 ? n : 3;
  if (taken > sizeof b->data - b->n) return -1;
  if (taken > 0) memcpy(b->data + b->n, data, taken);
  b->n += taken;
  return (int64_t)taken;
}
static inline int64_t retort_test_buffer_read(void* ctx, void* data, uint64_t n) {
  retort_test_buffer* b = (retort_test_buffer*)ctx;
  uint64_t given = n < 3 ? n : 3;
  if (given > b->n - b->at) given = b->n - b->at;
  if (given > 0) memcpy(data, b->data + b->at, given);
  b->at += given;
  return (int64_t)given;
}
static inline retort_sink retort_test_sink(retort_test_buffer* b) {
  const retort_sink sink = {b, retort_test_buffer_write};
  b->n = b->at = 0;
  return sink;
}
static inline retort_reader retort_test_reader(retort_test_buffer* b) {
  const retort_reader reader = {b, retort_test_buffer_read};
  b->at = 0;
  return reader;
}

static const retort_dtype retort_test_f32 = {RETORT_DTYPE_FLOAT, 32, 1};
static const retort_dtype retort_test_f64 = {RETORT_DTYPE_FLOAT, 64, 1};
static const retort_dtype retort_test_bf16 = {RETORT_DTYPE_BFLOAT, 16, 1};
static const retort_dtype retort_test_i32 = {RETORT_DTYPE_INT, 32, 1};
static const retort_dtype retort_test_i64 = {RETORT_DTYPE_INT, 64, 1};
static const retort_dtype retort_test_u8 = {RETORT_DTYPE_UINT, 8, 1};

/* A dense tensor on the CPU over `data`; stays where it was made. */
typedef struct retort_test_tensor {
  retort_tensor tensor;
  int64_t shape[2], strides[2];
} retort_test_tensor;

/* columns 0: a vector. */
static inline retort_tensor* retort_test_tensor_of(retort_test_tensor* x, void* data,
                                                   retort_dtype dtype, int64_t rows,
                                                   int64_t columns) {
  memset(x, 0, sizeof *x);
  x->shape[0] = rows;
  x->shape[1] = columns;
  x->strides[0] = columns > 0 ? columns : 1;
  x->strides[1] = 1;
  x->tensor.data = data;
  x->tensor.device.type = RETORT_DEVICE_CPU;
  x->tensor.ndim = columns > 0 ? 2 : 1;
  x->tensor.dtype = dtype;
  x->tensor.shape = x->shape;
  x->tensor.strides = x->strides;
  return &x->tensor;
}

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* RETORT_SDK_TESTING_C_H_ */
