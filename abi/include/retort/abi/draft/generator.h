// Generators: answer prompts from elsewhere (a remote teacher, a search procedure). The host owns
// batching, retries and exactly-once bookkeeping.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_ABI_DRAFT_GENERATOR_H_
#define RETORT_ABI_DRAFT_GENERATOR_H_

#include "retort/abi/call.h"
#include "retort/abi/types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RETORT_GENERATOR_INTERFACE "retort.generator/0"

/* Walked by a stride; copied by submit. */
typedef struct retort_request {
  uint64_t uid;
  retort_str messages_json; /* array of {"role", "content"} */
  retort_str params_json;   /* sampling parameters, object */
  const int32_t* ids;       /* [n_ids] the rendered prompt; NULL: text only */
  uint32_t n_ids;
  uint32_t n_samples; /* at least 1 */
} retort_request;

/* Values of event.kind. */
#define RETORT_EVENT_DONE 0u  /* one sample, whole */
#define RETORT_EVENT_ERROR 1u /* one request failed; the host decides about a retry */
#define RETORT_EVENT_DELTA 2u /* new text of a sample */

/* Borrowed: valid until `on` returns. */
typedef struct retort_event {
  uint32_t struct_size;
  uint32_t kind; /* RETORT_EVENT_* */
  uint64_t uid;
  uint32_t sample;    /* of n_samples */
  uint32_t finish;    /* RETORT_FINISH_* of reward.h */
  retort_str text;    /* DONE: all; DELTA: the new part; ERROR: why */
  retort_str info;    /* JSON object for the record of the sample; may be absent */
  const int32_t* ids; /* [n_ids] or NULL */
  const float* logp;  /* [n_ids] or NULL, natural log */
  uint64_t n_ids;
  const int32_t* top_ids; /* [n_ids, top_k] or NULL */
  const float* top_logp;  /* likewise */
  uint32_t top_k;
  retort_status status;   /* ERROR: the kind of failure */
  int64_t retry_after_ns; /* ERROR: at least this long; 0: the host chooses */
} retort_event;

typedef struct retort_generator_v1 {
  uint32_t struct_size;
  uint32_t flags; /* none yet */
  /* Takes the first *n_taken of n requests (fewer when its queue is full). [serial] */
  retort_status (*submit)(retort_instance* instance, const retort_call* call,
                          const retort_request* requests, uint64_t stride, uint64_t n,
                          uint64_t* n_taken);
  /* Waits until there is an event or the deadline has come; calls `on` for each. [serial] */
  retort_status (*poll)(retort_instance* instance, const retort_call* call, void* ctx,
                        void (*on)(void* ctx, const retort_event* event));
  /* No more events of uid after it returns. [serial] */
  retort_status (*cancel)(retort_instance* instance, const retort_call* call, uint64_t uid);
} retort_generator_v1;

#ifdef __cplusplus
}
#endif

#endif /* RETORT_ABI_DRAFT_GENERATOR_H_ */
