// Custom ops: one instance per graph node, whose attributes are the instance's config. A family
// puts such a node into its graph through retort_builder_v1.custom.
// Shape letters: T packed token rows, S sequences, C width.
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
#define RETORT_OP_RECOMPUTE_OK (1u << 0) /* forward may run again for what backward reads */
#define RETORT_OP_INPLACE (1u << 1)      /* out[0] may be the memory of in[0] */
/* Row t of every output depends on row t of the values and on params only, so that chunking and
 * decoding need nothing else. */
#define RETORT_OP_ROWWISE (1u << 2)

#define RETORT_OP_MAX_OUTPUTS 8u /* of out, of saved and of state: room in retort_op_shapes */
#define RETORT_OP_MAX_DIMS 8u    /* of each of them */

/* infer: what comes out for what goes in. Inputs are values [T,C], in the dtype that the model
 * computes in (f32 or bf16; f64 in checks), and params in their own shape and that dtype; `in` has
 * data NULL. An output is [T,C'], T as that of the inputs. For each of out, saved and state
 * the host has set up RETORT_OP_MAX_OUTPUTS tensors whose shape and strides have room for
 * RETORT_OP_MAX_DIMS entries; infer writes ndim, dtype and shape[0..ndim) of those in use and
 * leaves the rest alone (data, device and strides are the host's). */
typedef struct retort_op_shapes {
  uint32_t struct_size;
  uint32_t flags;                 /* none yet */
  uint32_t n_in;                  /* as the graph has it */
  uint32_t n_out;                 /* as the graph has it: a node that can't give as many fails */
  uint32_t n_saved;               /* out: 0 to MAX_OUTPUTS; prefilled with 0 */
  uint32_t n_state;               /* out: likewise */
  const retort_tensor* const* in; /* [n_in] */
  retort_tensor* out;             /* out: [n_out] of MAX_OUTPUTS; float types */
  retort_tensor* saved;           /* out: [n_saved]; any dtype; T is the first dimension or none */
  retort_tensor* state;           /* out: [n_state], the shape of one sequence's state; any dtype;
                                     zero at the start of a sequence */
  uint64_t backward_in;           /* out: bit i: backward reads in[i]; prefilled with 0 */
  uint64_t backward_out;          /* out: bit i: backward reads out[i]; likewise */
} retort_op_shapes;

/* Tensors are contiguous, as infer said. Which members are there:
 *
 *   - forward: in, out; saved unless n_saved is 0; state where forward serves for decode, else
 *     every sequence starts from zero and ends.
 *   - backward: in[i] and out[i] by the bits of infer, else NULL; saved, d_out, d_in.
 *   - decode: in, out, state.
 *
 * With INPLACE the host may give out[0] and in[0] one memory where backward doesn't read in[0]. No
 * other two tensors overlap. */
typedef struct retort_op_args {
  uint32_t struct_size;
  uint32_t flags; /* none yet */
  uint32_t n_in;
  uint32_t n_out;
  uint32_t n_saved; /* as infer said; 0 where no backward follows */
  uint32_t n_state; /* as infer said; 0 where every sequence starts from zero and ends */
  const retort_tensor* const* in; /* [n_in], read-only */
  retort_tensor* const* out;      /* [n_out]; out in forward and decode, read-only in backward */
  retort_tensor* const* saved;    /* [n_saved]; out in forward, read-only in backward */
  retort_tensor* const* state; /* [n_state], each [slots,...]; row slot[s] is of sequence s: read,
                                  then left as after its last token. Other rows are not touched */
  const retort_tensor* const* d_out; /* [n_out], read-only; dtype and shape of out; backward */
  retort_tensor* const* d_in;      /* [n_in], out; overwritten; dtype and shape of in; d_in[i] NULL:
                                      not wanted; of a param: the sum over rows; backward */
  const retort_tensor* cu_seqlens; /* [S+1] i32, from 0 to T: sequence s has the rows
                                      [cu_seqlens[s], cu_seqlens[s + 1]) */
  const retort_tensor* positions;  /* [T] i32, of each row in its sequence */
  const retort_tensor* slot;       /* [S] i32, each different; NULL without state */
} retort_op_args;

/* Each function [serial]; forward, backward and decode may use call->n_threads. Results don't
 * depend on the number of threads. */
typedef struct retort_op_v1 {
  uint32_t struct_size;
  uint32_t flags; /* RETORT_OP_* */
  /* A pure function of the config and the inputs' shapes and dtypes; only sizes, never counts,
   * dtypes or numbers of dimensions, may depend on T. Errors: INVALID_ARGUMENT the inputs don't
   * fit, UNIMPLEMENTED a dtype. */
  retort_status (*infer)(retort_instance* instance, const retort_call* call,
                         retort_op_shapes* shapes);
  retort_status (*forward)(retort_instance* instance, const retort_call* call,
                           const retort_op_args* args);
  /* Derivatives of a scalar whose derivatives by the outputs are d_out. NULL: the op can't be
   * trained through (a plan error there). */
  retort_status (*backward)(retort_instance* instance, const retort_call* call,
                            const retort_op_args* args);
  /* New tokens of sequences whose earlier ones are in the state; the rows are equal to those of
   * forward over the whole. NULL: forward serves, because of ROWWISE or because of its state. */
  retort_status (*decode)(retort_instance* instance, const retort_call* call,
                          const retort_op_args* args);
} retort_op_v1;

#ifdef __cplusplus
}
#endif

#endif /* RETORT_ABI_DRAFT_OP_H_ */
