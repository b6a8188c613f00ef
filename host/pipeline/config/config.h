// A pipeline file, read, checked and with every default filled in. Loading touches no plugin, no
// model and no data: what it refuses is wrong in the text alone (keys, types, ranges, references).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/graph/lora.h"
#include "core/model/blueprint.h"

namespace retort::host {

struct ModelConfig {
  std::string path = {};                           // absolute; of a new model: "models.NAME"
  std::optional<model::Blueprint> blueprint = {};  // of a model from nothing
  std::string chat_format = {};                    // "auto": by the model's template
  std::string adapter = {};                        // a PEFT folder beside it, absolute; "": none
  std::string storage = "auto";  // of matrices in memory, as model::ParseStorage reads it
};

// A plugin of the kind that its place gives.
struct PluginUse {
  std::string plugin = {}, config = "{}";  // an id; what it is created with
  std::optional<bool> isolate = {};        // unset: in a worker unless built in
  int64_t timeout_ms = 60'000;             // of a call, in a worker
  std::vector<std::string> files = {};     // that the config names, absolute; filled by AnchorFiles
};

struct DataConfig {
  std::string path = {};                 // absolute; "" with a source
  std::optional<PluginUse> source = {};  // gives the records instead of a file
  std::string format = "auto";
  std::vector<std::pair<std::string, std::string>> map = {};  // key -> column or template
  int64_t limit = 0;                                          // first n records; 0: all
  double max_bad_lines = 0;                                   // share of lines that may be broken
};

// A model by name of the "models" section, by path, or the checkpoint of a stage.
struct ModelRef {
  std::string text = {};   // as written: "student", "@sft", "models/x"
  std::string stage = {};  // of "@stage", else ""
  ModelConfig model = {};  // else this
};

// Records of the "data" section, or what a stage wrote.
struct DataRef {
  std::string text = {};   // as written
  std::string stage = {};  // of "@stage", else ""
  double weight = 1;       // of the mixture: how many times each record counts per epoch
  int64_t limit = 0;
};

struct ChatOptions {
  bool enabled = true;  // a prompt becomes the user message where the model has a template
  std::string system = {};
};

struct SamplingOptions {
  double temperature = 1.0, top_p = 1.0;
  int64_t top_k = 0, max_tokens = 256, min_tokens = 0;
  double min_p = 0, repetition_penalty = 1, presence_penalty = 0, frequency_penalty = 0;
  std::vector<std::pair<int32_t, double>> logit_bias = {};
  std::vector<std::string> stop = {};
};

// How sequences are decoded together.
struct DecodingOptions {
  int64_t max_batch = 16, kv_memory = 0, prefill_chunk = 512;
  std::string kv_dtype = "f32";  // or bf16, int8
};

// A chain of plugins, as the chains of host/chain read it: a JSON array of entries with all
// defaults filled in.
struct ChainConfig {
  std::string json = "[]";
  std::string key_path = {};  // "stages.clean.filters", for errors
  // What "model" of reward entries stands for, by what is written there.
  std::map<std::string, ModelRef> models = {};
};

struct LossEntry {
  std::string plugin, config = "{}";
  double weight = 1;
  std::string name = {};  // in metrics; "": the plugin's
};

// A generator plugin that answers instead of a model.
struct GeneratorUse {
  PluginUse plugin = {};
  bool fail_on_error = false;    // on_error: "fail"
  double max_error_rate = 0.01;  // share of samples without an answer above which the stage fails
  int64_t max_retries = 3;       // of a request that failed
};

struct GenerateStage {
  ModelRef model = {};                         // or
  std::optional<GeneratorUse> generator = {};  // this
  std::vector<DataRef> data = {};
  int64_t samples = 1, limit = 0;
  DecodingOptions decoding = {};
  ChatOptions chat = {};
  std::string prefix = {};
  SamplingOptions sampling = {};
};

struct FilterStage {
  std::vector<DataRef> data = {};
  ChainConfig filters = {};
  int64_t limit = 0;
  std::optional<ModelRef> tokenizer = {};  // counts tokens of texts that come without ids
};

struct ScheduleOptions {
  std::string kind = "cosine_with_min_lr";
  double warmup_ratio = 0.03, min_lr_ratio = 0.1, power = 1;
  int64_t num_cycles = 1;
  int64_t warmup_steps = -1, decay_steps = -1;  // -1: by ratio, or a tenth
  std::string decay_type = "cosine";
};

struct ParamGroupOptions {
  std::string pattern = {};
  double lr_scale = 1;
  std::optional<double> weight_decay = {};
};

struct MetricSpec {
  std::string name = {};    // "rewards", "pass@1", "mean_length" or "loglik"
  std::string column = {};  // of loglik
};

struct EvalTask {
  std::string name = {};
  std::vector<DataRef> data = {};
  ChainConfig rewards = {};
  std::vector<MetricSpec> metrics = {};
  int64_t samples = 1, limit = 0;
  DecodingOptions decoding = {};
  ChatOptions chat = {};
  std::string prefix = {};
  SamplingOptions sampling = {};
};

// What is measured between the steps of training, on data that is not trained on.
struct EvaluationConfig {
  int64_t steps = 0;                  // between evaluations; 0: at the end alone
  std::vector<DataRef> data = {};     // for the loss
  std::optional<EvalTask> task = {};  // answers that rewards measure; without name and metrics
  bool load_best = false;             // the stage's result is the best checkpoint
  std::string metric = {};            // by which it is the best: "eval_loss"; "": none is kept
  bool greater_is_better = false;

  bool empty() const { return data.empty() && !task; }
};

// What every stage that trains has.
struct TrainingConfig {
  ModelRef model = {};
  std::optional<graph::LoraSpec> lora = {};  // trains an adapter, the model frozen
  std::vector<LossEntry> losses = {};
  std::string optimizer, optimizer_config = "{}";
  double learning_rate = 2e-5, max_grad_norm = 1.0;
  // A "weight_decay" of the optimizer's config is moved here; none: its schema's default.
  std::optional<double> weight_decay = {};
  std::vector<ParamGroupOptions> param_groups = {};
  std::vector<std::string> no_decay = {}, trainable = {}, frozen = {};  // patterns
  ScheduleOptions schedule = {};
  double epochs = 1;
  int64_t max_steps = -1;          // instead of epochs; -1: by epochs
  int64_t micro_batch_tokens = 0;  // 0: max_length
  int64_t recompute = 0;           // engine::kRecomputeAuto: the least that fits memory_limit
  int64_t memory_limit = 0;        // bytes; 0: what the system allows
  int64_t logging_steps = 10, save_steps = 500, save_total_limit = 2;
  std::string on_nonfinite = "stop";
  int64_t max_skips = 3;
  EvaluationConfig evaluation = {};
};

struct SftStage : TrainingConfig {
  std::vector<DataRef> data = {};
  int64_t limit = 0;
  int64_t batch_tokens = 16384;              // of a step; 0: by sequences
  int64_t per_device = 0, accumulation = 0;  // packed rows a micro-batch, micro-batches a step
  int64_t max_length = 4096, packing_window = 1000;
  std::string truncation = "drop", packing = "bfd", train_on = "completion";
  bool shuffle = true;
  ChatOptions chat = {};
};

// What a distill stage has beside the keys of sft.
struct DistillOptions {
  ModelRef teacher = {};
  int64_t teacher_top_k = 0;  // entries of a cached row; 0: the teacher runs beside the student
  std::string teacher_cache = {};  // folder, absolute; "": in the run's folder, by what is in it
  double on_policy = 0;            // chance that a step trains on the student's own samples
  SamplingOptions sampling = {};   // of those
  DecodingOptions decoding = {};
};

// Supervised examples beside the completions of each step of a grpo stage.
struct ColdStartOptions {
  std::vector<DataRef> data = {};
  int64_t limit = 0, max_length = 4096;
  double ratio = 0.1;  // of a step's sequences
  std::string truncation = "drop", train_on = "completion";
};

// Reinforcement by rewards of sampled completions.
struct GrpoStage : TrainingConfig {
  std::string algorithm =
      "grpo";  // or ppo, rloo, reinforce: what the defaults of loss and advantage are
  std::vector<DataRef> data = {};
  int64_t limit = 0;
  ChainConfig rewards = {};
  int64_t num_generations = 8;       // completions of a prompt: its group
  int64_t prompts_per_step = 8;      // prompts sampled together
  int64_t steps_per_generation = 1;  // optimizer steps that share them, each with some
  int64_t num_iterations = 1;        // passes over them
  DecodingOptions decoding = {};
  ChatOptions chat = {};
  std::string prefix = {};
  SamplingOptions sampling = {};
  std::optional<ModelRef> reference = {};  // unset: the model as the stage began
  bool sync_ref_model = false;             // the reference follows the policy
  double ref_model_mixup_alpha = 0.6;      // the policy's share in it, taken anew every
  int64_t ref_model_sync_steps = 512;      // so many steps
  std::optional<ColdStartOptions> cold_start = {};
  double target_kl = 0;  // divergence from the policy that drew; over 1.5 times it a round ends
  std::string advantage = "group";
  double advantage_eps = 1e-4;
  double kl_coef = 0;  // of the KL divergence to the reference in the reward
  bool dynamic_sampling = false;
  int64_t max_resamples = 4;  // times that groups of equal rewards are drawn anew
  bool mask_truncated_completions = true;
  double top_entropy_quantile = 1.0;
  int64_t overlong_buffer = 0;  // last tokens before max_tokens that cost reward; 0: none
  double overlong_penalty = 1.0;
  double gamma = 1, lambda = 0.95;  // of ppo's advantages
  bool whiten_rewards = false;
};

// What a reward_model stage has beside the keys of sft, whose examples are its pairs.
struct RewardModelOptions {
  int64_t max_length = 4096;  // of each text; a pair may have twice as many tokens
  std::string reward = {};    // by which the best and worst sample are found; "": the sum of all
};

struct EvalStage {
  std::vector<ModelRef> models = {};
  std::vector<EvalTask> tasks = {};
};

enum class StageKind : uint8_t { kGenerate, kFilter, kSft, kDistill, kRewardModel, kGrpo, kEval };
std::string_view StageKindName(StageKind kind);

struct StageConfig {
  std::string name = {};
  StageKind kind = StageKind::kGenerate;
  std::vector<std::string> inputs = {};  // stages it refers to, each once
  // Every plugin it names: (kind, id), each once.
  std::vector<std::pair<std::string, std::string>> plugins = {};
  std::vector<std::string> plugin_files = {};  // that their configs name; filled by AnchorFiles
  std::string resolved = {};  // the stage's resolved JSON, compact, canonical: what is hashed
  GenerateStage generate;     // the one of `kind` is filled in
  FilterStage filter;
  SftStage sft;  // also of distill and reward_model stages
  DistillOptions distill;
  RewardModelOptions reward_model;
  GrpoStage grpo;
  EvalStage eval;
  // Of a stage that trains, else NULL.
  const TrainingConfig* training() const;
  TrainingConfig* training();
  // Every model whose weights it reads, what it trains first; every list of data.
  std::vector<const ModelRef*> Models() const;
  std::vector<const ModelRef*> RewardModels() const;  // that its reward entries name
  std::vector<const std::vector<DataRef>*> DataLists() const;
};

struct PipelineConfig {
  std::string file = {}, name = {},
              output = {};  // output: relative to the current folder, as resolved
  std::string device = "auto";
  uint64_t seed = 0;
  int64_t threads = 0;
  std::vector<std::string> plugins = {};  // absolute paths
  std::map<std::string, ModelConfig> models = {};
  std::map<std::string, DataConfig> data = {};
  std::vector<StageConfig> stages = {};
  std::string resolved_json = {};  // the whole, indented: for run.json and people

  const StageConfig* FindStage(std::string_view name) const;
};

struct Overrides {
  std::string profile = {};           // of the file's "profiles"; applied first
  std::vector<std::string> set = {};  // "a.b.c=value", in order
};

// The error is INVALID_ARGUMENT (or what reading the file gave) and lists every mistake found, one
// a line: file:line:column, the key's path, the rule, the nearest known name.
Result<PipelineConfig> LoadPipeline(const std::string& path, const Overrides& overrides);
// The same from a text; `path` names it and anchors relative paths.
Result<PipelineConfig> ParsePipeline(std::string_view text, const std::string& path,
                                     const Overrides& overrides);

}  // namespace retort::host
