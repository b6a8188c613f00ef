// Filters: keep, drop or rewrite samples, group by group, after optional passes that only look.
// A decision depends on (config, merged state, group), never on the order of arrival.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_ABI_FILTER_H_
#define RETORT_ABI_FILTER_H_

#include "retort/abi/call.h"
#include "retort/abi/reward.h"
#include "retort/abi/types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RETORT_FILTER_INTERFACE "retort.filter/1"

/* Samples [first, first + n) of the call: all samples of one prompt. */
typedef struct retort_group {
  uint64_t first;      /* index into samples */
  uint64_t n;          /* samples; at least 1 */
  uint64_t record_uid; /* of the record that they answer */
} retort_group;

/* Values of decision.action. */
#define RETORT_KEEP 0u
#define RETORT_DROP 1u
#define RETORT_REWRITE 2u /* go on with the new texts; ids and logp are lost */
#define RETORT_ERROR 3u   /* could not decide: goes to on_error */

typedef struct retort_decision {
  uint32_t struct_size;
  uint32_t flags;        /* none yet */
  uint32_t action;       /* RETORT_KEEP ... RETORT_ERROR */
  uint32_t reason_code;  /* the plugin's own, stable over versions; 0: none */
  double quality;        /* higher is better; NaN: not given */
  retort_str reason;     /* short text: the audit counts drops by it. Required but for KEEP */
  retort_str completion; /* REWRITE: the new text; absent: unchanged */
  retort_str record;     /* REWRITE: the new record (JSON object); absent: unchanged */
} retort_decision;

typedef struct retort_filter_args {
  uint32_t struct_size;
  uint32_t sample_stride;       /* bytes */
  uint32_t group_stride;        /* bytes */
  uint32_t pass;                /* of observe, from 0; judge: n_observe_passes */
  const retort_sample* samples; /* [n_samples] */
  uint64_t n_samples;
  const retort_group* groups; /* [n_groups]: cut the samples without gaps, in order */
  uint64_t n_groups;
  /* Of the chain entry's "rewards", scored by the host beforehand: a plugin never calls one. */
  const char* const* reward_names; /* [n_rewards] */
  uint64_t n_rewards;
  const double* reward_weights; /* [n_rewards], of the entries; NULL: all 1 */
  const double* scores;         /* [n_samples, n_rewards]; NaN unless measured */
  const uint8_t* score_status;  /* likewise, RETORT_SCORE_* */
  /* [n_samples] or NULL: answer classes by the first reward that has retort.answer; index within
   * the group, -1: no answer. */
  const int64_t* first_equal;
  const retort_str* info; /* [n_samples, n_rewards] or NULL: JSON that the rewards reported */
  void* out_ctx;          /* first argument of decide */
  /* judge only; [serial]. Copies the decision. `sample` indexes the call's samples; the last
   * decision of a sample wins; undecided is KEEP. */
  void (*decide)(void* out_ctx, uint64_t sample, const retort_decision* decision);
} retort_filter_args;

/* Flags of retort_filter_v1. */
#define RETORT_FILTER_CONCURRENT (1u << 0) /* judge is [concurrent] */
#define RETORT_FILTER_NEEDS_IDS (1u << 1)  /* samples come with ids (the host encodes if needed) */
#define RETORT_FILTER_NEEDS_SCORES (1u << 2)  /* an entry without "rewards" is a config error */
#define RETORT_FILTER_NEEDS_ANSWERS (1u << 3) /* likewise without a reward with retort.answer */

/* observe to merge may be NULL when n_observe_passes is 0. */
typedef struct retort_filter_v1 {
  uint32_t struct_size;
  uint32_t flags; /* RETORT_FILTER_* */
  uint32_t n_observe_passes;
  uint32_t _pad;
  /* Sees every sample once per pass; decides nothing. [serial] */
  retort_status (*observe)(retort_instance* instance, const retort_call* call,
                           const retort_filter_args* args);
  /* After all samples of a pass were observed and all shards' states merged. [serial] */
  retort_status (*end_pass)(retort_instance* instance, const retort_call* call, uint32_t pass);
  /* Calls args->decide. [serial], or [concurrent] by flag. A failing status means: nothing of the
   * call was decided. */
  retort_status (*judge)(retort_instance* instance, const retort_call* call,
                         const retort_filter_args* args);
  /* The state observed so far, of the pass under way. [control] */
  retort_status (*save)(retort_instance* instance, const retort_call* call,
                        const retort_sink* sink);
  /* Adds a saved state to this one, or to a fresh instance's: associative and commutative.
   * [control] DATA_LOSS: bytes that save did not write; the instance is then fit for destroy only.
   */
  retort_status (*merge)(retort_instance* instance, const retort_call* call,
                         const retort_reader* reader);
} retort_filter_v1;

#ifdef __cplusplus
}
#endif

#endif /* RETORT_ABI_FILTER_H_ */
