/* Chains without a pipeline: score samples with rewards, judge samples or records with filters.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef RETORT_HOST_CHAIN_H_
#define RETORT_HOST_CHAIN_H_

#include "retort/abi/filter.h" /* RETORT_KEEP ... */
#include "retort/abi/reward.h" /* retort_sample, RETORT_SCORE_X */
#include "retort/host/context.h"
#include "retort/host/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct retort_chain_options {
  uint32_t struct_size;
  uint32_t flags; /* none yet: 0 */
  /* As in a pipeline: one entry or an array of them; each a plugin's id or an object with "plugin",
   * "name", "weight" (rewards), "rewards" (filters), "config", "isolate", "timeout_ms", "on_error",
   * "max_error_rate". */
  retort_str entries;
  /* Counts tokens of samples without ids, for plugins that need them; NULL: none. Used for as long
   * as the chain lives, which may be longer than the handle. */
  retort_model* tokenizer;
  uint64_t seed; /* for plugins that draw random numbers */
} retort_chain_options;

/*
 * Samples are retort_sample structs (retort/abi/reward.h), zero what you don't know. Adjacent
 * samples of one `record_uid` are a group; where that is 0, adjacent samples of one `group`: so
 * number the groups, also where each sample is its own. `record` must be a JSON object if given;
 * `gold`, if given, counts as its "answer". uid 0: made from the texts. Lines are those of
 * `retort score` and `retort filter`: samples, or records in any known format, one JSON object a
 * line.
 */

/* ---- rewards ---------------------------------------------------------------------------- */

typedef struct retort_reward_chain retort_reward_chain;

/* INVALID_ARGUMENT: a key or a config; NOT_FOUND: a plugin. since 1.0 */
RETORT_HOST_API retort_status retort_reward_chain_create(retort_context* context,
                                                         const retort_chain_options* options,
                                                         retort_reward_chain** out);
RETORT_HOST_API void retort_reward_chain_destroy(retort_reward_chain* chain);

/* What could be measured, row by row. Owned by the chain, valid until its next call or its
 * destroy. */
typedef struct retort_score_table {
  uint32_t struct_size;
  uint32_t _pad;
  uint64_t n_samples;
  uint64_t n_rewards;
  const retort_str* names;    /* [n_rewards] of the entries */
  const double* weights;      /* [n_rewards] */
  const double* scores;       /* [n_samples, n_rewards]; NaN unless status is OK */
  const uint8_t* status;      /* [n_samples, n_rewards] RETORT_SCORE_X */
  const double* reward;       /* [n_samples] weighted sum of the OK scores; NaN: none was */
  const retort_str* info;     /* [n_samples, n_rewards] JSON that a plugin reported; or absent */
  const retort_str* error;    /* [n_samples, n_rewards] why ERROR or TIMEOUT; else absent */
  const int64_t* first_equal; /* [n_samples] first of the group with an equal answer, -1: none;
                                 NULL: no entry compares answers */
} retort_score_table;

/* Scores n samples. A sample that can't be measured is data (its status), unless the entry says
 * on_error "fail" or more than max_error_rate of at least 100 failed: ABORTED. since 1.0 */
RETORT_HOST_API retort_status retort_reward_chain_score(retort_reward_chain* chain,
                                                        const retort_sample* samples,
                                                        uint32_t sample_stride, uint64_t n,
                                                        retort_score_table* out);

/* Reads lines to the end of `jsonl` and writes the same lines with rewards, status and reward, as
 * `retort score`; in chunks of whole groups, so of any length. Ends with the check of
 * retort_reward_chain_finish. since 1.0 */
RETORT_HOST_API retort_status retort_reward_chain_score_lines(retort_reward_chain* chain,
                                                              const retort_reader* jsonl,
                                                              const retort_sink* out);

/* The check of max_error_rate once more, whatever the count: at the end of the work. since 1.0 */
RETORT_HOST_API retort_status retort_reward_chain_finish(retort_reward_chain* chain);

/* ---- filters ---------------------------------------------------------------------------- */

typedef struct retort_filter_chain retort_filter_chain;

RETORT_HOST_API retort_status retort_filter_chain_create(retort_context* context,
                                                         const retort_chain_options* options,
                                                         retort_filter_chain** out);
RETORT_HOST_API void retort_filter_chain_destroy(retort_filter_chain* chain);

/* What became of a sample. */
typedef struct retort_filter_result {
  uint32_t struct_size;
  uint32_t action; /* RETORT_KEEP, DROP, REWRITE (kept, with new texts), ERROR (unmeasured) */
  uint64_t sample; /* index into `samples` */
  uint64_t uid;
  retort_str filter;     /* DROP, ERROR: the entry that decided */
  retort_str reason;     /* likewise */
  retort_str completion; /* KEEP, REWRITE: as it is now */
  retort_str record;     /* likewise, a JSON object */
} retort_filter_result;

/* Passes n samples through all entries and calls `decide` once for each, in their order; nonzero
 * from it: stop with CANCELLED. Filters that look at everything first see the samples of one call.
 * since 1.0 */
RETORT_HOST_API retort_status retort_filter_chain_run(
    retort_filter_chain* chain, const retort_sample* samples, uint32_t sample_stride, uint64_t n,
    void* ctx, int32_t (*decide)(void* ctx, const retort_filter_result* result));

/* Reads lines to the end, writes the kept ones, rewritten where a filter rewrote them, and (unless
 * NULL) one line {"uid", "plugin", "reason"} per drop to `audit`, as `retort filter`. since 1.0 */
RETORT_HOST_API retort_status retort_filter_chain_run_lines(retort_filter_chain* chain,
                                                            const retort_reader* jsonl,
                                                            const retort_sink* out,
                                                            const retort_sink* audit);

/* Writes [{"name", "in", "kept", "dropped", "rewritten", "errors"}], one per entry, over the
 * chain's life. since 1.0 */
RETORT_HOST_API retort_status retort_filter_chain_counts(retort_filter_chain* chain,
                                                         const retort_sink* json);

/* As of retort_reward_chain_finish. since 1.0 */
RETORT_HOST_API retort_status retort_filter_chain_finish(retort_filter_chain* chain);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* RETORT_HOST_CHAIN_H_ */
