// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/config/schema.h"

#include <array>
#include <initializer_list>
#include <utility>

#include "host/pipeline/config/lora.h"
#include "host/pipeline/config/repeat.h"
#include "host/pipeline/config/schema_eval.h"
#include "host/pipeline/config/schema_grpo.h"
#include "host/pipeline/config/schema_parts.h"

namespace retort::host {
namespace {

using enum KeyKind;

const ObjectSpec& Generate() {
  static const ObjectSpec spec = {
      .title = "a generate stage",
      .keys = {NameKey(),
               KindKey(),
               {.name = "model", .kind = kString, .summary = "a name, a path or @stage"},
               {.name = "generator",
                .kind = kObject,
                .summary = "a generator plugin that answers instead of a model",
                .object = &GeneratorEntrySpec()},
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
               BatchSlots(),
               KvDtypeKey(),
               KvMemoryKey(),
               PrefillChunkKey()},
      .reserved = {"rewards", "retry"}};
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
                .object = &FilterEntrySpec()},
               {.name = "tokenizer",
                .kind = kString,
                .summary = "a model: counts tokens of texts that come without ids"}},
      .reserved = {"rewards"}};
  return spec;
}

// What sft and distill stages have in common, in the order of the tables.
std::vector<KeySpec> StartKeys() {
  return {
      NameKey(),
      KindKey(),
      {.name = "model", .kind = kString, .summary = "a name, a path or @stage", .required = true}};
}

std::vector<KeySpec> ExampleKeys(const char* losses) {
  return {LoraKey(),
          DataKey(),
          LimitKey(),
          ChatKey(),
          {.name = "loss",
           .kind = kList,
           .fallback = losses,
           .summary = "added up by weight",
           .item = kObject,
           .object = &LossEntrySpec()},
          {.name = "max_length",
           .kind = kInt,
           .fallback = "4096",
           .summary = "tokens of an example and of a packed row",
           .min = 2,
           .max = 1e7},
          TruncationKey(),
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
          TrainOnKey(),
          {.name = "shuffle",
           .kind = kBool,
           .fallback = "true",
           .summary = "a new order each epoch, by the seed"}};
}

std::vector<KeySpec> TeacherKeys() {
  return {
      {.name = "teacher",
       .kind = kString,
       .summary = "a model with the same tokenizer: a name, a path or @stage",
       .required = true},
      {.name = "teacher_top_k",
       .kind = kInt,
       .fallback = "0",
       .summary = "its k likeliest tokens, cached before training; 0: all of its logits, from a "
                  "teacher beside the student",
       .min = 0,
       .max = 65534},
      {.name = "teacher_cache",
       .kind = kPath,
       .summary = "the cache's folder; absent: in the run's, shared by stages that want the same"},
      {.name = "on_policy",
       .kind = kNumber,
       .fallback = "0",
       .summary = "chance that a step trains on what the student samples for its prompts",
       .min = 0,
       .max = 1},
      SamplingKey("{}"),
      BatchSlots(),
      KvDtypeKey(),
      KvMemoryKey(),
      PrefillChunkKey()};
}

ObjectSpec JoinKeys(const char* title, std::initializer_list<std::vector<KeySpec>> parts) {
  ObjectSpec spec = {.title = title, .reserved = {"preset", "rejected", "students"}};
  for (const std::vector<KeySpec>& keys : parts) {
    spec.keys.insert(spec.keys.end(), keys.begin(), keys.end());
  }
  return spec;
}

const ObjectSpec& Sft() {
  static const ObjectSpec spec = JoinKeys("an sft stage", {StartKeys(),
                                                           ExampleKeys("[\"sft\"]"),
                                                           OptimizerKeys(),
                                                           TrainingKeys(),
                                                           KeepingKeys(),
                                                           {EvalKey()}});
  return spec;
}

// By default as Hinton et al.: 0.7 of the teacher's distribution at temperature 3, 0.3 of the
// labels.
const ObjectSpec& Distill() {
  static const ObjectSpec spec = JoinKeys(
      "a distill stage",
      {StartKeys(),
       TeacherKeys(),
       ExampleKeys("[{\"plugin\":\"kd\",\"weight\":0.7},{\"plugin\":\"sft\",\"weight\":0.3}]"),
       OptimizerKeys(),
       TrainingKeys(),
       KeepingKeys(),
       {EvalKey()}});
  return spec;
}

const ObjectSpec& RewardModel() {
  static const ObjectSpec spec = [] {
    std::vector<KeySpec> keys = {{.name = "reward",
                                  .kind = kString,
                                  .fallback = "\"\"",
                                  .summary = "of samples: by which the best and the worst of a "
                                             "prompt are found; empty: the sum of all"}};
    for (KeySpec key : ExampleKeys("[\"bradley_terry\"]")) {
      const std::string_view name = key.name;
      if (name == "packing" || name == "train_on") continue;
      if (name == "max_length") key.summary = "tokens of each text, with its prompt";
      if (name == "truncation") key.summary = "a text beyond max_length";
      if (name == "packing_window") key.summary = "pairs packed together";
      keys.push_back(key);
    }
    return JoinKeys("a reward_model stage",
                    {StartKeys(), keys, OptimizerKeys(), TrainingKeys(), KeepingKeys()});
  }();
  return spec;
}

const ObjectSpec& Stage() {
  static const ObjectSpec spec = {.title = "a stage",
                                  .variant_key = "kind",
                                  .variants = {{"generate", &Generate()},
                                               {"filter", &FilterStageSpec()},
                                               {"sft", &Sft()},
                                               {"distill", &Distill()},
                                               {"reward_model", &RewardModel()},
                                               {"grpo", &GrpoSpec()},
                                               {"eval", &EvalSpec()},
                                               {"repeat", &RepeatSpec()}},
                                  .reserved_variants = {"export"}};
  return spec;
}

// The values of model::ParseStorage.
constexpr const char* kStorageChoices = "auto|f32|f16|bf16|q8_0|q4_0|q4_1|q4_k|q6_k|nf4";

const ObjectSpec& ModelSpec() {
  static const ObjectSpec spec = {
      .title = "a model",
      .keys = {{.name = "path",
                .kind = kPath,
                .summary = "an HF folder, a GGUF file, or a PEFT folder that names its base"},
               {.name = "config",
                .kind = kRaw,
                .summary =
                    "instead of path: the config.json of a model from nothing, whose weights "
                    "are random; vocab_size may be left out"},
               {.name = "tokenizer",
                .kind = kPath,
                .summary = "of a model from nothing: a folder with tokenizer.json, or that file"},
               {.name = "init_seed",
                .kind = kInt,
                .summary = "of those weights; without it by the pipeline's seed and the name",
                .min = 0},
               {.name = "adapter",
                .kind = kPath,
                .summary = "a PEFT folder whose adapter runs beside the weights of path"},
               {.name = "chat_format",
                .kind = kString,
                .fallback = "\"auto\"",
                .summary = "a built-in chat format, instead of the model's template"},
               {.name = "storage",
                .kind = kString,
                .fallback = "\"auto\"",
                .summary = "type that matrices are kept in; auto: the file's (f32 where trained)",
                .choices = kStorageChoices}},
      .shorthand = "path",
      .reserved = {"lora"}};
  return spec;
}

const ObjectSpec& DataSpec() {
  static const ObjectSpec spec = {
      .title = "a data source",
      .keys = {{.name = "path", .kind = kPath, .summary = "a JSONL file"},
               {.name = "source",
                .kind = kObject,
                .summary = "a source plugin that gives the records instead of a file",
                .object = &SourceEntrySpec()},
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
  static constexpr auto kNames = std::to_array<std::pair<std::string_view, const char*>>({
      {"use_peft", "lora"},
      {"max_kl", "target_kl"},
      {"peft_config", "lora"},
      {"lora_r", "lora.r"},
      {"lora_rank", "lora.r"},
      {"rank", "lora.r"},
      {"lora_alpha", "lora.alpha"},
      {"lora_dropout", "lora.dropout"},
      {"target_modules", "lora.targets"},
      {"lora_target_modules", "lora.targets"},
      {"rslora", "lora.use_rslora"},
      {"max_new_tokens", "sampling.max_tokens"},
      {"max_completion_length", "sampling.max_tokens"},
      {"max_tokens", "sampling.max_tokens"},
      {"min_new_tokens", "sampling.min_tokens"},
      {"temperature", "sampling.temperature"},
      {"top_p", "sampling.top_p"},
      {"top_k", "sampling.top_k"},
      {"stop", "sampling.stop"},
      {"stop_strings", "sampling.stop"},
      {"min_p", "sampling.min_p"},
      {"repetition_penalty", "sampling.repetition_penalty"},
      {"presence_penalty", "sampling.presence_penalty"},
      {"frequency_penalty", "sampling.frequency_penalty"},
      {"logit_bias", "sampling.logit_bias"},
      {"sequence_bias", "sampling.logit_bias"},
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
      {"teacher_model_name_or_path", "teacher"},
      {"teacher_model", "teacher"},
      {"lmbda", "on_policy"},
      {"eval_dataset", "eval_data"},
      {"eval_strategy", "eval_steps"},
      {"evaluation_strategy", "eval_steps"},
      {"do_eval", "eval_data"},
      {"per_device_eval_batch_size", "micro_batch_tokens"},
  });
  for (const auto& [theirs, ours] : kNames) {
    if (theirs == foreign) return ours;
  }
  return nullptr;
}

}  // namespace retort::host
