// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/config/config.h"

#include <algorithm>
#include <set>
#include <utility>

#include "core/base/hash.h"
#include "core/io/filesystem.h"
#include "core/json/json.h"
#include "host/pipeline/config/builder.h"
#include "host/pipeline/config/lora.h"
#include "host/pipeline/config/overrides.h"
#include "host/pipeline/config/read.h"
#include "host/pipeline/config/references.h"
#include "host/pipeline/config/repeat.h"
#include "host/pipeline/config/schema.h"
#include "host/pipeline/config/schema_eval.h"
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

}  // namespace

PipelineConfig ConfigBuilder::Build() {
  config_.name = StringAt(root_, "name");
  config_.output = StringAt(root_, "output");
  config_.device = StringAt(root_, "device");
  config_.seed = static_cast<uint64_t>(IntAt(root_, "seed"));
  config_.threads = IntAt(root_, "threads");
  config_.plugins = StringsAt(root_, "plugins");
  for (const Member& member : root_.Find("models")->members) AddModel(member);
  for (const Member& member : root_.Find("data")->members) AddData(member);
  for (const Node& node : root_.Find("stages")->items) AddStage(node);
  json::Writer writer(2);
  root_.Write(writer, false);
  config_.resolved_json = writer.Take();
  return std::move(config_);
}

void ConfigBuilder::Fail(const Where& where, const std::string& path, const std::string& rule) {
  errors_.push_back(where.Text() + ": " + path + ": " + rule);
}

void ConfigBuilder::AddModel(const Member& member) {
  const Node& node = member.value;
  const std::string place = "models." + member.key;
  ModelConfig model = {.path = StringAt(node, "path"),
                       .blueprint = {},
                       .chat_format = StringAt(node, "chat_format"),
                       .adapter = StringAt(node, "adapter"),
                       .storage = StringAt(node, "storage")};
  const bool is_new = node.Find("config") != nullptr;
  if (is_new == (node.Find("path") != nullptr)) {
    Fail(node.where, place,
         "give \"path\", or \"config\" and \"tokenizer\" of a model from nothing");
  } else if (is_new) {
    if (node.Find("tokenizer") == nullptr) {
      Fail(node.where, place, "a model from nothing needs a \"tokenizer\": a folder or its file");
    }
    if (!model.adapter.empty()) {
      Fail(node.where, place + ".adapter", "stands beside weights; a model from nothing has none");
    }
    model.path = place;
    model.blueprint = {.config = JsonAt(node, "config", "{}"),
                       .tokenizer = StringAt(node, "tokenizer"),
                       .init_seed = XxHash64(member.key, config_.seed)};
    if (node.Find("init_seed") != nullptr) {
      model.blueprint->init_seed = static_cast<uint64_t>(IntAt(node, "init_seed"));
    }
  } else {
    for (const char* key : {"tokenizer", "init_seed"}) {
      if (node.Find(key) == nullptr) continue;
      Fail(node.where, place + "." + key, "is for a model from nothing, which has a \"config\"");
    }
  }
  config_.models[member.key] = std::move(model);
}

void ConfigBuilder::AddData(const Member& member) {
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

void ConfigBuilder::AddStage(const Node& node) {
  StageConfig stage;
  stage.name = StringAt(node, "name");
  const std::string path = "stages." + stage.name;
  const std::string kind = StringAt(node, "kind");
  if (kind == "generate") ReadGenerate(node, path, &stage);
  if (kind == "filter") ReadFilter(node, path, &stage);
  if (kind == "sft") ReadSft(node, path, &stage);
  if (kind == "reward_model") ReadRewardModel(node, path, &stage);
  if (kind == "distill") ReadDistill(node, path, &stage);
  if (kind == "grpo") ReadGrpo(node, path, &stage);
  if (kind == "eval") ReadEval(node, path, &stage);
  for (const std::string& name : NamedData(stage)) {
    const auto& source = config_.data.at(name).source;
    if (source) NotePlugin("source", source->plugin, &stage);
  }
  stage.resolved = Canonical(node, stage);
  config_.stages.push_back(std::move(stage));
}

std::string ConfigBuilder::Canonical(const Node& node, const StageConfig& stage) const {
  json::Writer writer;
  writer.BeginObject().Key("stage");
  Node without_places = node;  // where a cache lies changes nothing
  std::erase_if(without_places.members, [](const Member& m) { return m.key == "teacher_cache"; });
  without_places.Write(writer, true);
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

std::map<std::string, std::string> ConfigBuilder::NamedStorage(const StageConfig& stage) {
  std::map<std::string, std::string> storage;
  for (const auto& refs : {stage.Models(), stage.RewardModels()}) {
    for (const ModelRef* ref : refs) storage[ref->text] = ref->model.storage;
  }
  return storage;
}

std::set<std::string> ConfigBuilder::NamedData(const StageConfig& stage) const {
  std::set<std::string> names;
  for (const std::vector<DataRef>* refs : stage.DataLists()) {
    for (const DataRef& ref : *refs) {
      if (config_.data.count(ref.text) != 0) names.insert(ref.text);
    }
  }
  return names;
}

std::string_view StageKindName(StageKind kind) {
  switch (kind) {
    case StageKind::kGenerate: return "generate";
    case StageKind::kFilter: return "filter";
    case StageKind::kSft: return "sft";
    case StageKind::kDistill: return "distill";
    case StageKind::kRewardModel: return "reward_model";
    case StageKind::kGrpo: return "grpo";
    case StageKind::kEval: return "eval";
  }
  return "";
}

TrainingConfig* StageConfig::training() {
  const bool from_examples =
      kind == StageKind::kSft || kind == StageKind::kDistill || kind == StageKind::kRewardModel;
  if (from_examples) return &sft;
  return kind == StageKind::kGrpo ? &grpo : nullptr;
}

const TrainingConfig* StageConfig::training() const {
  return const_cast<StageConfig*>(this)->training();  // which changes nothing
}

std::vector<const ModelRef*> StageConfig::Models() const {
  std::vector<const ModelRef*> models;
  if (const TrainingConfig* train = training()) models.push_back(&train->model);
  if (kind == StageKind::kDistill) models.push_back(&distill.teacher);
  if (grpo.reference) models.push_back(&*grpo.reference);
  if (kind == StageKind::kGenerate && !generate.generator) models.push_back(&generate.model);
  for (const ModelRef& model : eval.models) models.push_back(&model);
  return models;
}

std::vector<const ModelRef*> StageConfig::RewardModels() const {
  std::vector<const ChainConfig*> chains = {&filter.filters, &grpo.rewards};
  for (const EvalTask& task : eval.tasks) chains.push_back(&task.rewards);
  const TrainingConfig* train = training();
  if (train != nullptr && train->evaluation.task) {
    chains.push_back(&train->evaluation.task->rewards);
  }
  std::vector<const ModelRef*> models;
  for (const ChainConfig* chain : chains) {
    for (const auto& [text, ref] : chain->models) models.push_back(&ref);
  }
  return models;
}

std::vector<const std::vector<DataRef>*> StageConfig::DataLists() const {
  std::vector<const std::vector<DataRef>*> lists = {&generate.data, &filter.data, &sft.data,
                                                    &grpo.data};
  if (grpo.cold_start) lists.push_back(&grpo.cold_start->data);
  for (const EvalTask& task : eval.tasks) lists.push_back(&task.data);
  if (const TrainingConfig* train = training()) {
    lists.push_back(&train->evaluation.data);
    if (train->evaluation.task) lists.push_back(&train->evaluation.task->data);
  }
  return lists;
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
  const std::vector<std::string> repeats = ExpandRepeats(root, &context);
  if (!context.errors.empty()) return ErrorList(context.errors);
  const auto failed = [&] { return ErrorList(WithoutLaterRounds(context.errors, repeats)); };
  FillLoraDefaults(root);
  FillEvalDefaults(root);
  Validate(root, PipelineSpec(), "", &context);
  if (!context.errors.empty()) return failed();
  PipelineConfig config = ConfigBuilder(root, context.file_folder, &context.errors).Build();
  if (!context.errors.empty()) return failed();
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
