// Losses. Token losses turn rows of logits into loss values and, in place, gradients; sequence
// losses turn per-token log-probabilities into a sum and its derivatives. The host owns masks,
// normalisers, weights, chunking, the head's matrix products and ranks.
// Shape letters: R rows of a chunk, V valid vocabulary, K top-k, T packed tokens, S sequences.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_ABI_DRAFT_LOSS_H_
#define RETORT_ABI_DRAFT_LOSS_H_

#include "retort/abi/call.h"
#include "retort/abi/tensor.h"
#include "retort/abi/types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RETORT_TOKEN_LOSS_INTERFACE "retort.loss.token/0"
#define RETORT_SEQUENCE_LOSS_INTERFACE "retort.loss.sequence/0"

/* Flags of retort_loss_spec. */
#define RETORT_LOSS_BF16 (1u << 0) /* rows also takes bf16 logits */
/* For checks, exact in f64. rows also takes f64 logits, loss and aux; eval also takes f64 in place
 * of f32 in all of its tensors at once. */
#define RETORT_LOSS_F64 (1u << 1)
/* Hint: a part of the loss is held constant in the gradient (a stop-gradient), so that it isn't
 * the derivative of the loss; checks then don't compare the two. */
#define RETORT_LOSS_SURROGATE (1u << 16)

/* Values of spec.grain: what is never split over calls. A sequence loss always gets whole
 * sequences. */
#define RETORT_GRAIN_ROW 0u      /* nothing: any rows in any order */
#define RETORT_GRAIN_SEQUENCE 1u /* all rows of a sequence are in one call, adjacent */
#define RETORT_GRAIN_GROUP 2u    /* all sequences with one group_id are in one call */

/* Side inputs of a token loss: bits of needs and optional, in member order of the args. */
#define RETORT_TOKEN_TEACHER_LOGITS (UINT64_C(1) << 0)
#define RETORT_TOKEN_TEACHER_TOP_K (UINT64_C(1) << 1) /* ids, logp and tail */
#define RETORT_TOKEN_SEQUENCE_ID (UINT64_C(1) << 2)
#define RETORT_TOKEN_POSITION (UINT64_C(1) << 3)

/* Side inputs of a sequence loss, likewise. */
#define RETORT_SEQUENCE_OLD_LOGP (UINT64_C(1) << 0)
#define RETORT_SEQUENCE_REF_LOGP (UINT64_C(1) << 1)
#define RETORT_SEQUENCE_BEHAVIOUR_LOGP (UINT64_C(1) << 2)
#define RETORT_SEQUENCE_ENTROPY (UINT64_C(1) << 3)
#define RETORT_SEQUENCE_POLICY_WEIGHT (UINT64_C(1) << 4)
#define RETORT_SEQUENCE_VALUE (UINT64_C(1) << 5)
#define RETORT_SEQUENCE_OLD_VALUE (UINT64_C(1) << 6)
#define RETORT_SEQUENCE_RETURNS (UINT64_C(1) << 7)
#define RETORT_SEQUENCE_ADVANTAGE (UINT64_C(1) << 8)
#define RETORT_SEQUENCE_GROUP_ID (UINT64_C(1) << 9)
#define RETORT_SEQUENCE_TARGET (UINT64_C(1) << 10)
#define RETORT_SEQUENCE_VALUE_AFTER (UINT64_C(1) << 11) /* value of the state that has read t */

/* Owned by the plugin, valid until destroy; a pure function of the config. */
typedef struct retort_loss_spec {
  uint32_t struct_size;
  uint32_t flags;    /* RETORT_LOSS_* */
  uint64_t needs;    /* bits: without these inputs it can't run */
  uint64_t optional; /* bits: used if there */
  uint32_t grain;    /* RETORT_GRAIN_* */
  uint32_t n_aux;
  const char* const* aux_names; /* [n_aux], each unique; metrics "<entry>/<name>" */
  uint64_t scratch_per_row;     /* bytes asked of call->scratch, for the memory plan; per thread
                                   excluded */
  double teacher_temperature;   /* at which the teacher's cache is to be written; 0: 1 */
  uint32_t teacher_top_k;       /* entries of the cache; 0: any */
  uint32_t _pad;
} retort_loss_spec;

/* Flags of retort_token_loss_args. */
#define RETORT_TOKEN_WANT_GRAD (1u << 0) /* logits become gradients */

/* One chunk of rows. Row strides may exceed the row length: the bytes between rows are the
 * host's and stay untouched. Members marked "out" are written by the plugin. */
typedef struct retort_token_loss_args {
  uint32_t struct_size;
  uint32_t flags;        /* RETORT_TOKEN_* */
  retort_tensor* logits; /* [R,V] f32 (bf16, f64 by spec flag); inner stride 1. With WANT_GRAD out:
                            overwritten by weight * dloss/dlogits, else read-only */
  const retort_tensor* labels; /* [R] i64, 0 <= label < V wherever weight is not 0 */
  const retort_tensor* weight; /* [R] f32 (beside f64 logits f32 or f64), may be negative. 0:
                                  the row's gradient is exactly 0, its loss and aux are ignored */
  /* Side inputs, each there if the spec needs it, or has it optional and the run offers it;
   * else NULL. Read-only. */
  const retort_tensor* teacher_logits; /* [R,V] f32 or bf16, before any temperature */
  const retort_tensor* teacher_ids;    /* [R,K] i32, each at most once; unused places: -1 */
  const retort_tensor* teacher_logp;   /* [R,K] f32, natural log at spec.teacher_temperature */
  const retort_tensor* teacher_tail;   /* [R] f32, natural log of the rest's probability */
  const retort_tensor* sequence_id;    /* [R] i32, equal exactly within a sequence */
  const retort_tensor* position;       /* [R] i32, of the row in its sequence, from 0 */
  retort_tensor* loss; /* out [R] f32 (f64 with f64 logits), without weight; finite */
  retort_tensor* aux;  /* out [R,n_aux] likewise, averaged by weight; NULL: not wanted */
} retort_token_loss_args;

/* A loss has this table, the sequence table below, or both. */
typedef struct retort_token_loss_v1 {
  uint32_t struct_size;
  uint32_t flags;                                             /* none yet */
  const retort_loss_spec* (*spec)(retort_instance* instance); /* never NULL. [serial] */
  /* One chunk: loss, aux and gradient of its rows, the same however a batch is cut into chunks
   * that respect the grain. [serial]; may use call->n_threads. Errors: UNIMPLEMENTED dtype or
   * device, INVALID_ARGUMENT label out of range. */
  retort_status (*rows)(retort_instance* instance, const retort_call* call,
                        const retort_token_loss_args* args);
} retort_token_loss_v1;

/* Packed per-token values; token t belongs to sequence s with cu_seqlens[s] <= t <
 * cu_seqlens[s + 1], prompt tokens included. logp[t] and entropy[t] are of token t given those
 * before it (a sequence's first token is masked), value[t] of the state that predicts t; in nats.
 * All vectors are contiguous. Values at masked tokens may be anything, NaN too. Inputs are
 * read-only; each [T] and [S] side input is there if the spec needs it, or has it optional and the
 * run offers it. With RETORT_LOSS_F64 the host may pass f64 wherever f32 is said, in all at once.
 */
typedef struct retort_sequence_loss_args {
  uint32_t struct_size;
  uint32_t flags;                  /* none yet */
  const retort_tensor* cu_seqlens; /* [S+1] i32, from 0 to T, not falling */
  const retort_tensor* mask;       /* [T] u8, 0 or 1; 0: not scored */
  const retort_tensor* logp;       /* [T] f32 */
  const retort_tensor* old_logp;   /* [T] f32, or NULL: the ratio is 1 */
  const retort_tensor* ref_logp;   /* [T] f32 or NULL, as all down to advantage: of a fixed model */
  const retort_tensor* behaviour_logp; /* of the policy that drew the tokens, as it drew them */
  const retort_tensor* entropy;        /* of the whole distribution over token t */
  const retort_tensor* policy_weight;  /* multiplies the policy term only */
  const retort_tensor* value;          /* of a value head */
  const retort_tensor* old_value;      /* when the samples were drawn */
  const retort_tensor* returns;        /* the value's target */
  const retort_tensor* advantage;      /* the same at every token of a sequence, or one per token */
  const retort_tensor* group_id;       /* [S] i32 or NULL: sequences of one prompt */
  const retort_tensor* target;         /* [S] f32 or NULL: higher is preferred in its group */
  /* Counts over the accumulation window and all ranks, each at least 1. */
  double n_sequences_global;
  double n_scored_sequences_global; /* those with an unmasked token */
  double n_groups_global;
  double n_tokens_global;       /* unmasked tokens */
  double max_completion_length; /* tokens that a completion may have */
  double accumulation_steps;    /* micro-batches (calls) of all ranks */
  /* All overwritten, and finite. Derivatives are of `loss`, without the entry's weight, which the
   * host applies; NULL: not wanted. */
  retort_tensor* loss;      /* out [1] f64: this call's part of the normalised sum */
  retort_tensor* d_logp;    /* out [T] f32; exactly 0 where masked */
  retort_tensor* d_entropy; /* out, likewise */
  retort_tensor* d_value;   /* out, likewise */
  retort_tensor* aux;       /* out [n_aux,2] f64: sum, count; reported: sums / counts over calls */
} retort_sequence_loss_args;

typedef struct retort_sequence_loss_v1 {
  uint32_t struct_size;
  uint32_t flags;                                             /* none yet */
  const retort_loss_spec* (*spec)(retort_instance* instance); /* never NULL. [serial] */
  /* Whole sequences of one micro-batch; the parts of all calls add up to the loss. [serial]; may
   * use call->n_threads. Errors: UNIMPLEMENTED dtype or device, FAILED_PRECONDITION a side input
   * that it needs is NULL. */
  retort_status (*eval)(retort_instance* instance, const retort_call* call,
                        const retort_sequence_loss_args* args);
} retort_sequence_loss_v1;

#ifdef __cplusplus
}
#endif

#endif /* RETORT_ABI_DRAFT_LOSS_H_ */
