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

/* One prompt. Walked by a stride; copied by submit. */
typedef struct retort_request {
  uint64_t uid;             /* names the request until its last event; then it may come again */
  retort_str messages_json; /* array of {"role": "system" | "user" | "assistant" | "tool",
                               "content": text}; a last one of the assistant is to be continued */
  retort_str params_json;   /* object: the keys of a stage's `sampling` (temperature, top_k, top_p,
                               min_p, the penalties, logit_bias, max_tokens, min_tokens, stop);
                               others are hints */
  const int32_t* ids;       /* [n_ids] the rendered prompt; NULL: text only */
  uint32_t n_ids;
  uint32_t n_samples; /* completions wanted, at least 1 */
} retort_request;

/* Values of event.kind. */
#define RETORT_EVENT_DONE 0u /* one sample, whole: exactly once per sample */
/* The request failed: no event of its uid follows; samples that are done stand. The host decides
 * about another try. */
#define RETORT_EVENT_ERROR 1u
#define RETORT_EVENT_DELTA 2u /* new text of a sample that isn't done; optional */

/* Built by the plugin; borrowed: valid until `on` returns. Events of different samples and requests
 * come in any order. */
typedef struct retort_event {
  uint32_t struct_size;
  uint32_t kind;   /* RETORT_EVENT_* */
  uint64_t uid;    /* of a request that was taken, isn't cancelled and hasn't ended */
  uint32_t sample; /* 0 to n_samples - 1; ERROR: 0 */
  uint32_t finish; /* DONE: RETORT_FINISH_* of reward.h; else 0 */
  retort_str text; /* DONE: the whole completion, of which the DELTAs before are a beginning; DELTA:
                      the new part; ERROR: why */
  retort_str info; /* JSON object for the sample's record; absent: none */
  const int32_t* ids;     /* [n_ids] tokens of text in the model's own vocabulary, or NULL */
  const float* logp;      /* [n_ids] natural log of each token's probability, at most 0; or NULL */
  uint64_t n_ids;         /* 0 without ids */
  const int32_t* top_ids; /* [n_ids, top_k] best tokens at each place, or NULL */
  const float* top_logp;  /* likewise, there exactly if top_ids is */
  uint32_t top_k;         /* 0 without top_ids */
  retort_status status;   /* ERROR: the kind of failure: UNAVAILABLE, RESOURCE_EXHAUSTED (quota) and
                             DEADLINE_EXCEEDED are worth another try; else 0 */
  int64_t retry_after_ns; /* ERROR: wait at least this long, nanoseconds; 0: the host chooses */
} retort_event;

/* Sampling depends on (call->key of submit, uid, sample), not on order or batching. */
typedef struct retort_generator_v1 {
  uint32_t struct_size;
  uint32_t flags; /* none yet */
  /* Takes the first *n_taken of n requests, fewer when its queue is full, and copies them; at least
   * one when nothing is under way. *n_taken: out, prefilled with 0; stride: bytes. Doesn't wait for
   * answers. A request that can't be answered is taken and gets an ERROR event; a failing status
   * means that none was taken. [serial] Errors: INVALID_ARGUMENT, ALREADY_EXISTS a uid is under
   * way, UNAVAILABLE. */
  retort_status (*submit)(retort_instance* instance, const retort_call* call,
                          const retort_request* requests, uint64_t stride, uint64_t n,
                          uint64_t* n_taken);
  /* Waits until there is an event, call->deadline_ns has come (RETORT_OK then, too) or
   * call->cancel is set; calls `on` for each event that there is, from this thread. Returns at
   * once when nothing is under way. ctx: first argument of `on`. A failing status ends all
   * requests under way. [serial] */
  retort_status (*poll)(retort_instance* instance, const retort_call* call, void* ctx,
                        void (*on)(void* ctx, const retort_event* event));
  /* No more events of uid after it returns; a uid that isn't under way is no error. [serial] */
  retort_status (*cancel)(retort_instance* instance, const retort_call* call, uint64_t uid);
} retort_generator_v1;

#ifdef __cplusplus
}
#endif

#endif /* RETORT_ABI_DRAFT_GENERATOR_H_ */
