// Rewards: score a batch of samples. A failure to measure is never a score of 0.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_ABI_REWARD_H_
#define RETORT_ABI_REWARD_H_

#include "retort/abi/call.h"
#include "retort/abi/types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RETORT_REWARD_INTERFACE "retort.reward/1"
#define RETORT_ANSWER_INTERFACE "retort.answer/1"

/* How a completion ended. */
#define RETORT_FINISH_STOP 0u      /* a stop token or stop string */
#define RETORT_FINISH_LENGTH 1u    /* the token limit: text is cut */
#define RETORT_FINISH_CANCELLED 2u /* stopped from outside: text is cut */
#define RETORT_FINISH_ERROR 3u     /* the generator failed: text is cut or empty */

/* Walked by a stride (R3). Samples of a group (one prompt) are adjacent. All borrowed. */
typedef struct retort_sample {
  retort_str prompt;     /* the text that the model saw, template included */
  retort_str completion; /* with a forced prefix, without the stop token */
  retort_str record;     /* the source record, a JSON object; may be absent */
  retort_str gold;       /* the reference answer as the stage's config picks it; may be absent */
  const int32_t* prompt_ids;     /* [n_prompt_ids]; NULL without NEEDS_IDS */
  const int32_t* completion_ids; /* [n_completion_ids], stop token included; NULL likewise */
  const float* logp;             /* [n_completion_ids], natural log; may be NULL */
  uint32_t n_prompt_ids;         /* tokens */
  uint32_t n_completion_ids;     /* tokens */
  uint64_t uid;                  /* of the sample; stable over runs */
  uint64_t record_uid;           /* of its record */
  uint32_t group;                /* number of the group within the call */
  uint32_t index;                /* of the sample within its group */
  uint32_t finish;               /* RETORT_FINISH_* */
  uint32_t _pad;
} retort_sample;

/* Values of args.status. */
#define RETORT_SCORE_OK 0u
#define RETORT_SCORE_NOT_APPLICABLE 1u /* out of the weighted sum and the group's statistics */
#define RETORT_SCORE_ERROR 2u          /* could not be measured: masked and counted */
#define RETORT_SCORE_TIMEOUT 3u        /* likewise */

typedef struct retort_reward_args {
  uint32_t struct_size;
  uint32_t sample_stride; /* bytes */
  const retort_sample* samples;
  uint64_t n; /* may be 0 */
  /* [n] each, prefilled with NaN and ERROR; the plugin sets both. OK with a score that is not
   * finite counts as ERROR. */
  double* score;   /* out; higher is better */
  uint8_t* status; /* out; RETORT_SCORE_* */
  void* info_ctx;  /* first argument of info */
  /* Extra columns of sample `index` as a JSON object; copied; may be called for some only; the
   * last one of a sample wins. Status ERROR: its key "error" is the reason. */
  void (*info)(void* info_ctx, uint64_t index, retort_str json);
} retort_reward_args;

/* Flags of retort_reward_v1. */
#define RETORT_REWARD_CONCURRENT (1u << 0) /* score is [concurrent] */
#define RETORT_REWARD_NEEDS_IDS (1u << 1)  /* samples come with ids */
#define RETORT_REWARD_GROUPWISE (1u << 2)  /* a group is never split over calls */
#define RETORT_REWARD_PURE (1u << 3)       /* same sample, same score: may be remembered */

typedef struct retort_reward_v1 {
  uint32_t struct_size;
  uint32_t flags;           /* RETORT_REWARD_* */
  uint64_t preferred_batch; /* samples per call; 0: the host chooses */
  /* [serial], or [concurrent] by flag. A failing status means: nothing of the batch was
   * measured. A sample's score never depends on what else is in the call, with GROUPWISE on
   * nothing outside its group. */
  retort_status (*score)(retort_instance* instance, const retort_call* call,
                         const retort_reward_args* args);
} retort_reward_v1;

/* Beside a reward: which samples of a group give the same answer. self_vote and maj@n use it. */
typedef struct retort_answer_v1 {
  uint32_t struct_size;
  uint32_t flags; /* none yet */
  /* One group of n samples. first_equal[i], [n]: index in the group of the first sample with the
   * same answer as i (so first_equal[i] <= i, and equality is an equivalence); -1: no answer.
   * out; prefilled with -1. stride in bytes. [serial] */
  retort_status (*classes)(retort_instance* instance, const retort_call* call,
                           const retort_sample* samples, uint64_t stride, uint64_t n,
                           int64_t* first_equal);
} retort_answer_v1;

#ifdef __cplusplus
}
#endif

#endif /* RETORT_ABI_REWARD_H_ */
