// Sources: yield records. The host owns shuffling, sharding, mixing and resume.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_ABI_DRAFT_SOURCE_H_
#define RETORT_ABI_DRAFT_SOURCE_H_

#include "retort/abi/call.h"
#include "retort/abi/types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RETORT_SOURCE_INTERFACE "retort.source/0"

/* Borrowed: valid until `on` returns. */
typedef struct retort_record {
  uint32_t struct_size;
  retort_status status; /* not 0: goes to quarantine with `json` as it was read */
  uint64_t uid;         /* unique in the source, the same in every run */
  retort_str json;      /* one object */
  retort_str origin;    /* for people: "file:line" */
} retort_record;

typedef struct retort_source_v1 {
  uint32_t struct_size;
  uint32_t flags; /* none yet */
  /* Calls `on` at most max_n times, in a fixed order; *end becomes 1 after the last record.
   * [serial] */
  retort_status (*next)(retort_instance* instance, const retort_call* call, uint64_t max_n,
                        void* ctx, void (*on)(void* ctx, const retort_record* record),
                        int32_t* end);
  /* The position after what `on` has got. [control] */
  retort_status (*save)(retort_instance* instance, const retort_call* call,
                        const retort_sink* sink);
  /* DATA_LOSS: bytes that save did not write. [control] */
  retort_status (*load)(retort_instance* instance, const retort_call* call,
                        const retort_reader* reader);
} retort_source_v1;

#ifdef __cplusplus
}
#endif

#endif /* RETORT_ABI_DRAFT_SOURCE_H_ */
