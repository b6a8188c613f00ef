// What every command and stage needs of the process: the plugins, models opened once, and the
// engine library, opened at first use. One per retort_context; not thread-safe.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/engine/engine.h"
#include "core/graph/graph.h"
#include "core/graph/lora.h"
#include "core/model/blueprint.h"
#include "core/model/peft.h"
#include "core/model/source.h"
#include "core/text/chat.h"
#include "core/text/tokenizer.h"
#include "host/plugin/registry.h"
#include "host/worker/worker.h"

namespace retort::host {

// The adapter of a model that is a base and a PEFT folder.
struct OpenedAdapter {
  std::string folder = {};
  model::PeftConfig config;
  std::string base = {};  // path of the model that it stands beside
};

// A model as opened for anything that needs no weights.
struct OpenedModel {
  std::string path;                      // as given
  std::optional<OpenedAdapter> adapter;  // the rest is the base's
  // Of the weights that LoadModel gives for it: what ScoreRequest and GenerateOptions take.
  int32_t adapter_index() const { return adapter ? 0 : -1; }
  const std::string& base_path() const { return adapter ? adapter->base : path; }
  std::unique_ptr<model::Source> source;
  std::unique_ptr<text::Tokenizer> tokenizer;  // NULL: the model has none
  std::optional<text::ChatFormat> chat;        // absent: no template, or an unknown one …
  Status chat_status;                          // … and why; asked for by whoever needs it
  std::filesystem::file_time_type written;     // of the file or folder when it was opened
  std::vector<int32_t> stop_ids;  // generation_config's and the tokenizer's eos, turn end
};

// Which heads a model gets: those that its folder has, a value head beside them (PPO), or the value
// head instead of the LM head (a reward model). One that the folder lacks starts by its init rule.
enum class Heads { kAsSaved, kValueToo, kValueOnly };

// An adapter to be loaded into a model beside others: from its folder, or freshly initialised ("").
struct AdapterUse {
  graph::LoraSpec spec;
  std::string folder = {};
  Heads heads = Heads::kAsSaved;  // that come with it; kAsSaved: none
};
// As the folder has it.
AdapterUse UseOf(const OpenedAdapter& adapter);

struct SessionOptions {
  std::string plugin_dir;   // of the built-ins; "": RETORT_PLUGIN_DIR, else beside libretort
  std::string engine_path;  // "": RETORT_ENGINE, else libretort_engine.so beside libretort
  std::string worker_path;  // "": RETORT_WORKER, else retort-worker (see docs)
  int32_t n_threads = 0;
  LoadPolicy policy;
  std::string host_name, host_version;  // what plugins see; "": retort's own
};

// Where a plugin of a chain entry runs.
struct Placement {
  std::optional<bool> isolate;  // unset: in a worker unless the plugin is built in (or linked in)
  int64_t timeout_ms = 60'000;  // of one call; counts in a worker only
};

class Session {
 public:
  explicit Session(SessionOptions options);
  ~Session();

  PluginRegistry& plugins() { return plugins_; }
  // Threads that work may use: of the options, else as preferred, else all cores of the process.
  int32_t n_threads() const;
  // A pipeline's "threads": counts if the options name none and before the engine is opened.
  void PreferThreads(int32_t n_threads);
  // Loads the built-ins and RETORT_PLUGIN_PATH once.
  Status EnsurePlugins();
  // An instance here or in a worker. Kinds that can't be isolated ignore an unset `isolate` and
  // refuse true; without retort-worker, isolation is refused with a text that says so.
  Result<PluginInstance> CreatePlugin(std::string_view kind, std::string_view id,
                                      std::string_view config_json, retort_key key,
                                      const Placement& placement);
  // Where CreatePlugin would put it: true in a worker.
  static bool Isolates(const PluginInfo& info, const Placement& placement);
  // Opens libretort_engine at first use; the error names the file and dlerror()'s text.
  Result<engine::Engine*> Engine();
  // Where retort-worker and libretort_engine are looked for, absolute; they may not be there.
  std::string WorkerPath() const;
  std::string EnginePath() const;
  // Cached by its arguments until a path is written anew (what was handed out stays valid);
  // `chat_format` "" or "auto": by template. `path` may be a PEFT folder, which names its base;
  // or `adapter` is one, and `path` its base, whatever it names.
  Result<OpenedModel*> OpenModel(const std::string& path, const std::string& chat_format = "",
                                 const std::string& adapter = "");
  // A model of the pipeline's own that has no weights yet; `name` stands where others have a path.
  Result<OpenedModel*> OpenModel(const model::Blueprint& blueprint, const std::string& name,
                                 const std::string& chat_format);
  // The graph by the best-matching family plugin, with the heads that the source has.
  Result<graph::Graph> BuildGraph(const model::Source& source, Heads heads = Heads::kAsSaved);
  Result<graph::Graph> BuildGraph(const std::string& config_json);
  // With these adapters, in this order, and the heads that they bring, unless others are asked for.
  // A value head that isn't the base's belongs to the adapter.
  Result<graph::Graph> BuildGraph(const model::Source& source, std::span<const AdapterUse> adapters,
                                  Heads heads);
  // Graph and weights; without options: all f32.
  Result<std::unique_ptr<engine::Model>> LoadModel(const OpenedModel& opened,
                                                   const engine::LoadOptions& options = {});
  // Likewise to generate or score with, in a storage by name ("auto").
  Result<std::unique_ptr<engine::Model>> LoadModel(const OpenedModel& opened,
                                                   std::string_view storage);
  // With these adapters, in this order, instead of the one that was opened.
  Result<std::unique_ptr<engine::Model>> LoadModel(const OpenedModel& opened,
                                                   engine::LoadOptions options,
                                                   std::span<const AdapterUse> adapters,
                                                   Heads heads = Heads::kAsSaved);

 private:
  // The tokenizer, the chat format and the stop ids of a model with a source; keeps it.
  Result<OpenedModel*> Keep(const std::string& key, const std::string& chat_format,
                            std::unique_ptr<OpenedModel> model);
  WorkerOptions Worker() const;
  // Nothing, if `path` is a model of its own.
  static Result<std::optional<OpenedAdapter>> OpenAdapter(const std::string& path,
                                                          const std::string& adapter);
  static std::filesystem::file_time_type WrittenAt(const std::string& path,
                                                   const std::optional<OpenedAdapter>& adapter);

  SessionOptions options_;
  PluginRegistry plugins_;
  bool plugins_loaded_ = false;
  std::unique_ptr<engine::Engine> engine_;
  std::map<std::string, std::unique_ptr<OpenedModel>> models_;
  std::vector<std::unique_ptr<OpenedModel>> retired_;  // replaced on disk; callers may hold them
};

}  // namespace retort::host
