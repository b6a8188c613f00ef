/* A model without a pipeline: tokens, chat format, generation, log-probabilities.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef RETORT_HOST_MODEL_H_
#define RETORT_HOST_MODEL_H_

#include "retort/abi/reward.h" /* RETORT_FINISH_X */
#include "retort/host/context.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct retort_model retort_model;

typedef struct retort_model_options {
  uint32_t struct_size;
  uint32_t flags;         /* none yet: 0 */
  retort_str path;        /* a folder of safetensors, a GGUF file, or a PEFT folder */
  retort_str chat_format; /* a built-in format's name; absent: by the model's template */
  /* How matrices are kept in memory: "f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q4_k", "q6_k",
   * "nf4"; "auto" or absent: as the file has them. Block types round the numbers that meet them;
   * "f32" doesn't. */
  retort_str storage;
  /* A PEFT folder whose adapter runs beside the weights of path. A path that is itself one names
   * its base. */
  retort_str adapter;
} retort_model_options;

/* Reads config and tokenizer; weights are read when first needed, or by retort_model_load.
 * since 1.0 */
RETORT_HOST_API retort_status retort_model_open(retort_context* context,
                                                const retort_model_options* options,
                                                retort_model** out);
RETORT_HOST_API void retort_model_destroy(retort_model* model);

/* Reads the weights now, once: the handle keeps them. since 1.0 */
RETORT_HOST_API retort_status retort_model_load(retort_model* model);

/* Writes what is known of the model as of `retort model show --json`. since 1.0 */
RETORT_HOST_API retort_status retort_model_info(retort_model* model, const retort_sink* json);

/* ---- tokens ----------------------------------------------------------------------------- */

#define RETORT_TOKENIZE_NO_SPECIAL_TOKENS 1u     /* add no bos or other special tokens */
#define RETORT_DETOKENIZE_SKIP_SPECIAL_TOKENS 1u /* leave special tokens out of the text */
#define RETORT_CHAT_GENERATION_PROMPT 1u         /* end with the start of an answer */

/* Encodes `text` into ids[0, capacity) and sets *n to how many there are. OUT_OF_RANGE: more than
 * `capacity`; the first `capacity` are written and *n is the count to make room for. capacity 0
 * with ids NULL asks for the count alone and returns OK. FAILED_PRECONDITION: no tokenizer.
 * since 1.0 */
RETORT_HOST_API retort_status retort_model_tokenize(retort_model* model, retort_str text,
                                                    uint32_t flags, int32_t* ids, uint64_t capacity,
                                                    uint64_t* n);

/* Writes the text of ids. OUT_OF_RANGE or INVALID_ARGUMENT: an id outside the vocabulary.
 * since 1.0 */
RETORT_HOST_API retort_status retort_model_detokenize(retort_model* model, const int32_t* ids,
                                                      uint64_t n, uint32_t flags,
                                                      const retort_sink* text);

/* Writes messages, a JSON array of {"role", "content"}, as the model's chat format shows them to
 * it. FAILED_PRECONDITION: the model has no chat format. since 1.0 */
RETORT_HOST_API retort_status retort_model_render_chat(retort_model* model, retort_str messages,
                                                       uint32_t flags, const retort_sink* text);

/* ---- generation ------------------------------------------------------------------------- */

/* One prompt; walked by a stride. Either `prompt` or `messages`. */
typedef struct retort_generate_prompt {
  retort_str prompt;   /* as it is; with the option "chat", as the user's message */
  retort_str messages; /* a JSON array of {"role", "content"}, through the chat format */
  retort_str record;   /* a JSON object to keep with the samples; may be absent */
  uint64_t uid;        /* names it: tokens depend on it and the seed; 0: made from its texts */
} retort_generate_prompt;

/* New text of a completion, whole characters. */
typedef struct retort_generate_delta {
  uint32_t struct_size;
  uint32_t sample; /* number among the prompt's samples */
  uint64_t prompt; /* index into `prompts` */
  retort_str text;
} retort_generate_delta;

/* A completion that ended. */
typedef struct retort_generate_done {
  uint32_t struct_size;
  uint32_t sample;
  uint64_t prompt;
  uint64_t uid;       /* of the sample */
  retort_str text;    /* whole, with the forced prefix, without the stop token or stop text */
  uint32_t finish;    /* RETORT_FINISH_X; ERROR: see `error` */
  uint32_t n_prefix;  /* leading ids that "prefix" forced */
  const int32_t* ids; /* [n_ids], prefix and stop token included */
  const float* logp;  /* [n_ids] natural log at the sampling temperature; 0 for the prefix */
  uint64_t n_ids;
  retort_str error; /* why it could not be generated; else absent */
  retort_str json;  /* the sample as one line, as of `retort generate` */
} retort_generate_done;

typedef struct retort_generate_args {
  uint32_t struct_size;
  uint32_t flags;         /* none yet: 0 */
  uint32_t prompt_stride; /* sizeof(retort_generate_prompt) */
  uint32_t _pad;
  const retort_generate_prompt* prompts;
  uint64_t n_prompts;
  /* A JSON object, keys as the options of `retort generate`: samples, max_tokens, min_tokens,
   * temperature, top_k, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty,
   * logit_bias (a list of "ID=NUMBER"), stop (a list), seed, max_batch, kv_dtype, kv_memory,
   * prefill_chunk, chat, system, prefix. Absent: {}. */
  retort_str options;
  void* ctx; /* of the callbacks; they may be NULL. Nonzero from one stops the call */
  int32_t (*delta)(void* ctx, const retort_generate_delta* delta);
  int32_t (*done)(void* ctx, const retort_generate_done* done); /* once each, as they end */
} retort_generate_args;

/* Generates completions of all prompts. The deltas of a completion, joined, are its text.
 * CANCELLED: by retort_cancel (completions that had not ended get a `done` with
 * RETORT_FINISH_CANCELLED) or by a callback (no callback is made after it). INVALID_ARGUMENT: an
 * option, a prompt without tokens, two prompts with one uid. A single completion that can't be made
 * is no failure: its `done` has RETORT_FINISH_ERROR. since 1.0 */
RETORT_HOST_API retort_status retort_model_generate(retort_model* model,
                                                    const retort_generate_args* args);

/* ---- log-probabilities ------------------------------------------------------------------ */

/* One text; walked by a stride. Give `text`, or `prompt` and `completion`, or `ids`. */
typedef struct retort_logprob_item {
  retort_str text;       /* every token after the first counts */
  retort_str prompt;     /* with a completion: its tokens don't count */
  retort_str completion; /* its tokens count */
  const int32_t* ids;    /* [n_ids] every id from `first` on counts */
  uint64_t n_ids;
  uint64_t first; /* of `ids`; 0: 1 */
} retort_logprob_item;

typedef struct retort_logprob_result {
  uint32_t struct_size;
  uint32_t _pad;
  uint64_t item;      /* index into `items` */
  const int32_t* ids; /* [n_ids] of the whole text */
  const float* logp;  /* [n_logp] natural log, of the last n_logp ids, each given those before */
  uint64_t n_ids;
  uint64_t n_logp;
  double sum; /* of logp */
} retort_logprob_result;

typedef struct retort_logprob_args {
  uint32_t struct_size;
  uint32_t flags;       /* none yet: 0 */
  uint32_t item_stride; /* sizeof(retort_logprob_item) */
  uint32_t _pad;
  const retort_logprob_item* items;
  uint64_t n_items;
  int64_t max_tokens; /* of one pass through the model; 0: chosen */
  void* ctx;
  /* Once per item, in their order. Nonzero: stop. */
  int32_t (*result)(void* ctx, const retort_logprob_result* result);
} retort_logprob_args;

/* INVALID_ARGUMENT: an item with none or several kinds of input, an id outside the vocabulary.
 * since 1.0 */
RETORT_HOST_API retort_status retort_model_logprob(retort_model* model,
                                                   const retort_logprob_args* args);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* RETORT_HOST_MODEL_H_ */
