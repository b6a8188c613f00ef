// A builder for tests of families: records the params of a graph and follows the widths of its
// values, so that a weight of the wrong shape shows up without an engine.
//
//   retort_test_graph graph;
//   const retort_builder_v1 builder = retort_test_builder(&graph);
//   table->build(instance, call, config, &builder);
//   ... graph.problem is "", graph.n_results 1, retort_test_graph_has(&graph, name, rows, columns)
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_SDK_TESTING_GRAPH_H_
#define RETORT_SDK_TESTING_GRAPH_H_

#include <stdio.h>
#include <string.h>

#include "retort/abi/draft/family.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RETORT_TEST_GRAPH_PARAMS 256
#define RETORT_TEST_GRAPH_VALUES 2048
#define RETORT_TEST_GRAPH_NAME 120

/* Value 0 and param 0 are none. */
typedef struct retort_test_graph {
  char names[RETORT_TEST_GRAPH_PARAMS][RETORT_TEST_GRAPH_NAME];
  int64_t shapes[RETORT_TEST_GRAPH_PARAMS][2]; /* a vector has 0 columns */
  int64_t widths[RETORT_TEST_GRAPH_VALUES];
  uint32_t n_params, n_values, n_blocks, n_results, n_custom;
  char problem[256]; /* the first mistake; "": none */
} retort_test_graph;

static inline retort_value retort_test_graph_bad(retort_test_graph* g, const char* where,
                                                 int64_t found, int64_t expected) {
  const retort_value none = {0};
  if (g->problem[0] == 0) {
    snprintf(g->problem, sizeof g->problem, "%s: found %lld, expected %lld", where,
             (long long)found, (long long)expected);
  }
  return none;
}

static inline int64_t retort_test_graph_width(const retort_test_graph* g, retort_value x) {
  return x.id < g->n_values ? g->widths[x.id] : 0;
}
static inline int64_t retort_test_graph_dim(const retort_test_graph* g, retort_param p, int i) {
  return p.id < g->n_params ? g->shapes[p.id][i] : 0;
}

static inline retort_value retort_test_graph_value(retort_test_graph* g, int64_t width) {
  retort_value value = {g->n_values};
  if (width <= 0 || g->n_values == RETORT_TEST_GRAPH_VALUES) {
    return retort_test_graph_bad(g, "width of a value", width, 1);
  }
  g->widths[g->n_values++] = width;
  return value;
}

/* A value of `width` if found == expected. */
static inline retort_value retort_test_graph_if(retort_test_graph* g, const char* where,
                                                int64_t found, int64_t expected, int64_t width) {
  return found == expected ? retort_test_graph_value(g, width)
                           : retort_test_graph_bad(g, where, found, expected);
}

static inline retort_param retort_test_on_param(void* ctx, const retort_param_spec* spec) {
  retort_test_graph* g = (retort_test_graph*)ctx;
  retort_param param = {0};
  if (g->n_params == RETORT_TEST_GRAPH_PARAMS || strlen(spec->name) >= RETORT_TEST_GRAPH_NAME) {
    retort_test_graph_bad(g, "more params, or longer names, than this test takes", 0, 0);
    return param;
  }
  for (uint32_t i = 1; i < g->n_params; ++i) {
    if (strcmp(g->names[i], spec->name) == 0) retort_test_graph_bad(g, spec->name, 2, 1);
  }
  param.id = g->n_params++;
  strcpy(g->names[param.id], spec->name);
  int64_t rows = 1;
  for (uint32_t i = 0; i + 1 < spec->ndim; ++i) rows *= spec->shape[i];
  const int64_t last = spec->shape[spec->ndim - 1];
  g->shapes[param.id][0] = spec->ndim > 1 ? rows : last;
  g->shapes[param.id][1] = spec->ndim > 1 ? last : 0;
  return param;
}

#define RETORT_TEST_G retort_test_graph* g = (retort_test_graph*)ctx
static inline retort_value retort_test_on_embed(void* ctx, retort_param table, double scale) {
  RETORT_TEST_G;
  (void)scale;
  return retort_test_graph_value(g, retort_test_graph_dim(g, table, 1));
}
static inline retort_value retort_test_on_linear(void* ctx, retort_value x, retort_param weight,
                                                 retort_param bias) {
  RETORT_TEST_G;
  const int64_t out = retort_test_graph_dim(g, weight, 0);
  if (bias.id != 0 && retort_test_graph_dim(g, bias, 0) != out) {
    return retort_test_graph_bad(g, g->names[bias.id], retort_test_graph_dim(g, bias, 0), out);
  }
  return retort_test_graph_if(g, weight.id < g->n_params ? g->names[weight.id] : "linear",
                              retort_test_graph_dim(g, weight, 1), retort_test_graph_width(g, x),
                              out);
}
static inline retort_value retort_test_on_rms_norm(void* ctx, retort_value x, retort_param weight,
                                                   double eps, double offset) {
  RETORT_TEST_G;
  const int64_t width = retort_test_graph_width(g, x);
  (void)eps;
  (void)offset;
  return retort_test_graph_if(g, "norm", retort_test_graph_dim(g, weight, 0), width, width);
}
static inline retort_value retort_test_on_layer_norm(void* ctx, retort_value x, retort_param weight,
                                                     retort_param bias, double eps) {
  (void)bias;
  return retort_test_on_rms_norm(ctx, x, weight, eps, 0);
}
static inline retort_value retort_test_on_head_norm(void* ctx, retort_value x, retort_param weight,
                                                    uint32_t head_dim, double eps, double offset) {
  RETORT_TEST_G;
  (void)eps;
  (void)offset;
  return retort_test_graph_if(g, "head norm", retort_test_graph_dim(g, weight, 0), head_dim,
                              retort_test_graph_width(g, x));
}
static inline retort_value retort_test_on_rope(void* ctx, retort_value x, uint32_t n_heads,
                                               const retort_rope_spec* spec) {
  RETORT_TEST_G;
  const int64_t width = retort_test_graph_width(g, x);
  (void)spec;
  return retort_test_graph_if(g, "rope: width over heads", n_heads ? width % n_heads : 1, 0, width);
}
static inline retort_value retort_test_on_attention(void* ctx, retort_value q, retort_value k,
                                                    retort_value v, uint32_t layer,
                                                    const retort_attention_spec* spec) {
  RETORT_TEST_G;
  const int64_t value_dim = spec->value_dim ? spec->value_dim : spec->head_dim;
  (void)layer;
  if (retort_test_graph_width(g, k) != (int64_t)spec->n_kv_heads * spec->head_dim ||
      retort_test_graph_width(g, v) != (int64_t)spec->n_kv_heads * value_dim) {
    return retort_test_graph_bad(g, "attention: width of k", retort_test_graph_width(g, k),
                                 (int64_t)spec->n_kv_heads * spec->head_dim);
  }
  return retort_test_graph_if(g, "attention: width of q", retort_test_graph_width(g, q),
                              (int64_t)spec->n_heads * spec->head_dim, spec->n_heads * value_dim);
}
static inline retort_value retort_test_on_activation(void* ctx, retort_value x, uint32_t kind) {
  RETORT_TEST_G;
  (void)kind;
  return retort_test_graph_value(g, retort_test_graph_width(g, x));
}
static inline retort_value retort_test_on_add(void* ctx, retort_value a, retort_value b) {
  RETORT_TEST_G;
  const int64_t width = retort_test_graph_width(g, a);
  return retort_test_graph_if(g, "add: widths", retort_test_graph_width(g, b), width, width);
}
static inline retort_value retort_test_on_gated(void* ctx, retort_value gate, retort_value up,
                                                uint32_t kind) {
  (void)kind;
  return retort_test_on_add(ctx, gate, up);
}
static inline retort_value retort_test_on_mul(void* ctx, retort_value a, retort_value b) {
  RETORT_TEST_G;
  if (retort_test_graph_width(g, b) == 1) return retort_test_on_activation(ctx, a, 0);
  return retort_test_on_add(ctx, a, b);
}
static inline retort_value retort_test_on_scale(void* ctx, retort_value x, double factor) {
  (void)factor;
  return retort_test_on_activation(ctx, x, 0);
}
static inline retort_value retort_test_on_slice(void* ctx, retort_value x, uint32_t n_heads,
                                                uint32_t begin, uint32_t end) {
  RETORT_TEST_G;
  const int64_t width = retort_test_graph_width(g, x);
  return retort_test_graph_if(g, "slice: end within a head",
                              n_heads > 0 && begin < end && width / n_heads >= end, 1,
                              (int64_t)n_heads * (end - begin));
}
static inline retort_value retort_test_on_concat(void* ctx, const retort_value* in, uint32_t n_in,
                                                 uint32_t n_heads) {
  RETORT_TEST_G;
  int64_t head = 0;
  for (uint32_t i = 0; i < n_in; ++i) {
    const int64_t width = retort_test_graph_width(g, in[i]);
    head += n_heads > 0 && width % n_heads == 0 ? width / n_heads : width;
  }
  return retort_test_graph_value(g, head * n_heads);
}
static inline retort_value retort_test_on_value_of(void* ctx, retort_param param) {
  RETORT_TEST_G;
  const int64_t columns = retort_test_graph_dim(g, param, 1);
  return retort_test_graph_value(g, columns > 0 ? columns : retort_test_graph_dim(g, param, 0));
}
static inline retort_value retort_test_on_moe(void* ctx, retort_value x, retort_value logits,
                                              const retort_moe_spec* spec) {
  RETORT_TEST_G;
  return retort_test_graph_if(g, "moe: width of the router's logits",
                              retort_test_graph_width(g, logits), spec->n_experts,
                              retort_test_graph_width(g, x));
}
/* What a custom op gives only its plugin knows: taken to be as wide as its first input. */
static inline retort_value retort_test_on_custom(void* ctx, const char* op_id,
                                                 const retort_value* in, uint32_t n_in,
                                                 uint32_t n_out, retort_str attributes) {
  RETORT_TEST_G;
  (void)op_id;
  (void)n_out;
  (void)attributes;
  ++g->n_custom;
  return retort_test_graph_value(g, n_in > 0 ? retort_test_graph_width(g, in[0]) : 0);
}
static inline retort_value retort_test_on_output_of(void* ctx, retort_value custom,
                                                    uint32_t index) {
  return index == 0 ? custom : retort_test_on_activation(ctx, custom, 0);
}
static inline void retort_test_on_block(void* ctx, uint32_t index) {
  RETORT_TEST_G;
  if (index != g->n_blocks) retort_test_graph_bad(g, "number of a block", index, g->n_blocks);
  ++g->n_blocks;
}
static inline void retort_test_on_result(void* ctx, retort_value hidden, retort_param head,
                                         double logit_scale, double logit_soft_cap) {
  RETORT_TEST_G;
  const int64_t width = retort_test_graph_width(g, hidden);
  (void)logit_scale;
  (void)logit_soft_cap;
  ++g->n_results;
  if (retort_test_graph_dim(g, head, 1) != width || width == 0) {
    retort_test_graph_bad(g, "result: columns of the head", retort_test_graph_dim(g, head, 1),
                          width);
  }
}
#undef RETORT_TEST_G

/* Empties the graph; the builder writes into it. */
static inline retort_builder_v1 retort_test_builder(retort_test_graph* graph) {
  retort_builder_v1 b;
  memset(graph, 0, sizeof *graph);
  memset(&b, 0, sizeof b);
  graph->n_params = graph->n_values = 1;
  b.struct_size = sizeof b;
  b.ctx = graph;
  b.param = retort_test_on_param;
  b.embed = retort_test_on_embed;
  b.linear = retort_test_on_linear;
  b.rms_norm = retort_test_on_rms_norm;
  b.layer_norm = retort_test_on_layer_norm;
  b.head_norm = retort_test_on_head_norm;
  b.rope = retort_test_on_rope;
  b.attention = retort_test_on_attention;
  b.activation = retort_test_on_activation;
  b.gated = retort_test_on_gated;
  b.add = retort_test_on_add;
  b.mul = retort_test_on_mul;
  b.scale = retort_test_on_scale;
  b.slice = retort_test_on_slice;
  b.concat = retort_test_on_concat;
  b.value_of = retort_test_on_value_of;
  b.moe = retort_test_on_moe;
  b.custom = retort_test_on_custom;
  b.output_of = retort_test_on_output_of;
  b.block = retort_test_on_block;
  b.result = retort_test_on_result;
  return b;
}

/* The graph has that param in that shape; columns 0: a vector. */
static inline int retort_test_graph_has(const retort_test_graph* graph, const char* name,
                                        int64_t rows, int64_t columns) {
  for (uint32_t i = 1; i < graph->n_params; ++i) {
    if (strcmp(graph->names[i], name) == 0) {
      return graph->shapes[i][0] == rows && graph->shapes[i][1] == columns;
    }
  }
  return 0;
}

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* RETORT_SDK_TESTING_GRAPH_H_ */
