// Stages that train.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "core/engine/engine.h"
#include "host/pipeline/config/builder.h"
#include "host/pipeline/config/lora.h"
#include "host/pipeline/config/read.h"

namespace retort::host {

void ConfigBuilder::ReadSft(const Node& node, const std::string& path, StageConfig* stage) {
  stage->kind = StageKind::kSft;
  SftStage& s = stage->sft;
  s.data = references_.Data(*node.Find("data"), path + ".data", stage);
  s.limit = IntAt(node, "limit");
  s.chat = ReadChat(node);
  s.max_length = IntAt(node, "max_length");
  s.truncation = StringAt(node, "truncation");
  s.packing = StringAt(node, "packing");
  s.packing_window = IntAt(node, "packing_window");
  s.train_on = StringAt(node, "train_on");
  s.shuffle = BoolAt(node, "shuffle");
  ReadTraining(node, path, &s, stage);
  ReadBatch(node, path, &s);
}

void ConfigBuilder::ReadRewardModel(const Node& node, const std::string& path, StageConfig* stage) {
  stage->kind = StageKind::kRewardModel;
  SftStage& s = stage->sft;
  s.data = references_.Data(*node.Find("data"), path + ".data", stage);
  s.limit = IntAt(node, "limit");
  s.chat = ReadChat(node);
  stage->reward_model.max_length = IntAt(node, "max_length");
  stage->reward_model.reward = StringAt(node, "reward");
  s.max_length = 2 * stage->reward_model.max_length;
  s.truncation = StringAt(node, "truncation");
  s.packing_window = IntAt(node, "packing_window");
  s.shuffle = BoolAt(node, "shuffle");
  ReadTraining(node, path, &s, stage);
  ReadBatch(node, path, &s);
}

void ConfigBuilder::ReadDistill(const Node& node, const std::string& path, StageConfig* stage) {
  ReadSft(node, path, stage);
  stage->kind = StageKind::kDistill;
  DistillOptions& d = stage->distill;
  d.teacher = references_.Model(*node.Find("teacher"), path + ".teacher", stage);
  d.teacher_top_k = IntAt(node, "teacher_top_k");
  d.teacher_cache = StringAt(node, "teacher_cache");
  d.on_policy = NumberAt(node, "on_policy");
  d.sampling = ReadSampling(node, path);
  d.decoding = ReadDecoding(node);
  if (d.teacher_top_k == 0) {
    if (d.teacher_cache.empty()) return;
    Fail(node.Find("teacher_cache")->where, path + ".teacher_cache",
         "nothing is cached where the teacher runs beside the student; set teacher_top_k, or leave "
         "this out");
    return;
  }
  const Where& where = node.Find("teacher_top_k")->where;
  if (d.on_policy > 0) {
    Fail(where, path + ".teacher_top_k",
         "the student's own samples need the teacher beside it: leave this at 0, or on_policy");
  }
  if (stage->sft.packing == "wrapped") {
    Fail(where, path + ".teacher_top_k",
         "the cache has rows of whole documents, which packing wrapped cuts anew each epoch; use "
         "bfd");
  }
}

// What is trained is f32; a narrower base needs an adapter beside it.
void ConfigBuilder::CheckTrainedStorage(const Node& node, const std::string& path,
                                        const TrainingConfig& s) {
  const std::string& storage = s.model.model.storage;
  if (s.lora || storage == "auto" || storage == "f32") return;
  Fail(node.Find("model")->where, path + ".model",
       "'" + s.model.text + "' has storage " + storage +
           ", but this stage trains its weights, which are f32 then; add lora to train an " +
           "adapter beside the frozen model, or leave storage out");
}

// The result of a stage with `lora` is a base and an adapter: not one set of weights to train.
void ConfigBuilder::CheckContinued(const Node& node, const std::string& path,
                                   const TrainingConfig& s) {
  const StageConfig* from = s.model.stage.empty() ? nullptr : config_.FindStage(s.model.stage);
  if (from == nullptr || from->training() == nullptr || !from->training()->lora || s.lora) return;
  Fail(node.Find("model")->where, path + ".model",
       "'@" + s.model.stage + "' gives an adapter beside a frozen model; add lora, with that " +
           "stage's r, alpha and targets, to train it further");
}

void ConfigBuilder::ReadTraining(const Node& node, const std::string& path, TrainingConfig* t,
                                 StageConfig* stage) {
  t->model = references_.Model(*node.Find("model"), path + ".model", stage);
  if (const Node* lora = node.Find("lora")) {
    t->lora = ReadLora(*lora);
    if (t->lora->targets.empty()) Fail(lora->where, path + ".lora.targets", "is an empty list");
  }
  CheckContinued(node, path, *t);
  CheckTrainedStorage(node, path, *t);
  const Node* losses = node.Find("loss");
  for (const Node& entry : losses != nullptr ? losses->items : std::vector<Node>()) {
    NotePlugin("loss", StringAt(entry, "plugin"), stage);
    t->losses.push_back({.plugin = StringAt(entry, "plugin"),
                         .config = JsonAt(entry, "config", "{}"),
                         .weight = NumberAt(entry, "weight")});
  }
  const Node& optimizer = *node.Find("optimizer");
  t->optimizer = StringAt(optimizer, "plugin");
  t->optimizer_config = JsonAt(optimizer, "config", "{}");
  NotePlugin("optimizer", t->optimizer, stage);
  ReadWeightDecay(node, path, t);
  ReadSteps(node, path, t);
  ReadParamPatterns(node, path, t);
  t->micro_batch_tokens = IntAt(node, "micro_batch_tokens");
  t->recompute =
      StringAt(node, "recompute") == "auto" ? engine::kRecomputeAuto : IntAt(node, "recompute");
  t->memory_limit = IntAt(node, "memory_limit");
  t->on_nonfinite = StringAt(node, "on_nonfinite");
  t->max_skips = IntAt(node, "max_skips");
  t->logging_steps = IntAt(node, "logging_steps");
  t->save_steps = IntAt(node, "save_steps");
  t->save_total_limit = IntAt(node, "save_total_limit");
  ReadEvaluation(node, path, t, stage);
}

// How many steps, and how long each is.
void ConfigBuilder::ReadSteps(const Node& node, const std::string& path, TrainingConfig* t) {
  t->learning_rate = NumberAt(node, "learning_rate");
  t->max_grad_norm = NumberAt(node, "max_grad_norm");
  t->epochs = NumberAt(node, "epochs");
  t->max_steps = IntAt(node, "max_steps");
  if (t->max_steps == 0) Fail(node.Find("max_steps")->where, path + ".max_steps", "must not be 0");
  const Node& schedule = *node.Find("schedule");
  t->schedule = {.kind = StringAt(schedule, "kind"),
                 .warmup_ratio = NumberAt(schedule, "warmup_ratio"),
                 .min_lr_ratio = NumberAt(schedule, "min_lr_ratio"),
                 .power = NumberAt(schedule, "power"),
                 .num_cycles = IntAt(schedule, "num_cycles"),
                 .warmup_steps = IntAt(schedule, "warmup_steps"),
                 .decay_steps = IntAt(schedule, "decay_steps"),
                 .decay_type = StringAt(schedule, "decay_type")};
}

void ConfigBuilder::ReadBatch(const Node& node, const std::string& path, SftStage* s) {
  const Node* batch = node.Find("batch");
  if (batch != nullptr && node.Find("batch_tokens") != nullptr) {
    Fail(batch->where, path + ".batch", "give batch or batch_tokens, not both");
  }
  s->batch_tokens = IntAt(node, "batch_tokens", batch != nullptr ? 0 : 16384);
  if (batch == nullptr) return;
  s->per_device = IntAt(*batch, "per_device");
  s->accumulation = IntAt(*batch, "accumulation");
}

void ConfigBuilder::ReadParamPatterns(const Node& node, const std::string& path,
                                      TrainingConfig* t) {
  t->no_decay = StringsAt(node, "no_decay");
  t->trainable = StringsAt(node, "trainable");
  t->frozen = StringsAt(node, "frozen");
  for (const Node& entry : node.Find("param_groups")->items) {
    ParamGroupOptions group = {.pattern = StringAt(entry, "pattern")};
    const bool has_rate = entry.Find("learning_rate") != nullptr;
    const bool has_scale = entry.Find("lr_scale") != nullptr;
    if (has_rate && has_scale) {
      Fail(entry.where, path + ".param_groups", "give learning_rate or lr_scale, not both");
    } else if (has_rate && t->learning_rate == 0) {
      Fail(entry.where, path + ".param_groups",
           "a learning_rate here needs one above 0 of the stage, whose schedule it follows");
    } else if (has_rate) {
      group.lr_scale = NumberAt(entry, "learning_rate") / t->learning_rate;
    } else if (has_scale) {
      group.lr_scale = NumberAt(entry, "lr_scale");
    }
    if (entry.Find("weight_decay") != nullptr) {
      group.weight_decay = NumberAt(entry, "weight_decay");
    }
    t->param_groups.push_back(std::move(group));
  }
}

// The host tells optimizers the decay of each group of params, so it is taken out of the
// plugin's config, where people look for it first.
void ConfigBuilder::ReadWeightDecay(const Node& node, const std::string& path, TrainingConfig* s) {
  if (node.Find("weight_decay") != nullptr) s->weight_decay = NumberAt(node, "weight_decay");
  Node config = *node.Find("optimizer")->Find("config");
  const Node* inner = config.Find("weight_decay");
  if (inner == nullptr) return;
  if (node.Find("weight_decay") != nullptr) {
    Fail(inner->where, path + ".optimizer.config", "weight_decay is given by the stage already");
  }
  if (inner->type != json::Type::kNumber || NumberAt(config, "weight_decay") < 0) {
    Fail(inner->where, path + ".optimizer.config.weight_decay", "must be a number from 0");
  }
  s->weight_decay = NumberAt(config, "weight_decay");
  std::erase_if(config.members, [](const Member& m) { return m.key == "weight_decay"; });
  s->optimizer_config = config.Dump();
}

}  // namespace retort::host
