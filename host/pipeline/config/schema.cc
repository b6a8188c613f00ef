// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/config/schema.h"

#include <array>
#include <utility>

namespace retort::host {
namespace {

using enum KeyKind;

const ObjectSpec& Chat() {
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

const ObjectSpec& Sampling() {
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

const ObjectSpec& Reward() {
  static const ObjectSpec spec = {
      .title = "a reward entry",
      .keys = {{.name = "plugin",
                .kind = kString,
                .summary = "id of a reward plugin",
                .required = true},
               {.name = "name", .kind = kString, .summary = "of its column, instead of the id"},
               {.name = "config", .kind = kRaw, .fallback = "{}", .summary = "of the plugin"},
               {.name = "weight",
                .kind = kNumber,
                .fallback = "1.0",
                .summary = "in the weighted sum",
                .min = -1e9,
                .max = 1e9},
               {.name = "on_error",
                .kind = kString,
                .fallback = "\"skip\"",
                .summary = "a sample that can't be measured: left out, or the stage fails",
                .choices = "skip|fail"},
               {.name = "max_error_rate",
                .kind = kNumber,
                .fallback = "0.01",
                .summary = "share of errors above which the stage fails",
                .min = 0,
                .max = 1}},
      .shorthand = "plugin",
      .reserved = {"isolate", "timeout_ms", "gate", "model", "at", "reduce"}};
  return spec;
}

const ObjectSpec& Filter() {
  static const ObjectSpec spec = {
      .title = "a filter entry",
      .keys = {{.name = "plugin",
                .kind = kString,
                .summary = "id of a filter plugin",
                .required = true},
               {.name = "config", .kind = kRaw, .fallback = "{}", .summary = "of the plugin"},
               {.name = "rewards",
                .kind = kList,
                .fallback = "[]",
                .summary = "scored first and handed to the filter",
                .item = kObject,
                .object = &Reward()},
               {.name = "name", .kind = kString, .summary = "in the audit, instead of the id"},
               {.name = "on_error",
                .kind = kString,
                .fallback = "\"skip\"",
                .summary = "a sample that can't be judged: dropped as such, or the stage fails",
                .choices = "skip|fail"},
               {.name = "max_error_rate",
                .kind = kNumber,
                .fallback = "0.01",
                .summary = "share of errors above which the stage fails",
                .min = 0,
                .max = 1}},
      .shorthand = "plugin",
      .reserved = {"isolate", "timeout_ms"}};
  return spec;
}

const ObjectSpec& Loss() {
  static const ObjectSpec spec = {
      .title = "a loss entry",
      .keys =
          {{.name = "plugin", .kind = kString, .summary = "id of a loss plugin", .required = true},
           {.name = "config", .kind = kRaw, .fallback = "{}", .summary = "of the plugin"},
           {.name = "weight",
            .kind = kNumber,
            .fallback = "1.0",
            .summary = "in the sum",
            .min = -1e9,
            .max = 1e9}},
      .shorthand = "plugin"};
  return spec;
}

const ObjectSpec& OptimizerSpec() {
  static const ObjectSpec spec = {
      .title = "optimizer",
      .keys = {{.name = "plugin",
                .kind = kString,
                .summary = "id of an optimizer plugin",
                .required = true},
               {.name = "config", .kind = kRaw, .fallback = "{}", .summary = "of the plugin"}},
      .shorthand = "plugin"};
  return spec;
}

const ObjectSpec& Mixture() {
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
  return {.name = "kind",
          .kind = kString,
          .summary = "generate, filter, sft or eval",
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

const ObjectSpec& Generate() {
  static const ObjectSpec spec = {
      .title = "a generate stage",
      .keys = {NameKey(),
               KindKey(),
               {.name = "model",
                .kind = kString,
                .summary = "a name, a path or @stage",
                .required = true},
               DataKey(),
               LimitKey(),
               {.name = "samples",
                .kind = kInt,
                .fallback = "1",
                .summary = "completions of each prompt",
                .min = 1,
                .max = 100000},
               ChatKey(),
               PrefixKey("forced start of each completion; counts as completion"),
               SamplingKey("{}"),
               BatchSlots()},
      .reserved = {"rewards", "retry", "generator"}};
  return spec;
}

const ObjectSpec& FilterStageSpec() {
  static const ObjectSpec spec = {
      .title = "a filter stage",
      .keys = {NameKey(),
               KindKey(),
               DataKey(),
               LimitKey(),
               {.name = "filters",
                .kind = kList,
                .summary = "in order; each sees what is left",
                .required = true,
                .item = kObject,
                .object = &Filter()},
               {.name = "tokenizer",
                .kind = kString,
                .summary = "a model: counts tokens of texts that come without ids"}},
      .reserved = {"rewards"}};
  return spec;
}

const ObjectSpec& Schedule() {
  static const ObjectSpec spec = {
      .title = "schedule",
      .keys = {{.name = "kind",
                .kind = kString,
                .fallback = "\"cosine_with_min_lr\"",
                .summary = "of the learning rate over the steps",
                .choices = "constant|constant_with_warmup|linear|cosine|cosine_with_min_lr|wsd"},
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
                .summary = "floor of cosine_with_min_lr and wsd",
                .min = 0,
                .max = 1},
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

const ObjectSpec& Batch() {
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
std::vector<KeySpec> TrainingKeys() {
  return {
      {.name = "optimizer",
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
       .summary = "decoupled, of matrices; instead of the optimizer's config",
       .min = 0,
       .max = 100},
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
       .summary = "level of what backward computes again: 0 nothing",
       .min = 0,
       .max = 2},
      {.name = "on_nonfinite",
       .kind = kString,
       .fallback = "\"stop\"",
       .summary = "a loss or gradient that is no number",
       .choices = "stop"},
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
       .summary = "checkpoints kept; 0: all",
       .min = 0}};
}

const ObjectSpec& Sft() {
  static const ObjectSpec spec = [] {
    ObjectSpec s = {
        .title = "an sft stage",
        .keys = {NameKey(),
                 KindKey(),
                 {.name = "model",
                  .kind = kString,
                  .summary = "a name, a path or @stage",
                  .required = true},
                 DataKey(),
                 LimitKey(),
                 ChatKey(),
                 {.name = "loss",
                  .kind = kList,
                  .fallback = "[\"sft\"]",
                  .summary = "added up by weight",
                  .item = kObject,
                  .object = &Loss()},
                 {.name = "max_length",
                  .kind = kInt,
                  .fallback = "4096",
                  .summary = "tokens of an example and of a packed row",
                  .min = 2,
                  .max = 1e7},
                 {.name = "truncation",
                  .kind = kString,
                  .fallback = "\"drop\"",
                  .summary = "an example beyond max_length",
                  .choices = "drop|keep_start|error"},
                 {.name = "packing",
                  .kind = kString,
                  .fallback = "\"bfd\"",
                  .summary = "examples into rows",
                  .choices = "bfd|bfd_split|wrapped|none"},
                 {.name = "packing_window",
                  .kind = kInt,
                  .fallback = "1000",
                  .summary = "examples packed together",
                  .min = 1,
                  .max = 1e7},
                 {.name = "train_on",
                  .kind = kString,
                  .fallback = "\"completion\"",
                  .summary = "tokens with a label",
                  .choices = "completion|assistant|all"},
                 {.name = "shuffle",
                  .kind = kBool,
                  .fallback = "true",
                  .summary = "a new order each epoch, by the seed"}},
        .reserved = {"preset", "lora", "trainable", "frozen", "eval_steps", "rejected"}};
    for (KeySpec& key : TrainingKeys()) s.keys.push_back(std::move(key));
    return s;
  }();
  return spec;
}

const ObjectSpec& Metric() {
  static const ObjectSpec spec = {
      .title = "a metric",
      .keys = {{.name = "name",
                .kind = kString,
                .fallback = "\"\"",
                .summary = "rewards (mean of each), pass@1 or mean_length",
                .choices = "|rewards|pass@1|mean_length"},
               {.name = "loglik",
                .kind = kString,
                .fallback = "\"\"",
                .summary = "log-likelihood per token of this column, given the prompt"}},
      .shorthand = "name"};
  return spec;
}

const ObjectSpec& Task() {
  static const ObjectSpec spec = {
      .title = "a task",
      .keys = {{.name = "name",
                .kind = kString,
                .fallback = "\"\"",
                .summary = "in tables; empty: its data's"},
               DataKey(),
               LimitKey(),
               {.name = "rewards",
                .kind = kList,
                .fallback = "[]",
                .summary = "that measure",
                .item = kObject,
                .object = &Reward()},
               {.name = "metrics",
                .kind = kList,
                .fallback = "[\"rewards\",\"mean_length\"]",
                .summary = "what is reported",
                .item = kObject,
                .object = &Metric()},
               {.name = "samples",
                .kind = kInt,
                .fallback = "1",
                .summary = "completions of each prompt",
                .min = 1,
                .max = 100000},
               ChatKey(),
               PrefixKey("forced start of each completion; counts as completion"),
               SamplingKey("{\"temperature\":0}"),
               BatchSlots()}};
  return spec;
}

const ObjectSpec& Eval() {
  static const ObjectSpec spec = {
      .title = "an eval stage",
      .keys = {
          NameKey(),
          KindKey(),
          {.name = "models", .kind = kList, .summary = "names, paths or @stage", .required = true},
          {.name = "tasks",
           .kind = kList,
           .summary = "what each model does",
           .required = true,
           .item = kObject,
           .object = &Task()}}};
  return spec;
}

const ObjectSpec& Stage() {
  static const ObjectSpec spec = {
      .title = "a stage",
      .variant_key = "kind",
      .variants = {{"generate", &Generate()},
                   {"filter", &FilterStageSpec()},
                   {"sft", &Sft()},
                   {"eval", &Eval()}},
      .reserved_variants = {"distill", "grpo", "reward_model", "export", "repeat"}};
  return spec;
}

const ObjectSpec& ModelSpec() {
  static const ObjectSpec spec = {
      .title = "a model",
      .keys = {{.name = "path",
                .kind = kPath,
                .summary = "an HF folder or a GGUF file",
                .required = true},
               {.name = "chat_format",
                .kind = kString,
                .fallback = "\"auto\"",
                .summary = "a built-in chat format, instead of the model's template"}},
      .shorthand = "path",
      .reserved = {"storage", "lora", "config", "tokenizer", "init_seed"}};
  return spec;
}

const ObjectSpec& DataSpec() {
  static const ObjectSpec spec = {
      .title = "a data source",
      .keys = {{.name = "path", .kind = kPath, .summary = "a JSONL file", .required = true},
               {.name = "format",
                .kind = kString,
                .fallback = "\"auto\"",
                .summary = "auto: by the keys"},
               {.name = "map",
                .kind = kMap,
                .fallback = "{}",
                .summary = "key -> a column, or a template with {column} in it"},
               LimitKey(),
               {.name = "max_bad_lines",
                .kind = kNumber,
                .fallback = "0",
                .summary = "share of lines that may be broken (and are left out)",
                .min = 0,
                .max = 1}},
      .shorthand = "path"};
  return spec;
}

}  // namespace

const KeySpec* ObjectSpec::Find(std::string_view name) const {
  for (const KeySpec& key : keys) {
    if (name == key.name) return &key;
  }
  return nullptr;
}

const ObjectSpec& PipelineSpec() {
  static const ObjectSpec spec = {
      .title = "the pipeline",
      .keys = {
          {.name = "retort",
           .kind = kInt,
           .summary = "format version",
           .required = true,
           .min = 1,
           .max = 1},
          {.name = "name", .kind = kString, .summary = "of the run", .required = true},
          {.name = "seed",
           .kind = kInt,
           .fallback = "42",
           .summary = "of every random number",
           .min = 0},
          {.name = "output",
           .kind = kString,
           .fallback = "\"runs/${name}\"",
           .summary = "run folder, relative to the current folder"},
          {.name = "device",
           .kind = kString,
           .fallback = "\"auto\"",
           .summary = "where to compute",
           .choices = "auto|cpu"},
          {.name = "threads",
           .kind = kInt,
           .fallback = "0",
           .summary = "0: all cores this process may use",
           .min = 0,
           .max = 4096},
          {.name = "plugins",
           .kind = kList,
           .fallback = "[]",
           .summary = "libraries beyond the built-in ones",
           .item = kPath},
          {.name = "vars", .kind = kRaw, .fallback = "{}", .summary = "for ${name} in strings"},
          {.name = "models",
           .kind = kMap,
           .fallback = "{}",
           .summary = "named once, used by stages",
           .item = kObject,
           .object = &ModelSpec()},
          {.name = "data",
           .kind = kMap,
           .fallback = "{}",
           .summary = "named once, used by stages",
           .item = kObject,
           .object = &DataSpec()},
          {.name = "stages",
           .kind = kList,
           .summary = "in order",
           .required = true,
           .item = kObject,
           .object = &Stage()},
          {.name = "profiles",
           .kind = kRaw,
           .fallback = "{}",
           .summary = "name -> {path of a key: value}, chosen by --profile"}}};
  return spec;
}

const char* OurNameOf(std::string_view foreign) {
  static constexpr std::array<std::pair<std::string_view, const char*>, 37> kNames = {{
      {"max_new_tokens", "sampling.max_tokens"},
      {"max_completion_length", "sampling.max_tokens"},
      {"max_tokens", "sampling.max_tokens"},
      {"min_new_tokens", "sampling.min_tokens"},
      {"temperature", "sampling.temperature"},
      {"top_p", "sampling.top_p"},
      {"top_k", "sampling.top_k"},
      {"stop", "sampling.stop"},
      {"stop_strings", "sampling.stop"},
      {"do_sample", "sampling.temperature (0 is greedy)"},
      {"num_generations", "samples"},
      {"num_return_sequences", "samples"},
      {"group_size", "samples"},
      {"n", "samples"},
      {"per_device_train_batch_size", "batch.per_device"},
      {"train_batch_size", "batch.per_device"},
      {"gradient_accumulation_steps", "batch.accumulation"},
      {"num_train_epochs", "epochs"},
      {"lr", "learning_rate"},
      {"lr_scheduler_type", "schedule.kind"},
      {"warmup_ratio", "schedule.warmup_ratio"},
      {"warmup_steps", "schedule.warmup_steps"},
      {"adam_beta1", "optimizer.config.beta1"},
      {"adam_beta2", "optimizer.config.beta2"},
      {"adam_epsilon", "optimizer.config.eps"},
      {"optim", "optimizer"},
      {"max_seq_length", "max_length"},
      {"model_name_or_path", "model"},
      {"dataset_name", "data"},
      {"dataset_mixture", "data (a list with weights)"},
      {"reward_funcs", "rewards"},
      {"reward_weights", "weight in each entry of rewards"},
      {"system_prompt", "chat.system"},
      {"completion_only_loss", "train_on"},
      {"assistant_only_loss", "train_on"},
      {"max_samples", "limit"},
      {"output_dir", "output"},
  }};
  for (const auto& [theirs, ours] : kNames) {
    if (theirs == foreign) return ours;
  }
  return nullptr;
}

}  // namespace retort::host
