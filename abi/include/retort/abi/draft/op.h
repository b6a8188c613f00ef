// Custom ops: one instance per graph node, whose attributes are the instance's config.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_ABI_DRAFT_OP_H_
#define RETORT_ABI_DRAFT_OP_H_

#include "retort/abi/call.h"
#include "retort/abi/tensor.h"
#include "retort/abi/types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RETORT_OP_INTERFACE "retort.op/0"

/* Flags of retort_op_v1. */
#define RETORT_OP_RECOMPUTE_OK                                                              \
  (1u << 0)                         /* forward may run again to rebuild what backward needs \
                                     */
#define RETORT_OP_INPLACE (1u << 1) /* out[0] may be the memory of in[0] */
#define RETORT_OP_ROWWISE (1u << 2) /* each row alone: chunking and decoding need nothing else */

#define RETORT_OP_MAX_OUTPUTS 8u /* room in retort_op_shapes */
#define RETORT_OP_MAX_DIMS 8u

/* Tensors are borrowed for the call; in, saved (backward) and d_out are read-only. */
typedef struct retort_op_args {
  uint32_t struct_size;
  uint32_t flags; /* none yet */
  uint32_t n_in;
  uint32_t n_out;
  uint32_t n_saved;
  uint32_t n_state;                  /* 0: sequences start from zero state */
  const retort_tensor* const* in;    /* [n_in] */
  retort_tensor* const* out;         /* [n_out]; forward and decode: out */
  retort_tensor* const* saved;       /* [n_saved]; written by forward for backward */
  retort_tensor* const* state;       /* [n_state], each [slots,...]; slot[s] is of sequence s: read,
                                        then left as after its last token */
  const retort_tensor* const* d_out; /* [n_out]; backward */
  retort_tensor* const* d_in;        /* [n_in]; backward: overwritten; d_in[i] NULL: not wanted */
  const retort_tensor* cu_seqlens;   /* [S+1] i32 */
  const retort_tensor* positions;    /* [T] i32 */
  const retort_tensor* slot;         /* [S] i32; NULL without state */
} retort_op_args;

/* infer fills n_saved, n_state, out, saved, state and the bits. */
typedef struct retort_op_shapes {
  uint32_t struct_size;
  uint32_t flags; /* none yet */
  uint32_t n_in;
  uint32_t n_out;
  uint32_t n_saved;
  uint32_t n_state;
  const retort_tensor* const* in; /* [n_in], data NULL */
  retort_tensor* out;             /* room for MAX_OUTPUTS tensors of MAX_DIMS dimensions each */
  retort_tensor* saved;           /* likewise */
  retort_tensor* state;           /* likewise; the shape of one slot */
  uint64_t backward_in;           /* bits: inputs that backward reads */
  uint64_t backward_out;          /* bits: outputs that backward reads */
} retort_op_shapes;

typedef struct retort_op_v1 {
  uint32_t struct_size;
  uint32_t flags; /* RETORT_OP_* */
  /* Only shapes may depend on the number of rows. [serial] */
  retort_status (*infer)(retort_instance* instance, const retort_call* call,
                         retort_op_shapes* shapes);
  retort_status (*forward)(retort_instance* instance, const retort_call* call,
                           const retort_op_args* args); /* [serial] */
  retort_status (*backward)(retort_instance* instance, const retort_call* call,
                            const retort_op_args* args); /* [serial] */
  /* New tokens after cached ones; equal to forward over the whole. NULL with ROWWISE. [serial] */
  retort_status (*decode)(retort_instance* instance, const retort_call* call,
                          const retort_op_args* args);
} retort_op_v1;

#ifdef __cplusplus
}
#endif

#endif /* RETORT_ABI_DRAFT_OP_H_ */
