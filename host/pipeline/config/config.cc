// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/config/config.h"

#include <algorithm>
#include <set>
#include <utility>

#include "core/io/filesystem.h"
#include "core/json/json.h"
#include "host/pipeline/config/lora.h"
#include "host/pipeline/config/overrides.h"
#include "host/pipeline/config/read.h"
#include "host/pipeline/config/references.h"
#include "host/pipeline/config/schema.h"
#include "host/pipeline/config/tree.h"
#include "host/pipeline/config/validate.h"

namespace retort::host {
namespace {

constexpr size_t kMaxErrors = 20;

Status ErrorList(const std::vector<std::string>& errors) {
  std::string text;
  for (size_t i = 0; i < errors.size() && i < kMaxErrors; ++i) {
    text += (i == 0 ? "" : "\n") + errors[i];
  }
  if (errors.size() > kMaxErrors) {
    text += "\n… and " + std::to_string(errors.size() - kMaxErrors) + " more";
  }
  return InvalidArgument(std::move(text));
}

// A stage's name is a folder's name, and part of "@name" and "stages.name.key".
bool IsStageName(std::string_view name) {
  const auto fine = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  };
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), fine);
}

class Builder {
 public:
  Builder(const Node& root, std::string file_folder, std::vector<std::string>* errors)
      : root_(root), errors_(*errors), references_(root, config_, std::move(file_folder), errors) {}

  PipelineConfig Build() {
    config_.name = StringAt(root_, "name");
    config_.output = StringAt(root_, "output");
    config_.device = StringAt(root_, "device");
    config_.seed = static_cast<uint64_t>(IntAt(root_, "seed"));
    config_.threads = IntAt(root_, "threads");
    config_.plugins = StringsAt(root_, "plugins");
    for (const Member& member : root_.Find("models")->members) {
      config_.models[member.key] = {.path = StringAt(member.value, "path"),
                                    .chat_format = StringAt(member.value, "chat_format"),
                                    .adapter = StringAt(member.value, "adapter"),
                                    .storage = StringAt(member.value, "storage")};
    }
    for (const Member& member : root_.Find("data")->members) AddData(member);
    for (const Node& node : root_.Find("stages")->items) AddStage(node);
    json::Writer writer(2);
    root_.Write(writer, false);
    config_.resolved_json = writer.Take();
    return std::move(config_);
  }

 private:
  void Fail(const Where& where, const std::string& path, const std::string& rule) {
    errors_.push_back(where.Text() + ": " + path + ": " + rule);
  }

  void AddData(const Member& member) {
    const Node& node = member.value;
    const Node* source = node.Find("source");
    if ((source == nullptr) == (node.Find("path") == nullptr)) {
      Fail(node.where, "data." + member.key, "give \"path\" or \"source\", one of the two");
    }
    DataConfig data = {.path = StringAt(node, "path"),
                       .source = {},
                       .format = StringAt(node, "format"),
                       .map = {},
                       .limit = IntAt(node, "limit"),
                       .max_bad_lines = NumberAt(node, "max_bad_lines")};
    if (const Node* map = node.Find("map")) {
      for (const Member& rule : map->members) data.map.emplace_back(rule.key, rule.value.text);
    }
    if (source != nullptr) data.source = ReadUse(*source, "source");
    config_.data[member.key] = std::move(data);
  }

  static PluginUse ReadUse(const Node& node, const std::string& kind) {
    PluginUse use = {.plugin = WithoutKind(StringAt(node, "plugin"), kind),
                     .config = JsonAt(node, "config", "{}")};
    if (node.Find("isolate") != nullptr) use.isolate = BoolAt(node, "isolate");
    use.timeout_ms = IntAt(node, "timeout_ms");
    return use;
  }

  // "source/jsonl" where the place says that it is a source.
  static std::string WithoutKind(std::string id, const std::string& kind) {
    if (id.starts_with(kind + "/")) id.erase(0, kind.size() + 1);
    return id;
  }

  void AddStage(const Node& node) {
    StageConfig stage;
    stage.name = StringAt(node, "name");
    const std::string path = "stages." + stage.name;
    const Where& where = node.Find("name")->where;
    if (!IsStageName(stage.name)) {
      Fail(where, path, "a stage's name has letters, digits, '_' and '-', at most 64");
    }
    if (config_.FindStage(stage.name) != nullptr) {
      Fail(where, path, "there is an earlier stage of this name");
    }
    const std::string kind = StringAt(node, "kind");
    if (kind == "generate") ReadGenerate(node, path, &stage);
    if (kind == "filter") ReadFilter(node, path, &stage);
    if (kind == "sft") ReadSft(node, path, &stage);
    if (kind == "eval") ReadEval(node, path, &stage);
    for (const std::string& name : NamedData(stage)) {
      const auto& source = config_.data.at(name).source;
      if (source) NotePlugin("source", source->plugin, &stage);
    }
    stage.resolved = Canonical(node, stage);
    config_.stages.push_back(std::move(stage));
  }

  // What decides a stage's result, apart from the contents of files: hashed to see changes.
  std::string Canonical(const Node& node, const StageConfig& stage) const {
    json::Writer writer;
    writer.BeginObject().Key("stage");
    node.Write(writer, true);
    writer.Field("seed", config_.seed).Key("data").BeginObject();
    for (const std::string& name : NamedData(stage)) {
      Node data = *root_.Find("data")->Find(name);
      std::erase_if(data.members, [](const Member& m) { return m.key == "path"; });
      writer.Key(name);
      data.Write(writer, true);
    }
    writer.EndObject().Key("chat_formats").BeginObject();
    for (const auto& [name, model] : config_.models) writer.Field(name, model.chat_format);
    writer.EndObject().Key("storage").BeginObject();
    for (const auto& [name, storage] : NamedStorage(stage)) writer.Field(name, storage);
    writer.EndObject().EndObject();
    return writer.Take();
  }

  // Of the models whose weights the stage reads.
  static std::map<std::string, std::string> NamedStorage(const StageConfig& stage) {
    std::map<std::string, std::string> storage;
    for (const ModelRef* ref : {&stage.generate.model, &stage.sft.model}) {
      if (!ref->text.empty()) storage[ref->text] = ref->model.storage;
    }
    for (const ModelRef& ref : stage.eval.models) storage[ref.text] = ref.model.storage;
    return storage;
  }

  std::set<std::string> NamedData(const StageConfig& stage) const {
    std::set<std::string> names;
    const auto add = [&](const std::vector<DataRef>& refs) {
      for (const DataRef& ref : refs) {
        if (config_.data.count(ref.text) != 0) names.insert(ref.text);
      }
    };
    add(stage.generate.data);
    add(stage.filter.data);
    add(stage.sft.data);
    for (const EvalTask& task : stage.eval.tasks) add(task.data);
    return names;
  }

  static ChatOptions ReadChat(const Node& node) {
    const Node* chat = node.Find("chat");
    return {.enabled = BoolAt(*chat, "enabled"), .system = StringAt(*chat, "system")};
  }

  std::vector<std::pair<int32_t, double>> ReadLogitBias(const Node& sampling,
                                                        const std::string& path) {
    std::vector<std::pair<int32_t, double>> biases;
    for (const auto& [key, where, value] : sampling.Find("logit_bias")->members) {
      int32_t id = -1;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
      if (error != std::errc{} || end != key.data() + key.size() || id < 0) {
        Fail(value.where, path + "." + key, "keys are token ids: whole numbers from 0 on");
        continue;
      }
      double bias = 0;
      std::from_chars(value.text.data(), value.text.data() + value.text.size(), bias);
      biases.emplace_back(id, bias);
    }
    return biases;
  }

  static DecodingOptions ReadDecoding(const Node& node) {
    return {.max_batch = IntAt(node, "max_batch"),
            .kv_memory = IntAt(node, "kv_memory"),
            .prefill_chunk = IntAt(node, "prefill_chunk"),
            .kv_dtype = StringAt(node, "kv_dtype")};
  }

  SamplingOptions ReadSampling(const Node& node, const std::string& path) {
    const Node& s = *node.Find("sampling");
    SamplingOptions out = {.temperature = NumberAt(s, "temperature"),
                           .top_p = NumberAt(s, "top_p"),
                           .top_k = IntAt(s, "top_k"),
                           .max_tokens = IntAt(s, "max_tokens"),
                           .min_tokens = IntAt(s, "min_tokens"),
                           .min_p = NumberAt(s, "min_p"),
                           .repetition_penalty = NumberAt(s, "repetition_penalty"),
                           .presence_penalty = NumberAt(s, "presence_penalty"),
                           .frequency_penalty = NumberAt(s, "frequency_penalty"),
                           .logit_bias = ReadLogitBias(s, path + ".sampling.logit_bias"),
                           .stop = StringsAt(s, "stop")};
    if (out.min_tokens > out.max_tokens) {
      Fail(s.where, path + ".sampling", "min_tokens is above max_tokens");
    }
    return out;
  }

  ChainConfig ReadChain(const Node& node, const char* key, const std::string& path,
                        const std::string& kind, StageConfig* stage) {
    const Node& list = *node.Find(key);
    for (const Node& entry : list.items) {
      NotePlugin(kind, StringAt(entry, "plugin"), stage);
      if (const Node* rewards = entry.Find("rewards")) {
        for (const Node& reward : rewards->items) {
          NotePlugin("reward", StringAt(reward, "plugin"), stage);
        }
      }
    }
    return {.json = list.Dump(), .key_path = path + "." + key};
  }

  static void NotePlugin(const std::string& kind, std::string id, StageConfig* stage) {
    const std::pair<std::string, std::string> plugin = {kind, WithoutKind(std::move(id), kind)};
    auto& all = stage->plugins;
    if (std::find(all.begin(), all.end(), plugin) == all.end()) all.push_back(plugin);
  }

  void ReadGenerate(const Node& node, const std::string& path, StageConfig* stage) {
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

  // Who answers: a model or a generator plugin.
  void ReadAnswerer(const Node& node, const std::string& path, StageConfig* stage) {
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

  void ReadFilter(const Node& node, const std::string& path, StageConfig* stage) {
    stage->kind = StageKind::kFilter;
    FilterStage& f = stage->filter;
    f.data = references_.Data(*node.Find("data"), path + ".data", stage);
    f.limit = IntAt(node, "limit");
    f.filters = ReadChain(node, "filters", path, "filter", stage);
    if (const Node* tokenizer = node.Find("tokenizer")) {
      f.tokenizer = references_.Model(*tokenizer, path + ".tokenizer", stage);
    }
  }

  void ReadSft(const Node& node, const std::string& path, StageConfig* stage) {
    stage->kind = StageKind::kSft;
    SftStage& s = stage->sft;
    s.model = references_.Model(*node.Find("model"), path + ".model", stage);
    if (const Node* lora = node.Find("lora")) {
      s.lora = ReadLora(*lora);
      if (s.lora->targets.empty()) Fail(lora->where, path + ".lora.targets", "is an empty list");
    }
    CheckContinued(node, path, s);
    CheckTrainedStorage(node, path, s);
    s.data = references_.Data(*node.Find("data"), path + ".data", stage);
    s.limit = IntAt(node, "limit");
    s.chat = ReadChat(node);
    for (const Node& entry : node.Find("loss")->items) {
      NotePlugin("loss", StringAt(entry, "plugin"), stage);
      s.losses.push_back({.plugin = StringAt(entry, "plugin"),
                          .config = JsonAt(entry, "config", "{}"),
                          .weight = NumberAt(entry, "weight")});
    }
    s.max_length = IntAt(node, "max_length");
    s.truncation = StringAt(node, "truncation");
    s.packing = StringAt(node, "packing");
    s.packing_window = IntAt(node, "packing_window");
    s.train_on = StringAt(node, "train_on");
    s.shuffle = BoolAt(node, "shuffle");
    ReadTraining(node, path, stage);
  }

  // What is trained is f32; a narrower base needs an adapter beside it.
  void CheckTrainedStorage(const Node& node, const std::string& path, const SftStage& s) {
    const std::string& storage = s.model.model.storage;
    if (s.lora || storage == "auto" || storage == "f32") return;
    Fail(node.Find("model")->where, path + ".model",
         "'" + s.model.text + "' has storage " + storage +
             ", but this stage trains its weights, which are f32 then; add lora to train an " +
             "adapter beside the frozen model, or leave storage out");
  }

  // The result of a stage with `lora` is a base and an adapter: not one set of weights to train.
  void CheckContinued(const Node& node, const std::string& path, const SftStage& s) {
    const StageConfig* from = s.model.stage.empty() ? nullptr : config_.FindStage(s.model.stage);
    if (from == nullptr || !from->sft.lora || s.lora) return;
    Fail(node.Find("model")->where, path + ".model",
         "'@" + s.model.stage + "' gives an adapter beside a frozen model; add lora, with that " +
             "stage's r, alpha and targets, to train it further");
  }

  void ReadTraining(const Node& node, const std::string& path, StageConfig* stage) {
    SftStage& s = stage->sft;
    const Node& optimizer = *node.Find("optimizer");
    s.optimizer = StringAt(optimizer, "plugin");
    s.optimizer_config = JsonAt(optimizer, "config", "{}");
    NotePlugin("optimizer", s.optimizer, stage);
    ReadWeightDecay(node, path, &s);
    s.learning_rate = NumberAt(node, "learning_rate");
    s.max_grad_norm = NumberAt(node, "max_grad_norm");
    s.epochs = NumberAt(node, "epochs");
    s.max_steps = IntAt(node, "max_steps");
    if (s.max_steps == 0) Fail(node.Find("max_steps")->where, path + ".max_steps", "must not be 0");
    const Node& schedule = *node.Find("schedule");
    s.schedule = {.kind = StringAt(schedule, "kind"),
                  .warmup_ratio = NumberAt(schedule, "warmup_ratio"),
                  .min_lr_ratio = NumberAt(schedule, "min_lr_ratio"),
                  .warmup_steps = IntAt(schedule, "warmup_steps"),
                  .decay_steps = IntAt(schedule, "decay_steps"),
                  .decay_type = StringAt(schedule, "decay_type")};
    const Node* batch = node.Find("batch");
    if (batch != nullptr && node.Find("batch_tokens") != nullptr) {
      Fail(batch->where, path + ".batch", "give batch or batch_tokens, not both");
    }
    s.batch_tokens = IntAt(node, "batch_tokens", batch != nullptr ? 0 : 16384);
    if (batch != nullptr) {
      s.per_device = IntAt(*batch, "per_device");
      s.accumulation = IntAt(*batch, "accumulation");
    }
    s.micro_batch_tokens = IntAt(node, "micro_batch_tokens");
    s.recompute = IntAt(node, "recompute");
    s.on_nonfinite = StringAt(node, "on_nonfinite");
    s.logging_steps = IntAt(node, "logging_steps");
    s.save_steps = IntAt(node, "save_steps");
    s.save_total_limit = IntAt(node, "save_total_limit");
  }

  // The host tells optimizers the decay of each group of params, so it is taken out of the
  // plugin's config, where people look for it first.
  void ReadWeightDecay(const Node& node, const std::string& path, SftStage* s) {
    s->weight_decay = NumberAt(node, "weight_decay");
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

  void ReadEval(const Node& node, const std::string& path, StageConfig* stage) {
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
             "there is an earlier task named '" + task.name +
                 "'; give one of them another \"name\"");
      }
      stage->eval.tasks.push_back(std::move(task));
    }
  }

  EvalTask ReadTask(const Node& node, const std::string& path, StageConfig* stage) {
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

  const Node& root_;
  std::vector<std::string>& errors_;
  PipelineConfig config_;
  References references_;
};

}  // namespace

std::string_view StageKindName(StageKind kind) {
  switch (kind) {
    case StageKind::kGenerate: return "generate";
    case StageKind::kFilter: return "filter";
    case StageKind::kSft: return "sft";
    case StageKind::kEval: return "eval";
  }
  return "";
}

const StageConfig* PipelineConfig::FindStage(std::string_view stage_name) const {
  for (const StageConfig& stage : stages) {
    if (stage.name == stage_name) return &stage;
  }
  return nullptr;
}

Result<PipelineConfig> ParsePipeline(std::string_view text, const std::string& path,
                                     const Overrides& overrides) {
  const json::ParseOptions options = {.allow_comments = true};
  Result<json::Document> document = json::Document::Parse(text, path, options);
  if (!document.ok()) return InvalidArgument(document.status().message());
  Node root = FromJson(document->root(), path);
  if (root.type != json::Type::kObject) {
    return InvalidArgument(path + ": a pipeline file holds one object");
  }
  if (!overrides.profile.empty()) RETORT_RETURN_IF_ERROR(ApplyProfile(root, overrides.profile));
  for (const std::string& set : overrides.set) RETORT_RETURN_IF_ERROR(ApplySet(root, set));
  std::erase_if(root.members, [](const Member& member) { return member.key == "profiles"; });
  if (root.Find("output") == nullptr) {
    root.Set("output", MakeString("runs/${name}", root.where));
  }
  ValidateContext context = {.file_folder = io::Parent(path), .errors = {}};
  ExpandVariables(root, &context.errors);
  if (!context.errors.empty()) return ErrorList(context.errors);
  FillLoraDefaults(root);
  Validate(root, PipelineSpec(), "", &context);
  if (!context.errors.empty()) return ErrorList(context.errors);
  PipelineConfig config = Builder(root, context.file_folder, &context.errors).Build();
  if (!context.errors.empty()) return ErrorList(context.errors);
  config.file = path;
  return config;
}

Result<PipelineConfig> LoadPipeline(const std::string& path, const Overrides& overrides) {
  constexpr uint64_t kMaxBytes = uint64_t{1} << 20;
  Result<std::string> text = io::RealFileSystem().Read(path, kMaxBytes);
  if (!text.ok()) return InvalidArgument(text.status().message());
  return ParsePipeline(*text, path, overrides);
}

}  // namespace retort::host
