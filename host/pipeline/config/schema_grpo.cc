// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/config/schema_grpo.h"

#include "host/pipeline/config/lora.h"
#include "host/pipeline/config/schema_eval.h"
#include "host/pipeline/config/schema_parts.h"

namespace retort::host {
namespace {

using enum KeyKind;

// Prompts to groups of completions.
std::vector<KeySpec> RolloutKeys() {
  return {DataKey(),
          LimitKey(),
          ChatKey(),
          PrefixKey("forced start of each completion; not trained"),
          SamplingKey("{\"temperature\":1}"),
          BatchSlots(),
          KvDtypeKey(),
          KvMemoryKey(),
          PrefillChunkKey(),
          {.name = "num_generations",
           .kind = kInt,
           .fallback = "8",
           .summary = "completions of each prompt: its group",
           .min = 1,
           .max = 100000},
          {.name = "prompts_per_step",
           .kind = kInt,
           .fallback = "8",
           .summary = "prompts whose completions are drawn together",
           .min = 1,
           .max = 1e6},
          {.name = "steps_per_generation",
           .kind = kInt,
           .fallback = "1",
           .summary = "optimizer steps that share them, each with whole groups",
           .min = 1,
           .max = 1e6},
          {.name = "num_iterations",
           .kind = kInt,
           .fallback = "1",
           .summary = "passes over them before new ones are drawn",
           .min = 1,
           .max = 1000},
          {.name = "dynamic_sampling",
           .kind = kBool,
           .fallback = "false",
           .summary = "groups whose rewards are all equal make room for further prompts"},
          {.name = "max_resamples",
           .kind = kInt,
           .fallback = "4",
           .summary = "times that dynamic_sampling draws again for one step",
           .min = 1,
           .max = 1000}};
}

// Rewards to advantages.
std::vector<KeySpec> RewardKeys() {
  return {{.name = "rewards",
           .kind = kList,
           .summary = "what completions are for, added up by weight",
           .required = true,
           .item = kObject,
           .object = &RewardEntrySpec()},
          {.name = "advantage",
           .kind = kString,
           .fallback = "\"\"",
           .summary = "of a completion in its group; empty: by the algorithm",
           .choices = "|group|batch|none|rloo|loo_std|gdpo|reinforce_baseline"},
          {.name = "advantage_eps",
           .kind = kNumber,
           .fallback = "1e-4",
           .summary = "added to deviations",
           .min = 0},
          {.name = "mask_truncated_completions",
           .kind = kBool,
           .fallback = "true",
           .summary = "completions cut at max_tokens are not trained on"},
          {.name = "overlong_buffer",
           .kind = kInt,
           .fallback = "0",
           .summary = "last tokens before max_tokens over which the penalty grows; 0: no penalty",
           .min = 0},
          {.name = "overlong_penalty",
           .kind = kNumber,
           .fallback = "1",
           .summary = "taken off the reward of the longest",
           .min = 0},
          {.name = "gamma",
           .kind = kNumber,
           .fallback = "1",
           .summary = "of ppo: what a reward counts one token earlier",
           .min = 0,
           .max = 1},
          {.name = "lambda",
           .kind = kNumber,
           .fallback = "0.95",
           .summary = "of ppo: of generalised advantage estimation",
           .min = 0,
           .max = 1},
          {.name = "whiten_rewards",
           .kind = kBool,
           .fallback = "false",
           .summary = "of ppo: rewards of tokens get variance 1, their mean kept"},
          {.name = "top_entropy_quantile",
           .kind = kNumber,
           .fallback = "1",
           .summary = "share of tokens, those of highest entropy, that the policy learns from",
           .min = 0,
           .max = 1}};
}

// What holds the policy near to where it was, or to examples.
std::vector<KeySpec> HoldingKeys() {
  return {{.name = "reference",
           .kind = kString,
           .summary = "model that divergence is measured from; by default the model as the stage "
                      "begins"},
          {.name = "sync_ref_model",
           .kind = kBool,
           .fallback = "false",
           .summary = "the reference follows the policy"},
          {.name = "ref_model_mixup_alpha",
           .kind = kNumber,
           .fallback = "0.6",
           .summary = "then: it becomes alpha * policy + (1 - alpha) * reference",
           .min = 0,
           .max = 1},
          {.name = "ref_model_sync_steps",
           .kind = kInt,
           .fallback = "512",
           .summary = "every so many steps",
           .min = 1},
          {.name = "kl_coef",
           .kind = kNumber,
           .fallback = "0",
           .summary = "of the divergence from the reference, taken off the reward",
           .min = 0},
          {.name = "target_kl",
           .kind = kNumber,
           .fallback = "0",
           .summary = "over 1.5 times this divergence from the policy that drew the completions no "
                      "further step is made on them; 0: no limit",
           .min = 0},
          {.name = "cold_start",
           .kind = kObject,
           .summary = "supervised examples in each step",
           .object = &ColdStartSpec()}};
}

}  // namespace

const ObjectSpec& ColdStartSpec() {
  static const ObjectSpec spec = {
      .title = "cold_start",
      .keys = {DataKey(),
               LimitKey(),
               {.name = "ratio",
                .kind = kNumber,
                .summary = "their share of a step's sequences (at least one)",
                .required = true,
                .min = 1e-6,
                .max = 0.9},
               {.name = "weight",
                .kind = kNumber,
                .summary = "of their sft loss beside the policy's; by default ratio / (1 - ratio)",
                .min = 0,
                .max = 1e9},
               {.name = "max_length",
                .kind = kInt,
                .fallback = "4096",
                .summary = "tokens of an example",
                .min = 2,
                .max = 1e7},
               TruncationKey(),
               TrainOnKey()}};
  return spec;
}

const ObjectSpec& GrpoSpec() {
  static const ObjectSpec spec = [] {
    ObjectSpec s = {.title = "a grpo stage",
                    .keys = {NameKey(),
                             KindKey(),
                             {.name = "model",
                              .kind = kString,
                              .summary = "a name, a path or @stage",
                              .required = true},
                             LoraKey(),
                             {.name = "algorithm",
                              .kind = kString,
                              .fallback = "\"grpo\"",
                              .summary = "gives the defaults of loss and advantage",
                              .choices = "grpo|ppo|rloo|reinforce"},
                             {.name = "loss",
                              .kind = kList,
                              .summary = "added up by weight; by default the algorithm's",
                              .item = kObject,
                              .object = &LossEntrySpec()}},
                    .reserved = {"preset", "max_skips"}};
    for (const auto& keys : {RolloutKeys(), RewardKeys(), HoldingKeys(), OptimizerKeys(),
                             TrainingKeys(), KeepingKeys()}) {
      for (KeySpec key : keys) {
        const std::string_view name = key.name;
        if (name == "batch_tokens" || name == "batch") continue;  // steps are made of prompts
        if (name == "max_skips") continue;
        if (name == "on_nonfinite") key.choices = "stop";
        if (name == "learning_rate") key.fallback = "1e-6";
        if (name == "schedule") key.fallback = "{\"kind\":\"constant\"}";
        s.keys.push_back(key);
      }
    }
    s.keys.push_back(EvalKey());
    return s;
  }();
  return spec;
}

}  // namespace retort::host
