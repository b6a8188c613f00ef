// What every command and stage needs of the process: the plugins, models opened once, and the
// engine library, opened at first use. One per retort_context; not thread-safe.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/engine/engine.h"
#include "core/graph/graph.h"
#include "core/model/source.h"
#include "core/text/chat.h"
#include "core/text/tokenizer.h"
#include "host/plugin/registry.h"
#include "host/worker/worker.h"

namespace retort::host {

// A model as opened for anything that needs no weights.
struct OpenedModel {
  std::string path;  // as given
  std::unique_ptr<model::Source> source;
  std::unique_ptr<text::Tokenizer> tokenizer;  // NULL: the model has none
  std::optional<text::ChatFormat> chat;        // absent: no template, or an unknown one …
  Status chat_status;                          // … and why; asked for by whoever needs it
  std::filesystem::file_time_type written;     // of the file or folder when it was opened
  std::vector<int32_t> stop_ids;  // generation_config's and the tokenizer's eos, turn end
};

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
  // Cached by (path, chat_format) until the path is written anew (what was handed out stays valid);
  // `chat_format` "" or "auto": by template.
  Result<OpenedModel*> OpenModel(const std::string& path, const std::string& chat_format = "");
  // The graph by the best-matching family plugin.
  Result<graph::Graph> BuildGraph(const model::Source& source);
  Result<graph::Graph> BuildGraph(const std::string& config_json);
  // Graph and weights.
  Result<std::unique_ptr<engine::Model>> LoadModel(const OpenedModel& opened);

 private:
  WorkerOptions Worker() const;

  SessionOptions options_;
  PluginRegistry plugins_;
  bool plugins_loaded_ = false;
  std::unique_ptr<engine::Engine> engine_;
  std::map<std::string, std::unique_ptr<OpenedModel>> models_;
  std::vector<std::unique_ptr<OpenedModel>> retired_;  // replaced on disk; callers may hold them
};

}  // namespace retort::host
