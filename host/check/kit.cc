// SPDX-License-Identifier: Apache-2.0
#include "host/check/kit.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "core/io/filesystem.h"
#include "core/json/json.h"
#include "core/json/schema.h"
#include "host/check/run.h"
#include "host/check/tables.h"
#include "host/check/texts.h"

namespace retort::host::check {
namespace {

constexpr const char* kLoadRule = "library.load";
constexpr const char* kCreateRule = "instance.create";
constexpr size_t kRequestBytesMax = 120'000;  // one argument of a program: 128 KiB on Linux
// So many rules of a plugin may run out of time before the rest is left out.
constexpr int kTimeoutsMax = 3;

struct Listed {
  std::string kind, id, schema, config;
  std::string name() const { return kind + "/" + id; }
};

// One rule to run.
struct Task {
  const Rule* rule = nullptr;
  const Listed* plugin = nullptr;  // NULL: the library
};

class Kit {
 public:
  Kit(const KitOptions& options, std::string path) : options_(options) {
    report_.file = std::move(path);
    report_.seed = options.seed;
    report_.timeout_ms = options.timeout_ms;
    settings_ = {.worker_path = options.worker_path,
                 .timeout_ms = options.timeout_ms,
                 .n_parallel = 2,
                 .cancelled = options.cancelled,
                 .on_done = {}};
  }

  Result<KitReport> Run() {
    RETORT_RETURN_IF_ERROR(CheckOnly());
    RETORT_ASSIGN_OR_RETURN(const std::string failure, List());
    RETORT_RETURN_IF_ERROR(SelectPlugins());
    total_ = CountRules();
    if (!failure.empty()) {
      RETORT_RETURN_IF_ERROR(CheckUnloadable(failure));
      return std::move(report_);
    }
    std::vector<Task> tasks;
    for (const Rule* rule : RulesOfLibrary()) AddTask(rule, nullptr, &tasks);
    RETORT_RETURN_IF_ERROR(RunTasks(tasks));
    for (const Listed& plugin : plugins_) RETORT_RETURN_IF_ERROR(CheckPlugin(plugin));
    if (report_.rows.empty()) {
      return NotFound("none of the rules that were asked for is about a plugin of this library");
    }
    return std::move(report_);
  }

 private:
  bool Wanted(const Rule& rule) const {
    return options_.only.empty() ||
           std::any_of(options_.only.begin(), options_.only.end(), [&](const std::string& start) {
             return std::string_view(rule.id).starts_with(start);
           });
  }

  Status CheckOnly() const {
    std::vector<std::string> known;
    for (const Rule* rule : AllRules()) known.emplace_back(rule->id);
    for (const std::string& start : options_.only) {
      if (std::any_of(known.begin(), known.end(),
                      [&](const std::string& id) { return id.starts_with(start); })) {
        continue;
      }
      const auto nearest = json::Nearest(start, known);
      return NotFound("no rule's name begins with \"" + start + "\"" +
                      (nearest ? "; did you mean \"" + *nearest + "\"?" : "") +
                      " docs/conformance.md lists them");
    }
    return OkStatus();
  }

  // Asks a child what the library holds. Gives why it can't be loaded, or "".
  Result<std::string> List() {
    json::Writer request;
    request.BeginObject().Field("do", "list").Field("path", report_.file).EndObject();
    RETORT_ASSIGN_OR_RETURN(const auto results, RunChildren({request.text()}, settings_));
    const ChildResult& result = results[0];
    if (!result.ok()) {
      return "plugin " + report_.file + ": while it was loaded and described, it " +
             result.Describe(options_.timeout_ms);
    }
    RETORT_ASSIGN_OR_RETURN(
        const json::Document answer,
        json::Document::Parse(result.report, "the worker's answer", {.max_bytes = 16U << 20}));
    if (answer.root()["error"]) return std::string(answer.root()["error"].StringOr(""));
    const auto text = [](const json::Value& of, const char* key) {
      return std::string(of[key].StringOr(""));
    };
    report_.hash = text(answer.root(), "hash");
    report_.library = text(answer.root(), "library");
    report_.version = text(answer.root(), "version");
    const json::Value list = answer.root()["plugins"];
    for (size_t i = 0; i < list.size(); ++i) {
      plugins_.push_back({text(list[i], "kind"), text(list[i], "id"), text(list[i], "schema"), ""});
    }
    return std::string();
  }

  // Keeps the plugins that are asked for and fills their configs.
  Status SelectPlugins() {
    if (report_.library.empty()) return OkStatus();  // can't be loaded: nothing is known
    if (!options_.plugin.empty()) {
      std::string known;
      for (const Listed& p : plugins_) known += (known.empty() ? "" : ", ") + p.name();
      std::erase_if(plugins_, [&](const Listed& p) {
        return p.id != options_.plugin && p.name() != options_.plugin;
      });
      if (plugins_.empty()) {
        return NotFound("the library has no plugin \"" + options_.plugin + "\"; it has " +
                        (known.empty() ? "none" : known));
      }
    }
    if (!options_.config.empty() && plugins_.size() > 1) {
      return InvalidArgument("the library has " + std::to_string(plugins_.size()) +
                             " plugins: say with --id which of them the config is for");
    }
    for (Listed& plugin : plugins_) {
      report_.plugins.push_back(plugin.name());
      // Without a schema it takes no keys.
      const std::string schema =
          plugin.schema.empty() ? R"({"type": "object", "properties": {}})" : plugin.schema;
      Result<std::string> config = json::ResolveConfig(schema, options_.config);
      if (!config.ok() && !options_.config.empty()) {
        return config.status().WithContext("the config of " + plugin.name());
      }
      // Without one from the user the rule instance.schema says what is wrong.
      plugin.config = config.ok() ? *config : "{}";
    }
    return OkStatus();
  }

  size_t CountRules() const {
    size_t n = 0;
    const auto count = [&](const std::vector<const Rule*>& rules) {
      for (const Rule* rule : rules) n += Wanted(*rule) ? 1 : 0;
    };
    count(RulesOfLibrary());
    for (const Listed& plugin : plugins_) count(RulesOfPlugin(plugin.kind));
    return n;
  }

  void AddTask(const Rule* rule, const Listed* plugin, std::vector<Task>* tasks) const {
    if (Wanted(*rule)) tasks->push_back({rule, plugin});
  }

  Result<std::string> RequestOf(const Task& task) const {
    json::Writer out;
    out.BeginObject().Field("do", "rule").Field("path", report_.file);
    out.Field("rule", task.rule->id).Field("seed", options_.seed);
    out.Field("engine", options_.engine_path);
    out.Field("model", options_.model).Field("inputs", options_.inputs);
    if (task.plugin != nullptr) {
      out.Field("kind", task.plugin->kind).Field("id", task.plugin->id);
      out.Field("config", task.plugin->config).Field("schema", task.plugin->schema);
    }
    out.EndObject();
    if (out.text().size() > kRequestBytesMax) {
      return InvalidArgument("config and schema have " + std::to_string(out.text().size()) +
                             " bytes, more than the " + std::to_string(kRequestBytesMax) +
                             " that the check can hand to its child processes");
    }
    return out.Take();
  }

  Finding FindingOf(const ChildResult& result) const {
    const auto parsed = json::Document::Parse(result.report, "report", {.max_bytes = 16U << 20});
    const json::Value root = parsed.ok() ? parsed->root() : json::Value();
    const std::string_view verdict = root["verdict"].StringOr("");
    std::string text(root["text"].StringOr(""));
    // What the rule found counts, whatever became of the process then.
    if (verdict == "fail") return Finding::Fail(std::move(text));
    if (!result.ok()) return Finding::Fail("it " + result.Describe(options_.timeout_ms));
    if (root["error"]) return Finding::Fail(std::string(root["error"].StringOr("")));
    if (verdict == "pass") return Finding::Pass();
    if (verdict == "skip") return Finding::Skip(std::move(text));
    return Finding::Fail("the report was damaged: " + Quoted(result.report));
  }

  void AddRow(const Task& task, Finding finding, double seconds) {
    report_.rows.push_back({task.rule, task.plugin == nullptr ? "" : task.plugin->name(),
                            std::move(finding), seconds});
  }

  Status RunTasks(const std::vector<Task>& tasks) {
    std::vector<std::string> requests;
    for (const Task& task : tasks) {
      RETORT_ASSIGN_OR_RETURN(std::string request, RequestOf(task));
      requests.push_back(std::move(request));
    }
    settings_.on_done = [&](size_t i) {
      // instance.create runs also where it was not asked for: it says whether the rest can.
      if (!Wanted(*tasks[i].rule)) return;
      if (options_.progress) options_.progress(++done_, total_, tasks[i].rule->id);
    };
    RETORT_ASSIGN_OR_RETURN(const auto results, RunChildren(requests, settings_));
    settings_.on_done = {};
    for (size_t i = 0; i < tasks.size(); ++i) {
      if (results[i].end == ChildResult::End::kTimedOut) ++n_timeouts_;
      AddRow(tasks[i], FindingOf(results[i]), results[i].seconds);
    }
    return OkStatus();
  }

  // The rules that open the file themselves still say something; the rest can't run.
  Status CheckUnloadable(const std::string& why) {
    std::vector<Task> tasks;
    for (const Rule* rule : RulesOfLibrary()) {
      if (rule->opens_itself && std::strcmp(rule->id, kLoadRule) != 0) {
        AddTask(rule, nullptr, &tasks);
      }
    }
    RETORT_RETURN_IF_ERROR(RunTasks(tasks));
    for (const Rule* rule : RulesOfLibrary()) {
      if (std::strcmp(rule->id, kLoadRule) == 0) {
        AddRow({rule, nullptr}, Finding::Fail(why), 0);  // whatever --only says: it is the reason
      } else if (!rule->opens_itself && Wanted(*rule)) {
        AddRow({rule, nullptr}, Finding::Skip("the library can't be loaded"), 0);
      }
    }
    return OkStatus();
  }

  Status CheckPlugin(const Listed& plugin) {
    n_timeouts_ = 0;
    const std::vector<const Rule*> rules = RulesOfPlugin(plugin.kind);
    const auto create = std::find_if(rules.begin(), rules.end(), [](const Rule* rule) {
      return std::strcmp(rule->id, kCreateRule) == 0;
    });
    const size_t first_row = report_.rows.size();
    RETORT_RETURN_IF_ERROR(RunTasks({{*create, &plugin}}));
    const Finding& created = report_.rows.back().finding;
    const bool usable = created.passed();
    if (usable && !Wanted(**create)) report_.rows.resize(first_row);
    std::vector<Task> batch;
    for (const Rule* rule : rules) {
      if (rule == *create || !Wanted(*rule)) continue;
      // What judges config and schema needs no instance of this config.
      if (!usable && !rule->opens_itself) {
        AddRow({rule, &plugin}, Finding::Skip("no instance can be created"), 0);
        continue;
      }
      batch.push_back({rule, &plugin});
    }
    return RunBatches(batch);
  }

  // A few at a time, so that a plugin that hangs in everything is given up early.
  Status RunBatches(const std::vector<Task>& tasks) {
    constexpr size_t kBatch = 6;
    for (size_t i = 0; i < tasks.size(); i += kBatch) {
      const auto begin = tasks.begin() + static_cast<ptrdiff_t>(i);
      const std::vector<Task> batch(
          begin, begin + static_cast<ptrdiff_t>(std::min(kBatch, tasks.size() - i)));
      if (n_timeouts_ < kTimeoutsMax) {
        RETORT_RETURN_IF_ERROR(RunTasks(batch));
        continue;
      }
      for (const Task& task : batch) {
        AddRow(task, Finding::Skip("left out: too many rules ran out of time"), 0);
      }
    }
    return OkStatus();
  }

  const KitOptions& options_;
  ChildSettings settings_;
  KitReport report_;
  std::vector<Listed> plugins_;
  size_t done_ = 0, total_ = 0;
  int n_timeouts_ = 0;
};

}  // namespace

size_t KitReport::Count(Verdict verdict) const {
  return static_cast<size_t>(std::count_if(
      rows.begin(), rows.end(), [&](const Row& row) { return row.finding.verdict == verdict; }));
}

Result<KitReport> CheckLibrary(const KitOptions& options) {
  const std::string path = io::Absolute(options.file);
  RETORT_RETURN_IF_ERROR(io::RealFileSystem().Stat(path).status());
  return Kit(options, path).Run();
}

}  // namespace retort::host::check
