// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/config/schema_parts.h"

#include "host/pipeline/config/schema_eval.h"

namespace retort::host {

using enum KeyKind;

namespace {

KeySpec PluginConfigKey() {
  return {.name = "config", .kind = kRaw, .fallback = "{}", .summary = "of the plugin"};
}

KeySpec MaxErrorRateKey() {
  return {.name = "max_error_rate",
          .kind = kNumber,
          .fallback = "0.01",
          .summary = "share of errors above which the stage fails",
          .min = 0,
          .max = 1};
}

KeySpec IsolateKey() {
  return {.name = "isolate",
          .kind = kBool,
          .summary = "in a worker process; by default unless the plugin is built in"};
}

KeySpec TimeoutKey() {
  return {.name = "timeout_ms",
          .kind = kInt,
          .summary = "of one call in a worker (60000); over it, the guilty samples are timed out",
          .min = 1,
          .max = 86'400'000};
}

const ObjectSpec& ParamGroupSpec() {
  static const ObjectSpec spec = {
      .title = "a group of params",
      .keys = {{.name = "pattern",
                .kind = kString,
                .summary = "a regular expression, searched in names",
                .required = true},
               {.name = "learning_rate",
                .kind = kNumber,
                .summary = "at its peak, instead of the stage's",
                .min = 0,
                .max = 100},
               {.name = "lr_scale",
                .kind = kNumber,
                .summary = "factor of the stage's learning rate, instead of learning_rate",
                .min = 0,
                .max = 1e6},
               {.name = "weight_decay",
                .kind = kNumber,
                .summary = "of all its params; absent: as of any other",
                .min = 0,
                .max = 100}}};
  return spec;
}

}  // namespace

static const ObjectSpec& Chat() {
  static const ObjectSpec spec = {
      .title = "chat",
      .keys = {{.name = "enabled",
                .kind = kBool,
                .fallback = "true",
                .summary = "a prompt becomes the user message where the model has a template"},
               {.name = "system",
                .kind = kString,
                .fallback = "\"\"",
                .summary = "system message; empty: the template's own"}},
      .switch_key = "enabled"};
  return spec;
}

static const ObjectSpec& Sampling() {
  static const ObjectSpec spec = {
      .title = "sampling",
      .keys = {{.name = "temperature",
                .kind = kNumber,
                .fallback = "1.0",
                .summary = "0: greedy, the lowest id on ties",
                .min = 0,
                .max = 100},
               {.name = "top_k", .kind = kInt, .fallback = "0", .summary = "0: off", .min = 0},
               {.name = "top_p",
                .kind = kNumber,
                .fallback = "1.0",
                .summary = "1: off",
                .min = 1e-9,
                .max = 1},
               {.name = "min_p",
                .kind = kNumber,
                .fallback = "0.0",
                .summary = "least share of the likeliest token's probability; 0: off",
                .min = 0,
                .max = 1},
               {.name = "repetition_penalty",
                .kind = kNumber,
                .fallback = "1.0",
                .summary = "of tokens in prompt or completion: logits / it (* it below 0); 1: off",
                .min = 1e-3,
                .max = 1e3},
               {.name = "presence_penalty",
                .kind = kNumber,
                .fallback = "0.0",
                .summary = "taken from the logits of tokens in the completion; 0: off",
                .min = -1e3,
                .max = 1e3},
               {.name = "frequency_penalty",
                .kind = kNumber,
                .fallback = "0.0",
                .summary = "likewise, for each time that a token is in it; 0: off",
                .min = -1e3,
                .max = 1e3},
               {.name = "logit_bias",
                .kind = kMap,
                .fallback = "{}",
                .summary = "token id to what is added to its logit, before the penalties",
                .item = kNumber},
               {.name = "max_tokens",
                .kind = kInt,
                .fallback = "256",
                .summary = "tokens of a completion, the prefix included",
                .min = 1,
                .max = 1e6},
               {.name = "min_tokens",
                .kind = kInt,
                .fallback = "0",
                .summary = "stop tokens are not sampled before",
                .min = 0,
                .max = 1e6},
               {.name = "stop",
                .kind = kList,
                .fallback = "[]",
                .summary = "texts that end a completion (and are cut from it)"}}};
  return spec;
}

const ObjectSpec& RewardEntrySpec() {
  static const ObjectSpec spec = {
      .title = "a reward entry",
      .keys = {{.name = "plugin", .kind = kString, .summary = "id of a reward plugin"},
               {.name = "model",
                .kind = kString,
                .summary = "instead of a plugin: a reward model, by name, path or @stage"},
               {.name = "at",
                .kind = kString,
                .summary = "of a model: what it scores, the whole text or each step of the "
                           "completion; absent: end",
                .choices = "end|steps"},
               {.name = "reduce",
                .kind = kString,
                .summary = "of a model at steps: their scores to one; absent: min",
                .choices = "min|mean|product"},
               {.name = "name", .kind = kString, .summary = "of its column, instead of the id"},
               PluginConfigKey(),
               {.name = "weight",
                .kind = kNumber,
                .fallback = "1.0",
                .summary = "in the weighted sum",
                .min = -1e9,
                .max = 1e9},
               {.name = "gate",
                .kind = kString,
                .summary = "another reward of the chain: 0 where that one is not positive"},
               {.name = "on_error",
                .kind = kString,
                .fallback = "\"skip\"",
                .summary = "a sample that can't be measured: left out, or the stage fails",
                .choices = "skip|fail"},
               MaxErrorRateKey(),
               IsolateKey(),
               TimeoutKey()},
      .shorthand = "plugin"};
  return spec;
}

const ObjectSpec& FilterEntrySpec() {
  static const ObjectSpec spec = {
      .title = "a filter entry",
      .keys = {{.name = "plugin",
                .kind = kString,
                .summary = "id of a filter plugin",
                .required = true},
               PluginConfigKey(),
               {.name = "rewards",
                .kind = kList,
                .fallback = "[]",
                .summary = "scored first and handed to the filter",
                .item = kObject,
                .object = &RewardEntrySpec()},
               {.name = "name", .kind = kString, .summary = "in the audit, instead of the id"},
               {.name = "on_error",
                .kind = kString,
                .fallback = "\"skip\"",
                .summary = "a sample that can't be judged: dropped as such, or the stage fails",
                .choices = "skip|fail"},
               MaxErrorRateKey(),
               IsolateKey(),
               TimeoutKey()},
      .shorthand = "plugin"};
  return spec;
}

const ObjectSpec& LossEntrySpec() {
  static const ObjectSpec spec = {.title = "a loss entry",
                                  .keys = {{.name = "plugin",
                                            .kind = kString,
                                            .summary = "id of a loss plugin",
                                            .required = true},
                                           PluginConfigKey(),
                                           {.name = "weight",
                                            .kind = kNumber,
                                            .fallback = "1.0",
                                            .summary = "in the sum",
                                            .min = -1e9,
                                            .max = 1e9}},
                                  .shorthand = "plugin"};
  return spec;
}

static const ObjectSpec& OptimizerSpec() {
  static const ObjectSpec spec = {.title = "optimizer",
                                  .keys = {{.name = "plugin",
                                            .kind = kString,
                                            .summary = "id of an optimizer plugin",
                                            .required = true},
                                           PluginConfigKey()},
                                  .shorthand = "plugin"};
  return spec;
}

static const ObjectSpec& Mixture() {
  static const ObjectSpec spec = {.title = "a data entry",
                                  .keys = {{.name = "data",
                                            .kind = kString,
                                            .summary = "a name of the data section, or @stage",
                                            .required = true},
                                           {.name = "weight",
                                            .kind = kNumber,
                                            .fallback = "1.0",
                                            .summary = "how often each record counts per epoch",
                                            .min = 1e-6,
                                            .max = 1000},
                                           {.name = "limit",
                                            .kind = kInt,
                                            .fallback = "0",
                                            .summary = "first n; 0: all",
                                            .min = 0}},
                                  .shorthand = "data"};
  return spec;
}

KeySpec NameKey() {
  return {
      .name = "name", .kind = kString, .summary = "of the stage and its folder", .required = true};
}
KeySpec KindKey() {
  return {
      .name = "kind",
      .kind = kString,
      .summary = "of the work: generate, filter, sft, distill, reward_model, grpo, eval, repeat",
      .required = true};
}
KeySpec DataKey() {
  return {.name = "data",
          .kind = kList,
          .summary = "a name of the data section, @stage, or a list of such with weights",
          .required = true,
          .item = kObject,
          .object = &Mixture()};
}
KeySpec LimitKey() {
  return {.name = "limit",
          .kind = kInt,
          .fallback = "0",
          .summary = "first n records; 0: all",
          .min = 0};
}
KeySpec TruncationKey() {
  return {.name = "truncation",
          .kind = kString,
          .fallback = "\"drop\"",
          .summary = "an example beyond max_length",
          .choices = "drop|keep_start|error"};
}
KeySpec TrainOnKey() {
  return {.name = "train_on",
          .kind = kString,
          .fallback = "\"completion\"",
          .summary = "tokens with a label",
          .choices = "completion|assistant|all"};
}
KeySpec ChatKey() {
  return {.name = "chat",
          .kind = kObject,
          .fallback = "{}",
          .summary = "false: prompts are taken verbatim",
          .object = &Chat()};
}
KeySpec PrefixKey(const char* summary) {
  return {.name = "prefix", .kind = kString, .fallback = "\"\"", .summary = summary};
}
KeySpec SamplingKey(const char* fallback) {
  return {.name = "sampling",
          .kind = kObject,
          .fallback = fallback,
          .summary = "how completions are drawn",
          .object = &Sampling()};
}
KeySpec BatchSlots() {
  return {.name = "max_batch",
          .kind = kInt,
          .fallback = "16",
          .summary = "sequences decoded together; no effect on the result",
          .min = 1,
          .max = 4096};
}

KeySpec KvDtypeKey() {
  return {.name = "kv_dtype",
          .kind = kString,
          .fallback = "\"f32\"",
          .summary = "of cached keys and values; bf16 halves their memory, int8 quarters it",
          .choices = "f32|bf16|int8"};
}
KeySpec KvMemoryKey() {
  return {.name = "kv_memory",
          .kind = kInt,
          .fallback = "0",
          .summary =
              "bytes of cached keys and values; 0: what max_batch sequences need; no effect "
              "on the result",
          .min = 0};
}
KeySpec PrefillChunkKey() {
  return {.name = "prefill_chunk",
          .kind = kInt,
          .fallback = "512",
          .summary = "prompt tokens of one pass, and between two decode steps",
          .min = 1,
          .max = 1e6};
}

static const ObjectSpec& Schedule() {
  static const ObjectSpec spec = {
      .title = "schedule",
      .keys = {{.name = "kind",
                .kind = kString,
                .fallback = "\"cosine_with_min_lr\"",
                .summary = "of the learning rate over the steps",
                .choices = "constant|constant_with_warmup|linear|cosine|cosine_with_restarts|"
                           "cosine_with_min_lr|polynomial|inverse_sqrt|wsd"},
               {.name = "warmup_ratio",
                .kind = kNumber,
                .fallback = "0.03",
                .summary = "share of the steps",
                .min = 0,
                .max = 1},
               {.name = "warmup_steps",
                .kind = kInt,
                .fallback = "-1",
                .summary = "instead of warmup_ratio; -1: by ratio",
                .min = -1},
               {.name = "min_lr_ratio",
                .kind = kNumber,
                .fallback = "0.1",
                .summary = "floor of cosine_with_min_lr, polynomial and wsd",
                .min = 0,
                .max = 1},
               {.name = "num_cycles",
                .kind = kInt,
                .fallback = "1",
                .summary = "of cosine_with_restarts",
                .min = 1,
                .max = 1e6},
               {.name = "power",
                .kind = kNumber,
                .fallback = "1.0",
                .summary = "of polynomial",
                .min = 1e-6,
                .max = 100},
               {.name = "decay_steps",
                .kind = kInt,
                .fallback = "-1",
                .summary = "of wsd; -1: a tenth of the steps",
                .min = -1},
               {.name = "decay_type",
                .kind = kString,
                .fallback = "\"cosine\"",
                .summary = "of wsd",
                .choices = "cosine|linear|1-sqrt"}},
      .shorthand = "kind"};
  return spec;
}

static const ObjectSpec& Batch() {
  static const ObjectSpec spec = {.title = "batch",
                                  .keys = {{.name = "per_device",
                                            .kind = kInt,
                                            .fallback = "1",
                                            .summary = "packed rows of a micro-batch",
                                            .min = 1,
                                            .max = 1e6},
                                           {.name = "accumulation",
                                            .kind = kInt,
                                            .fallback = "1",
                                            .summary = "micro-batches of a step",
                                            .min = 1,
                                            .max = 1e6}}};
  return spec;
}

// What a stage that trains is given, apart from its data.
std::vector<KeySpec> OptimizerKeys() {
  return {{.name = "optimizer",
           .kind = kObject,
           .fallback = "{\"plugin\":\"adamw\"}",
           .summary = "plugin and its config",
           .object = &OptimizerSpec()},
          {.name = "learning_rate",
           .kind = kNumber,
           .fallback = "2e-5",
           .summary = "at its peak",
           .min = 0,
           .max = 100},
          {.name = "weight_decay",
           .kind = kNumber,
           .summary = "of matrices; instead of the optimizer's config, whose default holds else",
           .min = 0,
           .max = 100},
          {.name = "no_decay",
           .kind = kList,
           .fallback = "[]",
           .summary = "patterns of params that don't decay; empty: norms and biases"},
          {.name = "param_groups",
           .kind = kList,
           .fallback = "[]",
           .summary = "params with rates of their own; the first pattern that matches counts",
           .item = kObject,
           .object = &ParamGroupSpec()},
          {.name = "trainable",
           .kind = kList,
           .fallback = "[]",
           .summary = "patterns of params that are trained; empty: all"},
          {.name = "frozen",
           .kind = kList,
           .fallback = "[]",
           .summary = "patterns of params that are not trained"}};
}

std::vector<KeySpec> TrainingKeys() {
  return {
      {.name = "schedule",
       .kind = kObject,
       .fallback = "{}",
       .summary = "of the learning rate",
       .object = &Schedule()},
      {.name = "epochs",
       .kind = kNumber,
       .fallback = "1.0",
       .summary = "passes over the data",
       .min = 1e-6,
       .max = 1e6},
      {.name = "max_steps",
       .kind = kInt,
       .fallback = "-1",
       .summary = "instead of epochs; -1: by epochs",
       .min = -1},
      {.name = "batch_tokens",
       .kind = kInt,
       .summary = "tokens of a step (16384 without batch)",
       .min = 1},
      {.name = "batch", .kind = kObject, .summary = "instead of batch_tokens", .object = &Batch()},
      {.name = "micro_batch_tokens",
       .kind = kInt,
       .fallback = "0",
       .summary = "tokens that pass through the model together; 0: max_length",
       .min = 0},
      {.name = "max_grad_norm",
       .kind = kNumber,
       .fallback = "1.0",
       .summary = "0: no clipping",
       .min = 0},
      {.name = "recompute",
       .kind = kInt,
       .fallback = "0",
       .summary = "level of what backward computes again: 0 nothing, 1 norms and activations, "
                  "2 all inside a block, auto the least that fits memory_limit",
       .min = 0,
       .max = 2,
       .word = "auto"},
      {.name = "memory_limit",
       .kind = kInt,
       .fallback = "0",
       .summary = "bytes of the whole process, for recompute auto; 0: what the machine and its "
                  "control groups allow",
       .min = 0}};
}

std::vector<KeySpec> KeepingKeys() {
  std::vector<KeySpec> keys = {
      {.name = "on_nonfinite",
       .kind = kString,
       .fallback = "\"stop\"",
       .summary = "a loss or gradient that is no number: fail, leave the step out, or go back "
                  "to the last checkpoint and leave the batch out",
       .choices = "stop|skip|rollback"},
      {.name = "max_skips",
       .kind = kInt,
       .fallback = "3",
       .summary = "steps in a row that on_nonfinite may leave out",
       .min = 0},
      {.name = "logging_steps",
       .kind = kInt,
       .fallback = "10",
       .summary = "steps between lines of metrics.jsonl",
       .min = 1},
      {.name = "save_steps",
       .kind = kInt,
       .fallback = "500",
       .summary = "steps between checkpoints; 0: the last one alone",
       .min = 0},
      {.name = "save_total_limit",
       .kind = kInt,
       .fallback = "2",
       .summary = "checkpoints kept, the last and the best in any case; 0: all",
       .min = 0}};
  for (const KeySpec& key : EvaluationKeys()) keys.push_back(key);
  return keys;
}

}  // namespace retort::host
