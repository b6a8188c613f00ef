// Stages without training.
// SPDX-License-Identifier: Apache-2.0
#include <set>
#include <utility>

#include "host/pipeline/config/builder.h"
#include "host/pipeline/config/read.h"

namespace retort::host {

void ConfigBuilder::ReadGenerate(const Node& node, const std::string& path, StageConfig* stage) {
  stage->kind = StageKind::kGenerate;
  GenerateStage& g = stage->generate;
  ReadAnswerer(node, path, stage);
  g.data = references_.Data(*node.Find("data"), path + ".data", stage);
  g.samples = IntAt(node, "samples");
  g.limit = IntAt(node, "limit");
  g.decoding = ReadDecoding(node);
  g.chat = ReadChat(node);
  g.prefix = StringAt(node, "prefix");
  g.sampling = ReadSampling(node, path);
}

void ConfigBuilder::ReadAnswerer(const Node& node, const std::string& path, StageConfig* stage) {
  GenerateStage& g = stage->generate;
  const Node* model = node.Find("model");
  const Node* generator = node.Find("generator");
  if ((model == nullptr) == (generator == nullptr)) {
    Fail(node.where, path, "give \"model\" or \"generator\", one of the two");
  }
  if (model != nullptr) g.model = references_.Model(*model, path + ".model", stage);
  if (generator == nullptr) return;
  if (!StringAt(node, "prefix").empty()) {
    Fail(node.Find("prefix")->where, path + ".prefix",
         "a generator's completions can't be given a forced start; leave it out");
  }
  g.generator = {.plugin = ReadUse(*generator, "generator"),
                 .fail_on_error = StringAt(*generator, "on_error") == "fail",
                 .max_error_rate = NumberAt(*generator, "max_error_rate"),
                 .max_retries = IntAt(*generator, "max_retries")};
  NotePlugin("generator", g.generator->plugin.plugin, stage);
}

void ConfigBuilder::ReadFilter(const Node& node, const std::string& path, StageConfig* stage) {
  stage->kind = StageKind::kFilter;
  FilterStage& f = stage->filter;
  f.data = references_.Data(*node.Find("data"), path + ".data", stage);
  f.limit = IntAt(node, "limit");
  f.filters = ReadChain(node, "filters", path, "filter", stage);
  if (const Node* tokenizer = node.Find("tokenizer")) {
    f.tokenizer = references_.Model(*tokenizer, path + ".tokenizer", stage);
  }
}

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
  EvalTask task;
  task.data = references_.Data(*node.Find("data"), path + ".data", stage);
  task.name = StringAt(node, "name");
  if (task.name.empty() && !task.data.empty()) task.name = task.data[0].text;
  task.rewards = ReadChain(node, "rewards", path, "reward", stage);
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
  task.samples = IntAt(node, "samples");
  task.limit = IntAt(node, "limit");
  task.decoding = ReadDecoding(node);
  task.chat = ReadChat(node);
  task.prefix = StringAt(node, "prefix");
  task.sampling = ReadSampling(node, path);
  return task;
}

}  // namespace retort::host
