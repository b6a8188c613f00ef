// Sources: yield records, always the same ones in the same order. The host owns shuffling,
// sharding, mixing and resume.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_ABI_DRAFT_SOURCE_H_
#define RETORT_ABI_DRAFT_SOURCE_H_

#include "retort/abi/call.h"
#include "retort/abi/types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RETORT_SOURCE_INTERFACE "retort.source/0"

/* Built by the plugin; borrowed: valid until `on` returns. */
typedef struct retort_record {
  uint32_t struct_size;
  retort_status status; /* not 0: could not be read; goes to quarantine with `json` as it was read
                           and is never trained on. The source goes on after it */
  uint64_t uid;         /* unique in the source, the same in every run and on every machine */
  retort_str json;      /* status 0: one JSON object, UTF-8; else: the bytes, or absent */
  retort_str origin;    /* for people: "file:line"; may be absent. status not 0: required, and may
                           go on with ": " and the reason */
} retort_record;

/* All functions of one instance see one position, which starts before the first record. */
typedef struct retort_source_v1 {
  uint32_t struct_size;
  uint32_t flags; /* none yet */
  /* Calls `on` at most max_n (at least 1) times, each with the next record; fewer is legal, none
   * only with *end. *end: out, prefilled with 0; 1: there are no more, and every later call gives
   * none and 1 again. ctx: first argument of `on`. A failing status ends the reading; records that
   * `on` has got before stand. [serial] Errors: DATA_LOSS what it reads is corrupt as a whole,
   * UNAVAILABLE may work later, NOT_FOUND, PERMISSION_DENIED. */
  retort_status (*next)(retort_instance* instance, const retort_call* call, uint64_t max_n,
                        void* ctx, void (*on)(void* ctx, const retort_record* record),
                        int32_t* end);
  /* The position after what `on` has got. [control] */
  retort_status (*save)(retort_instance* instance, const retort_call* call,
                        const retort_sink* sink);
  /* Goes to a saved position; of a fresh instance of the same config, too. [control] Errors:
   * DATA_LOSS bytes that save did not write, FAILED_PRECONDITION what it reads has changed since.
   * After a failure the instance is fit for destroy only. */
  retort_status (*load)(retort_instance* instance, const retort_call* call,
                        const retort_reader* reader);
} retort_source_v1;

#ifdef __cplusplus
}
#endif

#endif /* RETORT_ABI_DRAFT_SOURCE_H_ */
