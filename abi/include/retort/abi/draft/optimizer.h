// Optimizers: update tensors in place. State is declared by the plugin and owned by the host,
// which allocates, shards, checkpoints and checks it.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_ABI_DRAFT_OPTIMIZER_H_
#define RETORT_ABI_DRAFT_OPTIMIZER_H_

#include "retort/abi/call.h"
#include "retort/abi/tensor.h"
#include "retort/abi/types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RETORT_OPTIMIZER_INTERFACE "retort.optimizer/0"

/* Bits of param_info.roles, worked out from the param's use in the graph. */
#define RETORT_ROLE_MATRIX (1u << 0)    /* weight of a linear */
#define RETORT_ROLE_EMBEDDING (1u << 1) /* looked up by id */
#define RETORT_ROLE_HEAD (1u << 2)      /* gives the logits (a tied one is EMBEDDING too) */
#define RETORT_ROLE_NORM (1u << 3)      /* scale or shift of a norm */
#define RETORT_ROLE_BIAS (1u << 4)      /* added to a linear's rows */
#define RETORT_ROLE_EXPERT (1u << 5)    /* [E,...]: E matrices */
#define RETORT_ROLE_ROUTER (1u << 6)    /* gives the scores of experts */
#define RETORT_ROLE_LORA (1u << 7)      /* a factor of an adapter */

typedef struct retort_param_info {
  uint32_t struct_size;
  uint32_t roles;       /* RETORT_ROLE_* */
  const char* name;     /* "model.layers.0.mlp.up_proj.weight" */
  const int64_t* shape; /* [ndim], of the whole param */
  uint32_t ndim;        /* 1 to 4 */
  uint32_t group;       /* index into learning_rate and weight_decay */
} retort_param_info;

/* Values of state_spec.dtype, .shape and .init. */
#define RETORT_STATE_F32 0u
#define RETORT_STATE_AS_PARAM 1u /* the dtype of the param */
#define RETORT_STATE_BF16 2u
#define RETORT_STATE_U8 3u
#define RETORT_STATE_SHAPE_AS_PARAM 0u  /* one element per element */
#define RETORT_STATE_SHAPE_PER_BLOCK 1u /* [ceil(elements / block)] */
#define RETORT_STATE_SHAPE_EXPLICIT 2u  /* dims; not with ELEMENTWISE */
#define RETORT_STATE_INIT_CONSTANT 0u   /* init_value everywhere */
#define RETORT_STATE_INIT_COPY_PARAM 1u /* the param as it is before the first step */

/* One state tensor of a param; key in a checkpoint: "<param>.<name>". Walked by a stride. */
typedef struct retort_state_spec {
  const char* name;    /* [a-z0-9_]+, unique within the spec */
  uint32_t dtype;      /* RETORT_STATE_F32 ... */
  uint32_t shape;      /* RETORT_STATE_SHAPE_* */
  uint32_t init;       /* RETORT_STATE_INIT_* */
  uint32_t ndim;       /* of dims */
  double init_value;   /* INIT_CONSTANT */
  uint64_t block;      /* PER_BLOCK: elements of a block; shards are cut at its multiples */
  const int64_t* dims; /* [ndim], each > 0; SHAPE_EXPLICIT, else NULL */
} retort_state_spec;

/* Values of optimizer_spec.grain. */
#define RETORT_GRAIN_ELEMENTWISE 0u /* flat shards: 1-D, cut at multiples of 64 and of block */
#define RETORT_GRAIN_WHOLE 1u       /* whole tensors in their own shape, at one owner */

/* Owned by the plugin, valid until destroy; a pure function of (config, param info), so that a
 * checkpoint can be resharded without the plugin. */
typedef struct retort_optimizer_spec {
  uint32_t struct_size;
  uint32_t flags; /* none yet */
  uint32_t grain; /* RETORT_GRAIN_* */
  uint32_t n_states;
  const retort_state_spec* states; /* [n_states] */
  uint64_t state_stride;           /* bytes */
} retort_optimizer_spec;

/* Walked by a stride. ELEMENTWISE: param, grad and states are 1-D and contiguous. */
typedef struct retort_optimizer_tensor {
  const retort_param_info* info; /* as spec got it */
  retort_tensor* param;          /* f32, updated in place */
  retort_tensor* low_precision;  /* NULL, or bf16: the plugin also writes param there, rounded */
  retort_tensor* grad;           /* f32, unscaled; may be overwritten */
  retort_tensor* const* states;  /* [n_states], in the spec's order, updated in place */
  uint64_t shard_offset;         /* elements of the whole param before this shard */
  int64_t step;                  /* of this param; the first is 1 */
} retort_optimizer_tensor;

typedef struct retort_optimizer_args {
  uint32_t struct_size;
  uint32_t tensor_stride;                 /* bytes */
  const retort_optimizer_tensor* tensors; /* [n], each param at most once */
  uint64_t n;
  const double* learning_rate; /* [n_groups], of this step */
  const double* weight_decay;  /* [n_groups], decoupled */
  uint32_t n_groups;
  uint32_t _pad;
  const retort_tensor* grad_scale; /* [1] f32 on the device: gradients are multiplied by it first
                                      (clipping, averaging); NULL: 1 */
} retort_optimizer_args;

typedef struct retort_optimizer_v1 {
  uint32_t struct_size;
  uint32_t flags; /* none yet */
  /* What a param needs; *out as described at retort_optimizer_spec. Called once per param before
   * the first step, and again after a restart. [control] */
  retort_status (*spec)(retort_instance* instance, const retort_call* call,
                        const retort_param_info* info, const retort_optimizer_spec** out);
  /* One update of each tensor. [serial]; may use call->n_threads. The result does not depend on
   * the number of threads nor, with ELEMENTWISE, on how params are cut. Gradients are finite: the
   * host skips the step otherwise. A failure ends the run: tensors may be half updated. Errors:
   * UNIMPLEMENTED dtype or device. */
  retort_status (*step)(retort_instance* instance, const retort_call* call,
                        const retort_optimizer_args* args);
  /* Scalar state only (the same on all ranks); save and load both NULL: none. [control] */
  retort_status (*save)(retort_instance* instance, const retort_call* call,
                        const retort_sink* sink);
  /* DATA_LOSS: bytes that save did not write. [control] */
  retort_status (*load)(retort_instance* instance, const retort_call* call,
                        const retort_reader* reader);
} retort_optimizer_v1;

#ifdef __cplusplus
}
#endif

#endif /* RETORT_ABI_DRAFT_OPTIMIZER_H_ */
