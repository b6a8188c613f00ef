// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/config/schema_eval.h"

#include <utility>

#include "host/pipeline/config/schema_parts.h"

namespace retort::host {
namespace {

using enum KeyKind;

// Prompts to answers and their rewards.
std::vector<KeySpec> AnswerKeys() {
  return {DataKey(),
          LimitKey(),
          {.name = "rewards",
           .kind = kList,
           .fallback = "[]",
           .summary = "that measure",
           .item = kObject,
           .object = &RewardEntrySpec()},
          {.name = "samples",
           .kind = kInt,
           .fallback = "1",
           .summary = "completions of each prompt",
           .min = 1,
           .max = 100000},
          ChatKey(),
          PrefixKey("forced start of each completion; counts as completion"),
          SamplingKey("{\"temperature\":0}"),
          BatchSlots(),
          KvDtypeKey(),
          KvMemoryKey(),
          PrefillChunkKey()};
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
  static const ObjectSpec spec = [] {
    ObjectSpec s = {.title = "a task",
                    .keys = {{.name = "name",
                              .kind = kString,
                              .fallback = "\"\"",
                              .summary = "in tables; empty: its data's"},
                             {.name = "metrics",
                              .kind = kList,
                              .fallback = "[\"rewards\",\"mean_length\"]",
                              .summary = "what is reported",
                              .item = kObject,
                              .object = &Metric()}}};
    for (const KeySpec& key : AnswerKeys()) s.keys.push_back(key);
    return s;
  }();
  return spec;
}

const ObjectSpec& Evaluation() {
  static const ObjectSpec spec = [] {
    ObjectSpec s = {.title = "an evaluation within training"};
    for (KeySpec key : AnswerKeys()) {
      const std::string_view name = key.name;
      if (name == "data") key.summary = "prompts; absent: eval_data";
      if (name == "rewards") {
        key.fallback = nullptr;
        key.required = true;
        key.summary = "that measure; absent: those of the grpo stage";
      }
      s.keys.push_back(key);
    }
    return s;
  }();
  return spec;
}

bool Has(const Node& node, const char* key) {
  const Node* found = node.Find(key);
  return found != nullptr && found->type != json::Type::kNull;
}

}  // namespace

const ObjectSpec& EvalSpec() {
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

std::vector<KeySpec> EvaluationKeys() {
  KeySpec data = DataKey();
  data.name = "eval_data";
  data.summary = "data that is evaluated instead of trained on, each record once";
  data.required = false;
  return {
      data,
      {.name = "eval_steps",
       .kind = kInt,
       .fallback = "0",
       .summary = "steps between evaluations; one follows the last step in any case",
       .min = 0},
      {.name = "load_best_model_at_end",
       .kind = kBool,
       .fallback = "false",
       .summary = "the stage's result is its best checkpoint instead of its last"},
      {.name = "metric_for_best_model",
       .kind = kString,
       .summary = "by which an evaluation is the best; its checkpoint is kept then. With "
                  "load_best_model_at_end: eval_loss, or eval_reward where no loss is evaluated"},
      {.name = "greater_is_better",
       .kind = kBool,
       .summary = "of that metric; absent: unless its name ends in loss"}};
}

KeySpec EvalKey() {
  return {.name = "eval",
          .kind = kObject,
          .summary = "evaluates answers by rewards; a grpo stage with eval_data does by default",
          .object = &Evaluation()};
}

void FillEvalDefaults(Node& root) {
  Node* stages = root.Find("stages");
  if (stages == nullptr) return;
  for (Node& stage : stages->items) {
    const Node* kind = stage.Find("kind");
    const bool policy = kind != nullptr && kind->text == "grpo";
    if (policy && Has(stage, "eval_data") && !Has(stage, "eval")) {
      Node empty = {.type = json::Type::kObject, .where = stage.Find("eval_data")->where};
      stage.Set("eval", std::move(empty));
    }
    Node* eval = stage.Find("eval");
    if (eval == nullptr || eval->type != json::Type::kObject) continue;
    if (!Has(*eval, "data") && Has(stage, "eval_data")) eval->Set("data", *stage.Find("eval_data"));
    if (!Has(*eval, "chat") && Has(stage, "chat")) eval->Set("chat", *stage.Find("chat"));
    if (!policy) continue;
    for (const char* key :
         {"rewards", "prefix", "sampling", "max_batch", "kv_dtype", "kv_memory", "prefill_chunk"}) {
      if (!Has(*eval, key) && Has(stage, key)) eval->Set(key, *stage.Find(key));
    }
  }
}

}  // namespace retort::host
