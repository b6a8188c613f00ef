// SPDX-License-Identifier: Apache-2.0
#include "host/session/session.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "core/base/features.h"
#include "core/base/plugin_call.h"
#include "core/base/threads.h"
#include "core/graph/value_head.h"
#include "core/io/filesystem.h"
#include "core/model/tokenizer.h"
#include "host/session/op_factory.h"
#include "host/session/paths.h"
#include "retort/abi/draft/family.h"

namespace retort::host {
namespace {

// Seen from libretort's folder, in the build and when installed.
constexpr const char* kEngineFile = "libretort_engine.so";
constexpr const char* kWorkerFile = "../libexec/retort/retort-worker";

// Files, and folders of them, separated by colons.
Status LoadPluginPath(const std::string& list, PluginRegistry& plugins) {
  size_t begin = 0;
  while (begin <= list.size()) {
    const size_t end = std::min(list.find(':', begin), list.size());
    const std::string path = list.substr(begin, end - begin);
    begin = end + 1;
    if (path.empty()) continue;
    io::FileSystem& fs = io::RealFileSystem();
    if (!fs.IsFolder(path)) {
      RETORT_RETURN_IF_ERROR(plugins.LoadFile(path).WithContext("RETORT_PLUGIN_PATH"));
      continue;
    }
    RETORT_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(path));
    for (const std::string& name : names) {
      if (!name.ends_with(".so")) continue;
      RETORT_RETURN_IF_ERROR(
          plugins.LoadFile(io::Join(path, name)).WithContext("RETORT_PLUGIN_PATH"));
    }
  }
  return OkStatus();
}

// RETORT_DISABLE is for measuring: a name that means nothing would measure nothing.
Status CheckDisabled() {
  const std::string unknown = UnknownDisabled();
  if (unknown.empty()) return OkStatus();
  std::string known;
  for (const std::string& name : FeatureNames()) known += (known.empty() ? "" : ", ") + name;
  const auto near = json::Nearest(unknown, FeatureNames());
  return InvalidArgument("RETORT_DISABLE names \"" + unknown +
                         "\", which is no technique that can " + "be left out" +
                         (near ? "; did you mean \"" + *near + "\"?" : "") +
                         " (there are: " + known + ", separated by commas)");
}

// Every id that ends a completion: what generation_config and config say, the tokenizer's eos and
// the end of a turn.
Result<std::vector<int32_t>> StopIds(const OpenedModel& model) {
  std::vector<int32_t> ids;
  const auto add = [&ids](int64_t id) {
    if (id < 0 || id > INT32_MAX) return;
    const auto value = static_cast<int32_t>(id);
    if (std::find(ids.begin(), ids.end(), value) == ids.end()) ids.push_back(value);
  };
  const auto add_all = [&add](const json::Value& value) {
    if (value.is_number()) add(value.IntOr(-1));
    for (size_t i = 0; value.is_array() && i < value.size(); ++i) add(value[i].IntOr(-1));
  };
  const std::string& generation = model.source->generation_config_json();
  if (!generation.empty()) {
    RETORT_ASSIGN_OR_RETURN(
        const json::Document document,
        json::Document::Parse(generation, model.path + ": generation_config.json"));
    add_all(document.root()["eos_token_id"]);
  }
  add_all(model.source->config().root()["eos_token_id"]);
  if (model.tokenizer != nullptr) {
    add(model.tokenizer->eos_id());
    if (model.chat.has_value()) {
      if (const auto id = model.tokenizer->TokenToId(model.chat->turn_end())) add(*id);
    }
  }
  return ids;
}

std::string_view TokenText(const text::Tokenizer& tokenizer, int32_t id) {
  return id < 0 ? std::string_view() : tokenizer.IdToToken(id);
}

void AddChat(const std::string& format, OpenedModel& model) {
  const bool by_template = format.empty() || format == "auto";
  if (model.tokenizer == nullptr) {
    model.chat_status = FailedPrecondition("model " + model.path + " has no tokenizer");
    return;
  }
  if (by_template && model.source->chat_template().empty()) {
    model.chat_status = FailedPrecondition("model " + model.path +
                                           " has no chat template; name a format as chat.format");
    return;
  }
  Result<text::ChatFormat> chat =
      text::ChatFormat::Create(by_template ? "auto" : format, model.source->chat_template(),
                               TokenText(*model.tokenizer, model.tokenizer->bos_id()),
                               TokenText(*model.tokenizer, model.tokenizer->eos_id()));
  if (chat.ok()) {
    model.chat = std::move(chat).value();
  } else {
    model.chat_status = chat.status().WithContext("model " + model.path);
  }
}

// A family plugin that understands a config, and how well.
struct Match {
  PluginInstance instance;
  const retort_family_v1* table = nullptr;
  int32_t score = 0;
};

// On equal scores the plugin that the user brought wins over a built-in one.
bool IsBetter(const Match& a, const Match& b) {
  if (a.score != b.score) return a.score > b.score;
  return a.score > 0 && !a.instance.info().builtin && b.instance.info().builtin;
}

Result<Match> TryFamily(const PluginRegistry& plugins, const PluginInfo& info,
                        const std::string& config_json) {
  Match match;
  RETORT_ASSIGN_OR_RETURN(match.instance, plugins.Create("family", info.id, "", retort_key{}));
  match.table =
      static_cast<const retort_family_v1*>(match.instance.interface(RETORT_FAMILY_INTERFACE));
  if (match.table == nullptr) {
    return FailedPrecondition("plugin family/" + info.id + " has no " RETORT_FAMILY_INTERFACE);
  }
  PluginCall call("family " + info.id);
  RETORT_RETURN_IF_ERROR(call.End(
      match.table->match(match.instance.get(), call.Begin(), ToStr(config_json), &match.score),
      "look at config.json"));
  return match;
}

std::string ModelType(const std::string& config_json) {
  const Result<json::Document> config = json::Document::Parse(config_json, "config.json");
  return config.ok() ? std::string(config->root()["model_type"].StringOr("")) : "";
}

std::string PluginFolder(const SessionOptions& options) {
  std::string dir = options.plugin_dir;
  if (dir.empty()) dir = TrustedEnv("RETORT_PLUGIN_DIR");
  return dir.empty() ? io::Join(LibraryFolder(), "retort/plugins") : dir;
}

// Neither loaded nor still to be loaded is anything else.
bool HasBuiltinsOnly(const PluginRegistry& plugins) {
  const std::vector<const PluginInfo*> list = plugins.List();
  return TrustedEnv("RETORT_PLUGIN_PATH").empty() &&
         std::all_of(list.begin(), list.end(), [](const PluginInfo* p) { return p->builtin; });
}

bool IsPlainName(const std::string& text) {
  constexpr const char* kPlain = "abcdefghijklmnopqrstuvwxyz0123456789_";
  return !text.empty() && text.find_first_not_of(kPlain) == text.npos;
}

// The built-in that bears the name of the model's type, if it is wholly sure: then no other can be
// surer, and opening all of them is spared. Else an empty match.
Result<Match> NamedFamily(PluginRegistry& plugins, const std::string& folder,
                          const std::string& config_json) {
  constexpr int32_t kSure = 100;  // the ABI's greatest score
  const std::string id = ModelType(config_json);
  const std::string file = io::Join(folder, "libretort_family_" + id + ".so");
  if (!IsPlainName(id) || !io::RealFileSystem().Stat(file).ok()) return Match();
  RETORT_RETURN_IF_ERROR(plugins.LoadBuiltins(file));
  const Result<const PluginInfo*> info = plugins.Find("family", id);
  if (!info.ok()) return Match();
  RETORT_ASSIGN_OR_RETURN(Match match, TryFamily(plugins, **info, config_json));
  return match.score == kSure ? std::move(match) : Match();
}

Result<Match> BestFamily(const PluginRegistry& plugins, const std::string& config_json,
                         std::string* families) {
  Match best;
  for (const PluginInfo* info : plugins.List()) {
    if (info->kind != "family") continue;
    *families += (families->empty() ? "" : ", ") + info->id;
    RETORT_ASSIGN_OR_RETURN(Match match, TryFamily(plugins, *info, config_json));
    if (IsBetter(match, best)) best = std::move(match);
  }
  return best;
}

// transformers' ...ForSequenceClassification with one label.
bool IsRewardModel(const model::Source& source) {
  const std::string_view name = source.config().root()["architectures"][0].StringOr("");
  return source.Find(graph::kValueHeadName) != nullptr &&
         name.ends_with("ForSequenceClassification");
}

Status SetHeads(const model::Source& source, Heads heads, graph::Graph& graph) {
  if (heads == Heads::kAsSaved && source.Find(graph::kValueHeadName) == nullptr) return OkStatus();
  const double range = source.config().root()["initializer_range"].DoubleOr(graph::kValueHeadInit);
  RETORT_RETURN_IF_ERROR(graph::AddValueHead(graph, range));
  const bool is_reward_model = IsRewardModel(source);
  if (heads == Heads::kValueToo && is_reward_model) {
    return FailedPrecondition("it is a reward model, without the LM head that a policy needs");
  }
  if (heads == Heads::kValueOnly || is_reward_model) graph::DropLmHead(graph);
  return OkStatus();
}

Status UnknownArchitecture(const std::string& config_json, const std::string& families) {
  const std::string type = ModelType(config_json);
  return FailedPrecondition(
      (type.empty() ? "config.json has no model_type, and no family plugin knows the model"
                    : "no family plugin knows model_type \"" + type + "\"") +
      "; there are: " + (families.empty() ? "none" : families) +
      ". Load one with --plugin or the pipeline's \"plugins\"");
}

}  // namespace

Session::Session(SessionOptions options) : options_(std::move(options)) {
  plugins_.SetPolicy(options_.policy);
  plugins_.SetHost(options_.host_name, options_.host_version);
  // Without the program, libraries are opened here to see what they hold.
  if (access(WorkerPath().c_str(), X_OK) != 0) return;
  plugins_.SetDescriber(
      [options = Worker()](const std::string& path) { return DescribeInWorker(path, options); });
}
Session::~Session() = default;

int32_t Session::n_threads() const { return ResolveThreads(options_.n_threads); }

void Session::PreferThreads(int32_t n_threads) {
  if (options_.n_threads == 0 && engine_ == nullptr) options_.n_threads = n_threads;
}

Status Session::EnsurePlugins() {
  if (plugins_loaded_) return OkStatus();
  RETORT_RETURN_IF_ERROR(CheckDisabled());
  RETORT_RETURN_IF_ERROR(plugins_.LoadBuiltins(PluginFolder(options_)));
  RETORT_RETURN_IF_ERROR(LoadPluginPath(TrustedEnv("RETORT_PLUGIN_PATH"), plugins_));
  plugins_loaded_ = true;
  return OkStatus();
}

Result<PluginInstance> Session::CreatePlugin(std::string_view kind, std::string_view id,
                                             std::string_view config_json, retort_key key,
                                             const Placement& placement) {
  RETORT_ASSIGN_OR_RETURN(const PluginInfo* info, plugins_.Find(kind, id));
  if (!Isolates(*info, placement)) return plugins_.Create(kind, id, config_json, key);
  WorkerOptions options = Worker();
  options.timeout_ms = placement.timeout_ms;
  return CreateIsolated(plugins_, kind, id, config_json, key, options);
}

bool Session::Isolates(const PluginInfo& info, const Placement& placement) {
  // A library that is linked into the program has no path that a worker could open.
  const bool is_foreign = !info.builtin && info.path.starts_with('/');
  return placement.isolate.value_or(CanIsolate(info.kind) && is_foreign);
}

WorkerOptions Session::Worker() const {
  WorkerOptions options;
  options.program = WorkerPath();
  options.host_name = options_.host_name;
  options.host_version = options_.host_version;
  return options;
}

std::string Session::WorkerPath() const {
  std::string path = options_.worker_path;
  if (path.empty()) path = TrustedEnv("RETORT_WORKER");
  if (path.empty()) path = io::Join(LibraryFolder(), kWorkerFile);
  return io::Absolute(path);
}

std::string Session::EnginePath() const {
  std::string path = options_.engine_path;
  if (path.empty()) path = TrustedEnv("RETORT_ENGINE");
  if (path.empty()) path = io::Join(LibraryFolder(), kEngineFile);
  return io::Absolute(path);
}

Result<engine::Engine*> Session::Engine() {
  if (engine_ != nullptr) return engine_.get();
  const std::string path = EnginePath();  // absolute: never looked up in the system's folders
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return FailedPrecondition("cannot open the engine " + path + ": " + dlerror() +
                              ". It belongs beside libretort and needs LibTorch (`make setup`)");
  }
  const auto create =
      reinterpret_cast<engine::CreateEngineFn>(dlsym(library, engine::kCreateEngineSymbol));
  if (create == nullptr) {
    return FailedPrecondition(path + " is no engine of this version: it lacks " +
                              engine::kCreateEngineSymbol);
  }
  const engine::EngineOptions options{.n_threads = n_threads()};
  engine_.reset(create(&options));
  if (engine_ == nullptr) return Internal("the engine " + path + " could not start");
  return engine_.get();
}

Result<OpenedModel*> Session::OpenModel(const std::string& path, const std::string& chat_format,
                                        const std::string& adapter) {
  const std::string key = path + '\0' + adapter + '\0' + (chat_format == "auto" ? "" : chat_format);
  RETORT_ASSIGN_OR_RETURN(std::optional<OpenedAdapter> with, OpenAdapter(path, adapter));
  const auto written = WrittenAt(path, with);
  if (const auto found = models_.find(key); found != models_.end()) {
    if (found->second->written == written) return found->second.get();
    retired_.push_back(std::move(found->second));
    models_.erase(found);
  }
  auto model = std::make_unique<OpenedModel>();
  model->path = path;
  model->written = written;
  model->adapter = std::move(with);
  RETORT_ASSIGN_OR_RETURN(model->source, model::Source::Open(model->base_path()));
  return Keep(key, chat_format, std::move(model));
}

Result<OpenedModel*> Session::OpenModel(const model::Blueprint& blueprint, const std::string& name,
                                        const std::string& chat_format) {
  auto model = std::make_unique<OpenedModel>();
  model->path = name;
  RETORT_ASSIGN_OR_RETURN(model->source, model::OpenBlueprint(blueprint, name));
  RETORT_ASSIGN_OR_RETURN(const std::string fingerprint, model->source->Fingerprint());
  const std::string key = name + '\0' + fingerprint + '\0' + chat_format;
  if (const auto found = models_.find(key); found != models_.end()) return found->second.get();
  return Keep(key, chat_format, std::move(model));
}

Result<OpenedModel*> Session::Keep(const std::string& key, const std::string& chat_format,
                                   std::unique_ptr<OpenedModel> model) {
  RETORT_ASSIGN_OR_RETURN(model->tokenizer, model::OpenTokenizer(*model->source));
  AddChat(chat_format, *model);
  RETORT_ASSIGN_OR_RETURN(model->stop_ids, StopIds(*model));
  return models_.emplace(key, std::move(model)).first->second.get();
}

Result<graph::Graph> Session::BuildGraph(const model::Source& source, Heads heads) {
  Result<graph::Graph> graph = BuildGraph(source.config_text());
  if (!graph.ok()) return graph.status().WithContext("model " + source.path());
  RETORT_RETURN_IF_ERROR(SetHeads(source, heads, *graph).WithContext("model " + source.path()));
  return graph;
}

Result<graph::Graph> Session::BuildGraph(const std::string& config_json) {
  RETORT_RETURN_IF_ERROR(CheckDisabled());
  Match best;
  if (!plugins_loaded_ && HasBuiltinsOnly(plugins_)) {
    RETORT_ASSIGN_OR_RETURN(best, NamedFamily(plugins_, PluginFolder(options_), config_json));
  }
  if (best.score <= 0) {
    RETORT_RETURN_IF_ERROR(EnsurePlugins());
    std::string families;
    RETORT_ASSIGN_OR_RETURN(best, BestFamily(plugins_, config_json, &families));
    if (best.score <= 0) return UnknownArchitecture(config_json, families);
  }
  const std::string& id = best.instance.info().id;
  graph::Builder builder(
      id,
      [this, make = MakeOpFactory(plugins_)](const std::string& op, const std::string& attributes)
          -> Result<std::unique_ptr<graph::OpHandle>> {
        RETORT_RETURN_IF_ERROR(EnsurePlugins());
        return make(op, attributes);
      });
  PluginCall call("family " + id);
  const Status built = call.End(
      best.table->build(best.instance.get(), call.Begin(), ToStr(config_json), builder.table()),
      "build the graph");
  if (!built.ok()) return built;
  return builder.Finish();
}

Result<std::unique_ptr<engine::Model>> Session::LoadModel(const OpenedModel& opened,
                                                          std::string_view storage) {
  engine::LoadOptions options;
  RETORT_ASSIGN_OR_RETURN(options.storage, model::ParseStorage(storage));
  return LoadModel(opened, options);
}

}  // namespace retort::host
