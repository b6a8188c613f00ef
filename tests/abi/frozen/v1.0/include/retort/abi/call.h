// What a plugin is given with every call: where errors go, whether to stop, what it may use.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_ABI_CALL_H_
#define RETORT_ABI_CALL_H_

#include "retort/abi/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Levels of log. */
#define RETORT_LOG_DEBUG 0
#define RETORT_LOG_INFO 1
#define RETORT_LOG_WARNING 2
#define RETORT_LOG_ERROR 3

/* Valid for one call; never keep it or anything it points to. Built by the host. The callbacks
 * run on the call's thread (log: [any]) and only until the call returns; they can't fail. */
typedef struct retort_call {
  uint32_t struct_size;
  uint32_t flags; /* none yet */
  void* ctx;      /* first argument of every callback */
  /* NULL or a flag to poll (relaxed atomic load): nonzero means return RETORT_CANCELLED within
   * 10 ms. */
  const int32_t* cancel;
  int64_t deadline_ns; /* CLOCK_MONOTONIC, nanoseconds; 0: none. Past: DEADLINE_EXCEEDED */
  int64_t step;        /* of the stage, from 0; -1: none */
  retort_key key;      /* R9 */
  void* stream;        /* CUstream whose device is current; NULL exactly on the CPU. Work is only
                          enqueued there, never waited for */
  int32_t device_type; /* RETORT_DEVICE_*: of tensors and scratch */
  int32_t device_id;   /* 0 on the CPU */
  int32_t n_threads;   /* that this call may use, itself included; at least 1 */
  int32_t _pad;
  /* The reason of a failure: what was tried, on what, which rule, what to do. Copied; the last
   * one wins; without a failing return value it is ignored. */
  void (*error)(void* ctx, retort_status code, retort_str message);
  /* A line for the log; level: RETORT_LOG_*. [any]; copied. */
  void (*log)(void* ctx, int32_t level, retort_str message);
  /* A number for the run's metrics: the host reports (sum of sums) / (sum of counts) per name
   * over calls and ranks. Both finite, count >= 0, else it is ignored. name: copied, its first
   * 64 bytes count. */
  void (*metric)(void* ctx, retort_str name, double sum, double count);
  /* For people who wait: fraction in 0..1 of this call; what: copied, may be absent. */
  void (*progress)(void* ctx, double fraction, retort_str what);
  /* Memory on the call's device until the call returns; alignment a power of two up to 4096.
   * NULL: none left, return RETORT_RESOURCE_EXHAUSTED. */
  void* (*scratch)(void* ctx, uint64_t bytes, uint64_t alignment);
} retort_call;

#ifdef __cplusplus
}
#endif

#endif /* RETORT_ABI_CALL_H_ */
