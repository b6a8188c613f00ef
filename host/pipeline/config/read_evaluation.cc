// Evaluation: an eval stage's tasks, and what a stage that trains is measured by in between.
// SPDX-License-Identifier: Apache-2.0
#include <set>
#include <utility>

#include "host/pipeline/config/builder.h"
#include "host/pipeline/config/read.h"

namespace retort::host {

void ConfigBuilder::ReadEval(const Node& node, const std::string& path, StageConfig* stage) {
  stage->kind = StageKind::kEval;
  for (const Node& model : node.Find("models")->items) {
    stage->eval.models.push_back(references_.Model(model, path + ".models", stage));
  }
  std::set<std::string> names;
  const Node& tasks = *node.Find("tasks");
  for (size_t i = 0; i < tasks.items.size(); ++i) {
    const std::string task_path = path + ".tasks." + std::to_string(i);
    EvalTask task = ReadTask(tasks.items[i], task_path, stage);
    if (!names.insert(task.name).second) {
      Fail(tasks.items[i].where, task_path,
           "there is an earlier task named '" + task.name + "'; give one of them another \"name\"");
    }
    stage->eval.tasks.push_back(std::move(task));
  }
}

EvalTask ConfigBuilder::ReadTask(const Node& node, const std::string& path, StageConfig* stage) {
  EvalTask task = ReadAnswers(node, path, stage);
  task.name = StringAt(node, "name");
  if (task.name.empty() && !task.data.empty()) task.name = task.data[0].text;
  for (const Node& metric : node.Find("metrics")->items) {
    const MetricSpec spec = {.name = StringAt(metric, "name"),
                             .column = StringAt(metric, "loglik")};
    if (spec.name.empty() == spec.column.empty()) {
      Fail(metric.where, path + ".metrics", "a metric is a name or {\"loglik\": column}");
    }
    const bool scored = spec.name == "pass@1";
    if (scored && node.Find("rewards")->items.empty()) {
      Fail(metric.where, path + ".metrics", "'pass@1' needs rewards: the first one decides");
    }
    task.metrics.push_back(
        {.name = spec.column.empty() ? spec.name : "loglik", .column = spec.column});
  }
  return task;
}

// How prompts are answered and the answers measured.
EvalTask ConfigBuilder::ReadAnswers(const Node& node, const std::string& path, StageConfig* stage) {
  EvalTask task;
  task.data = references_.Data(*node.Find("data"), path + ".data", stage);
  task.rewards = ReadChain(node, "rewards", path, "reward", stage);
  task.samples = IntAt(node, "samples");
  task.limit = IntAt(node, "limit");
  task.decoding = ReadDecoding(node);
  task.chat = ReadChat(node);
  task.prefix = StringAt(node, "prefix");
  task.sampling = ReadSampling(node, path);
  return task;
}

void ConfigBuilder::ReadEvaluation(const Node& node, const std::string& path, TrainingConfig* t,
                                   StageConfig* stage) {
  EvaluationConfig& e = t->evaluation;
  e.steps = IntAt(node, "eval_steps");
  // The prompts of a grpo stage are among what `eval` is made of.
  const Node* data = stage->kind != StageKind::kGrpo ? node.Find("eval_data") : nullptr;
  if (data != nullptr) e.data = references_.Data(*data, path + ".eval_data", stage);
  const Node* answers = node.Find("eval");
  if (answers != nullptr) e.task = ReadAnswers(*answers, path + ".eval", stage);
  e.load_best = BoolAt(node, "load_best_model_at_end");
  e.metric = StringAt(node, "metric_for_best_model");
  if (e.metric.empty() && e.load_best) e.metric = e.data.empty() ? "eval_reward" : "eval_loss";
  if (!e.metric.empty() && !e.metric.starts_with("eval_")) e.metric = "eval_" + e.metric;
  e.greater_is_better = !e.metric.ends_with("loss");
  if (node.Find("greater_is_better") != nullptr) {
    e.greater_is_better = BoolAt(node, "greater_is_better");
  }
  CheckEvaluation(node, path, e);
}

void ConfigBuilder::CheckEvaluation(const Node& node, const std::string& path,
                                    const EvaluationConfig& e) {
  const auto needs = [&](const char* key, const char* what) {
    Fail(node.Find(key)->where, path + "." + key, what);
  };
  constexpr const char* kNothing = "nothing is evaluated: give eval_data or eval";
  if (e.empty() && e.steps > 0) return needs("eval_steps", kNothing);
  if (e.empty() && e.load_best) return needs("load_best_model_at_end", kNothing);
  if (e.empty() && !e.metric.empty()) return needs("metric_for_best_model", kNothing);
  if (e.metric == "eval_loss" && e.data.empty()) {
    needs("metric_for_best_model", "no loss is evaluated here; eval_reward is");
  }
  if (e.metric.starts_with("eval_reward") && !e.task) {
    needs("metric_for_best_model", "no rewards are evaluated here: give eval, or take eval_loss");
  }
  if (node.Find("greater_is_better") != nullptr && e.metric.empty()) {
    needs("greater_is_better", "is of metric_for_best_model, which is not given");
  }
}

}  // namespace retort::host
