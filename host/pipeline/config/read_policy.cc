// Stages that learn from rewards.
// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/config/builder.h"
#include "host/pipeline/config/read.h"

namespace retort::host {

void ConfigBuilder::ReadGrpo(const Node& node, const std::string& path, StageConfig* stage) {
  stage->kind = StageKind::kGrpo;
  GrpoStage& g = stage->grpo;
  g.algorithm = StringAt(node, "algorithm");
  g.data = references_.Data(*node.Find("data"), path + ".data", stage);
  g.limit = IntAt(node, "limit");
  g.rewards = ReadChain(node, "rewards", path, "reward", stage);
  if (node.Find("rewards")->items.empty()) {
    Fail(node.Find("rewards")->where, path + ".rewards", "is empty: nothing would be learned");
  }
  ReadReference(node, path, stage);
  ReadRollouts(node, path, &g);
  ReadTraining(node, path, &g, stage);
  if (g.losses.empty()) {
    NotePlugin("loss", g.algorithm, stage);
    g.losses.push_back({.plugin = g.algorithm, .config = "{}", .weight = 1});
  }
  ReadColdStart(node, path, stage);
}

void ConfigBuilder::ReadReference(const Node& node, const std::string& path, StageConfig* stage) {
  GrpoStage& g = stage->grpo;
  if (const Node* reference = node.Find("reference")) {
    g.reference = references_.Model(*reference, path + ".reference", stage);
  }
  g.sync_ref_model = BoolAt(node, "sync_ref_model");
  g.ref_model_mixup_alpha = NumberAt(node, "ref_model_mixup_alpha");
  g.ref_model_sync_steps = IntAt(node, "ref_model_sync_steps");
  if (!g.sync_ref_model) return;
  const Where& where = node.Find("sync_ref_model")->where;
  if (node.Find("lora") != nullptr) {
    Fail(where, path + ".sync_ref_model",
         "with lora the reference is the frozen base under the adapter, which can't follow: the "
         "mean of two adapters' factors is not the mean of what they add. Leave one of them out");
  }
  if (!g.reference) return;
  const std::string& storage = g.reference->model.storage;
  if (storage == "auto" || storage == "f32") return;
  Fail(where, path + ".sync_ref_model",
       "a reference that follows the policy is f32, and '" + g.reference->text + "' has storage " +
           storage + "; leave storage out");
}

// The examples' loss joins the chain; as if each sequence of a step counted the same, unless
// `weight` says otherwise.
void ConfigBuilder::ReadColdStart(const Node& node, const std::string& path, StageConfig* stage) {
  const Node* cold = node.Find("cold_start");
  if (cold == nullptr) return;
  const double ratio = NumberAt(*cold, "ratio");
  stage->grpo.cold_start = {
      .data = references_.Data(*cold->Find("data"), path + ".cold_start.data", stage),
      .limit = IntAt(*cold, "limit"),
      .max_length = IntAt(*cold, "max_length"),
      .ratio = ratio,
      .truncation = StringAt(*cold, "truncation"),
      .train_on = StringAt(*cold, "train_on")};
  NotePlugin("loss", "sft", stage);
  stage->grpo.losses.push_back({.plugin = "sft",
                                .config = "{}",
                                .weight = NumberAt(*cold, "weight", ratio / (1 - ratio)),
                                .name = "cold_start"});
}

void ConfigBuilder::CheckPpo(const Node& node, const std::string& path) {
  if (!StringAt(node, "advantage").empty()) {
    Fail(node.Find("advantage")->where, path + ".advantage",
         "ppo works out its own for each token (gamma, lambda); leave it out");
  }
}

// How completions are drawn, and what is made of their rewards.
void ConfigBuilder::ReadRollouts(const Node& node, const std::string& path, GrpoStage* g) {
  g->num_generations = IntAt(node, "num_generations");
  g->prompts_per_step = IntAt(node, "prompts_per_step");
  g->steps_per_generation = IntAt(node, "steps_per_generation");
  g->num_iterations = IntAt(node, "num_iterations");
  if (g->prompts_per_step % g->steps_per_generation != 0) {
    Fail(node.Find("steps_per_generation")->where, path + ".steps_per_generation",
         "must divide prompts_per_step, so that each step gets whole groups");
  }
  g->decoding = ReadDecoding(node);
  g->chat = ReadChat(node);
  g->prefix = StringAt(node, "prefix");
  g->sampling = ReadSampling(node, path);
  if (g->sampling.temperature == 0) {
    Fail(node.Find("sampling")->where, path + ".sampling.temperature",
         "must be above 0: completions of a prompt would all be the same");
  }
  g->advantage = StringAt(node, "advantage");
  if (g->advantage.empty()) g->advantage = g->algorithm == "rloo" ? "rloo" : "group";
  if (g->algorithm == "reinforce" && StringAt(node, "advantage").empty()) {
    g->advantage = "reinforce_baseline";
  }
  g->advantage_eps = NumberAt(node, "advantage_eps");
  g->kl_coef = NumberAt(node, "kl_coef");
  g->target_kl = NumberAt(node, "target_kl");
  if (g->target_kl > 0 && g->steps_per_generation * g->num_iterations == 1) {
    Fail(node.Find("target_kl")->where, path + ".target_kl",
         "ends the steps on completions that were drawn, of which there is one; set num_iterations "
         "or steps_per_generation above 1, or leave it out");
  }
  g->dynamic_sampling = BoolAt(node, "dynamic_sampling");
  g->max_resamples = IntAt(node, "max_resamples");
  g->mask_truncated_completions = BoolAt(node, "mask_truncated_completions");
  g->top_entropy_quantile = NumberAt(node, "top_entropy_quantile");
  g->overlong_buffer = IntAt(node, "overlong_buffer");
  if (g->overlong_buffer > g->sampling.max_tokens) {
    Fail(node.Find("overlong_buffer")->where, path + ".overlong_buffer",
         "is longer than a completion may be (sampling.max_tokens)");
  }
  g->overlong_penalty = NumberAt(node, "overlong_penalty");
  g->gamma = NumberAt(node, "gamma");
  g->lambda = NumberAt(node, "lambda");
  g->whiten_rewards = BoolAt(node, "whiten_rewards");
  if (g->algorithm == "ppo") CheckPpo(node, path);
}

}  // namespace retort::host
