// Model families: say whether a config.json is understood, and write the decoder once as a graph
// through the host's builder. After build no family code runs.
// Every value is a matrix of packed token rows, [T, width]; weights are [out, in].
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_ABI_DRAFT_FAMILY_H_
#define RETORT_ABI_DRAFT_FAMILY_H_

#include "retort/abi/call.h"
#include "retort/abi/types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RETORT_FAMILY_INTERFACE "retort.family/0"

/* Handles within one build. id 0: an error that the host has already noted (calls with it give 0
 * again, so a build needs no checks), or "none" where a param may be absent. */
typedef struct retort_value {
  uint32_t id; /* of a node's output */
} retort_value;
typedef struct retort_param {
  uint32_t id; /* of a weight */
} retort_param;

/* Flags of retort_slice. */
#define RETORT_SLICE_OPTIONAL (1u << 0) /* may be missing in a checkpoint: keeps its init */

/* Rows of a checkpoint tensor. Walked by a stride. */
typedef struct retort_slice {
  const char* checkpoint_name; /* of a tensor in the checkpoint */
  int64_t row_begin;           /* rows: all dimensions but the last, flattened */
  int64_t row_end;             /* 0,0: all rows */
  uint32_t transpose;          /* 1: the checkpoint has [in, out] */
  uint32_t flags;              /* RETORT_SLICE_* */
} retort_slice;

/* Flags of retort_param_spec. */
#define RETORT_PARAM_LORA_TARGET (1u << 0) /* a default target of adapters */
#define RETORT_PARAM_FROZEN (1u << 1)      /* never trained */
#define RETORT_PARAM_NO_DECAY (1u << 2)    /* no weight decay, whatever its name */

/* Values of param_spec.init. */
#define RETORT_INIT_NORMAL 0u   /* mean 0, init_value is the standard deviation */
#define RETORT_INIT_CONSTANT 1u /* init_value everywhere */

/* Values of param_spec.shard_axis, for tensor parallelism. */
#define RETORT_SHARD_NONE 0u
#define RETORT_SHARD_ROWS 1u
#define RETORT_SHARD_COLUMNS 2u

/* Copied by the host. */
typedef struct retort_param_spec {
  uint32_t struct_size;
  uint32_t flags;              /* RETORT_PARAM_* */
  const char* name;            /* unique in the graph */
  const int64_t* shape;        /* [ndim], each > 0 */
  uint32_t ndim;               /* 1 or 2 (3 for experts) */
  uint32_t n_sources;          /* 0: one, under the param's own name, which must exist */
  const retort_slice* sources; /* stacked by rows; saved again under these names. Params may share a
                                  checkpoint tensor in disjoint rows */
  uint64_t source_stride;      /* bytes */
  uint32_t init;               /* RETORT_INIT_*, when trained from nothing */
  uint32_t shard_axis;         /* RETORT_SHARD_* */
  double init_value;           /* finite */
} retort_param_spec;

typedef struct retort_attention_spec {
  uint32_t struct_size;
  uint32_t flags;      /* none yet */
  uint32_t n_heads;    /* of q */
  uint32_t n_kv_heads; /* of k and v; divides n_heads */
  uint32_t head_dim;   /* of q and k */
  uint32_t value_dim;  /* of v; 0: head_dim */
  uint32_t window;     /* token t sees keys t - window + 1 .. t; 0: all up to t */
  uint32_t _pad;
  double scale;    /* of the scores; 0: 1 / sqrt(head_dim) */
  double soft_cap; /* scores become c * tanh(x / c); 0: none */
} retort_attention_spec;

/* Values of rope_spec.layout: which elements of a head form a pair. */
#define RETORT_ROPE_HALVES 0u      /* (j, j + rotary_dim / 2) */
#define RETORT_ROPE_INTERLEAVED 1u /* (2j, 2j + 1) */

typedef struct retort_rope_spec {
  uint32_t struct_size;
  uint32_t layout;         /* RETORT_ROPE_* */
  uint32_t rotary_dim;     /* even; the first elements of each head; 0: the whole head */
  uint32_t max_positions;  /* max_position_embeddings: some scalings need it */
  double theta;            /* base of the frequencies, > 0 */
  retort_str scaling_json; /* the object of rope_scaling in config.json as it is; absent: none.
                              Where its rule goes by the length of a text: that of its sequence */
} retort_rope_spec;

/* Values of activation kinds. */
#define RETORT_ACTIVATION_SILU 0u      /* x * sigmoid(x) */
#define RETORT_ACTIVATION_GELU 1u      /* x * Phi(x), by erf */
#define RETORT_ACTIVATION_GELU_TANH 2u /* its tanh approximation */
#define RETORT_ACTIVATION_RELU2 3u     /* max(0, x)^2 */
#define RETORT_ACTIVATION_SIGMOID 4u   /* 1 / (1 + exp(-x)) */

/* Flags of retort_moe_spec. */
#define RETORT_MOE_NORM_TOP_K (1u << 0) /* the chosen weights are made to add up to 1 */
#define RETORT_MOE_SIGMOID (1u << 1)    /* router scores by sigmoid instead of softmax */

/* Experts are gated MLPs. E experts, F hidden size of one, D width. A token takes the top_k experts
 * of the greatest score + score_bias, the lowest index first on ties, out of the top_k_groups best
 * groups; a group is as good as its best expert, with a score_bias as the sum of its two best. The
 * weight of an expert is its score. */
typedef struct retort_moe_spec {
  uint32_t struct_size;
  uint32_t flags; /* RETORT_MOE_* */
  uint32_t n_experts;
  uint32_t top_k;          /* experts per token */
  uint32_t n_groups;       /* of experts, equal in size; 0: one */
  uint32_t top_k_groups;   /* groups per token; 0: all */
  uint32_t activation;     /* RETORT_ACTIVATION_* */
  retort_param gate_up;    /* [E,2F,D], gate first */
  retort_param down;       /* [E,D,F] */
  retort_param score_bias; /* [E], for choosing only, never trained; id 0: none */
  double scale;            /* of the combined output; 0: 1 */
  double aux_coef;         /* of the load-balancing loss, which is one over all layers with as many
                              experts; alike in all of them. 0: not added to the loss */
} retort_moe_spec;

/* The host's table of ops. [serial], from the thread of build, until build returns; specs, names
 * and arrays are copied. Functions can't fail: mistakes (a bad width, an unknown kind, an id that
 * isn't of this build) give id 0, are collected and fail the build as one error that names each;
 * an op that this host doesn't execute makes that error UNIMPLEMENTED. Functions that take
 * `n_heads` work on each of n_heads equal parts of the width. Later ops of the host are reached
 * through `custom`. */
typedef struct retort_builder_v1 {
  uint32_t struct_size;
  uint32_t flags; /* none yet */
  void* ctx;      /* first argument of every function */
  retort_param (*param)(void* ctx, const retort_param_spec* spec); /* a weight of the model */
  /* The token ids' rows of table [V,D], times scale. */
  retort_value (*embed)(void* ctx, retort_param table, double scale);
  /* x W^T + b; bias.id 0: none. */
  retort_value (*linear)(void* ctx, retort_value x, retort_param weight, retort_param bias);
  /* x * rsqrt(mean x^2 + eps) * (weight + weight_offset), over the width */
  retort_value (*rms_norm)(void* ctx, retort_value x, retort_param weight, double eps,
                           double weight_offset);
  /* (x - mean x) * rsqrt(var x + eps) * weight + bias, over the width; bias.id 0: none */
  retort_value (*layer_norm)(void* ctx, retort_value x, retort_param weight, retort_param bias,
                             double eps);
  /* rms_norm of each head of head_dim elements; weight [head_dim] */
  retort_value (*head_norm)(void* ctx, retort_value x, retort_param weight, uint32_t head_dim,
                            double eps, double weight_offset);
  /* Rotary positions, from 0 in each sequence. */
  retort_value (*rope)(void* ctx, retort_value x, uint32_t n_heads, const retort_rope_spec* spec);
  /* Causal, within each sequence. q [T,n_heads*head_dim], k [T,n_kv_heads*head_dim], v
   * [T,n_kv_heads*value_dim]; gives [T,n_heads*value_dim]. layer: its KV cache, dense from 0. */
  retort_value (*attention)(void* ctx, retort_value q, retort_value k, retort_value v,
                            uint32_t layer, const retort_attention_spec* spec);
  retort_value (*activation)(void* ctx, retort_value x, uint32_t kind); /* RETORT_ACTIVATION_* */
  retort_value (*gated)(void* ctx, retort_value gate, retort_value up,
                        uint32_t kind);                           /* kind(gate) * up */
  retort_value (*add)(void* ctx, retort_value a, retort_value b); /* same width */
  retort_value (*mul)(void* ctx, retort_value a, retort_value b); /* b: same width, or width 1 */
  retort_value (*scale)(void* ctx, retort_value x, double factor);
  /* Elements [begin, end) of each head. */
  retort_value (*slice)(void* ctx, retort_value x, uint32_t n_heads, uint32_t begin, uint32_t end);
  /* Head by head. An input of one head repeats for each: one that comes straight from a rope or
   * head_norm of one head, or whose width is no multiple of n_heads. */
  retort_value (*concat)(void* ctx, const retort_value* in, uint32_t n_in, uint32_t n_heads);
  /* A weight as an input of custom (in its own shape), or of add and mul ([D], for every row). */
  retort_value (*value_of)(void* ctx, retort_param param);
  /* x [T,D], router_logits [T,E]; gives [T,D]. */
  retort_value (*moe)(void* ctx, retort_value x, retort_value router_logits,
                      const retort_moe_spec* spec);
  /* A node of op plugin op_id (op.h); attributes: its config, a JSON object, absent: {}. in:
   * [n_in], values and params' values; n_out: 1 to RETORT_OP_MAX_OUTPUTS. Gives output 0. */
  retort_value (*custom)(void* ctx, const char* op_id, const retort_value* in, uint32_t n_in,
                         uint32_t n_out, retort_str attributes);
  /* Output `index` of a custom node, named by its output 0. */
  retort_value (*output_of)(void* ctx, retort_value custom, uint32_t index);
  /* A decoder block starts, counted from 0: a boundary for recomputation and sharding. */
  void (*block)(void* ctx, uint32_t index);
  /* The end, exactly once: hidden is what the head reads, already normed; head [V,D] is the
   * embedding when tied. logit_soft_cap 0: none. */
  void (*result)(void* ctx, retort_value hidden, retort_param head, double logit_scale,
                 double logit_soft_cap);
} retort_builder_v1;

typedef struct retort_family_v1 {
  uint32_t struct_size;
  uint32_t flags; /* none yet */
  /* *score, out: 0 not this family, 1..100 how well; the best of all families wins. config_json:
   * the model's config.json, an object. A failure fails the opening
   * of the model. [serial] */
  retort_status (*match)(retort_instance* instance, const retort_call* call, retort_str config_json,
                         int32_t* score);
  /* Deterministic. INVALID_ARGUMENT: a key is missing or has a value that it can't build.
   * [serial] */
  retort_status (*build)(retort_instance* instance, const retort_call* call, retort_str config_json,
                         const retort_builder_v1* builder);
  /* Writes one JSON object about what is not in the graph: "lora_targets" (array of name ends),
   * "chat_format" (hint), "ignore" (checkpoint names that are no weights), "gguf" (name map). May
   * be NULL: {}. [serial] */
  retort_status (*describe)(retort_instance* instance, const retort_call* call,
                            retort_str config_json, const retort_sink* json);
} retort_family_v1;

#ifdef __cplusplus
}
#endif

#endif /* RETORT_ABI_DRAFT_FAMILY_H_ */
