// demo: the pipeline of examples/addition over one or several seeds, and one table at the end.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "core/io/filesystem.h"
#include "core/json/json.h"
#include "host/commands/command.h"
#include "host/commands/demo_files.h"
#include "host/commands/run_events.h"
#include "host/pipeline/pipeline.h"
#include "host/pipeline/stage_data.h"
#include "host/pipeline/stages/eval_metrics.h"
#include "host/report/table.h"

namespace retort::host {
namespace {

constexpr const char* kProblems = "problems";  // the data, and the stage that filters it
constexpr const char* kClean = "clean";

// A model of the table, over the seeds.
struct Row {
  std::vector<double> accuracy = {};  // one a seed
  int64_t right = 0, n = 0;
  double tokens = 0, seconds = 0;  // of its training and of what it started from, summed up
};

// What a filter that looks for wrong solutions found of them.
struct Found {
  int64_t wrong = 0, dropped = 0, right_drops = 0;
};

struct Totals {
  std::vector<std::string> models = {};  // stages, in the order of the evaluation
  std::map<std::string, Row> rows = {};
  Found filter = {};
  double seconds = 0;
};

Result<bool> IsWrong(const std::string& record) {
  RETORT_ASSIGN_OR_RETURN(const json::Document document, json::Document::Parse(record, "record"));
  return document.root()["wrong"].BoolOr(false);
}

Status AddFound(Session& session, const PipelineConfig& config, Found* found) {
  const auto load = [&](const DataRef& ref) {
    return LoadData(session, config, {ref}, 0, config.output);
  };
  RETORT_ASSIGN_OR_RETURN(const auto all, load({.text = kProblems}));
  RETORT_ASSIGN_OR_RETURN(const auto kept, load({.text = "@clean", .stage = kClean}));
  int64_t wrong = 0, kept_wrong = 0;
  for (const data::Record& record : all.front().records) {
    RETORT_ASSIGN_OR_RETURN(const bool is_wrong, IsWrong(record.Json()));
    wrong += is_wrong ? 1 : 0;
  }
  for (const data::Sample& sample : kept.front().samples) {
    RETORT_ASSIGN_OR_RETURN(const bool is_wrong, IsWrong(sample.record));
    kept_wrong += is_wrong ? 1 : 0;
  }
  found->wrong += wrong;
  found->dropped += static_cast<int64_t>(all.front().size() - kept.front().size());
  found->right_drops += wrong - kept_wrong;
  return OkStatus();
}

// A model of the evaluation, as the report has it: "@stage".
void AddScore(const json::Value& score, Totals* totals) {
  std::string name(score["model"].StringOr(""));
  name.erase(0, name.starts_with("@") ? 1 : 0);
  const int64_t n = score["n"].IntOr(0);
  const double value = score["value"].DoubleOr(0);
  if (totals->rows.count(name) == 0) totals->models.push_back(name);
  Row& row = totals->rows[name];
  row.accuracy.push_back(value);
  row.right += std::llround(value * static_cast<double>(n));
  row.n += n;
}

// What training cost: the stage's own and that of the stages whose weights it began with.
void AddCost(const PipelineConfig& config, const std::map<std::string, json::Value>& numbers,
             const std::string& model, Row* row) {
  const StageConfig* stage = config.FindStage(model);
  for (; stage != nullptr && stage->training() != nullptr;
       stage = config.FindStage(stage->training()->model.stage)) {
    const auto found = numbers.find(stage->name);
    if (found == numbers.end()) continue;
    row->tokens += found->second["tokens"].DoubleOr(0);
    row->seconds += found->second["seconds"].DoubleOr(0);
  }
}

Status AddReport(const PipelineConfig& config, const std::string& report, Totals* totals) {
  RETORT_ASSIGN_OR_RETURN(const json::Document document, json::Document::Parse(report, "report"));
  const json::Value stages = document.root()["stages"];
  totals->seconds += document.root()["seconds"].DoubleOr(0);
  std::map<std::string, json::Value> numbers;
  for (size_t i = 0; i < stages.size(); ++i) {
    numbers.emplace(stages[i]["name"].StringOr(""), stages[i]["numbers"]);
    const json::Value scores = stages[i]["evaluation"]["scores"];
    for (size_t k = 0; k < scores.size(); ++k) {
      if (scores[k]["metric"].StringOr("") == "accuracy") AddScore(scores[k], totals);
    }
  }
  for (auto& [name, row] : totals->rows) AddCost(config, numbers, name, &row);
  return OkStatus();
}

std::string Percent(double share) {
  char text[16];
  std::snprintf(text, sizeof text, "%.1f %%", 100 * share);
  return text;
}

std::string ModelTable(const Totals& totals, int64_t first_seed, int64_t seeds) {
  constexpr Align kRight = Align::kRight;
  std::vector<Table::Column> columns = {{.title = "model"},
                                        {.title = "accuracy", .align = kRight},
                                        {.title = "95% interval", .align = kRight}};
  for (int64_t i = 0; seeds > 1 && i < seeds; ++i) {
    columns.push_back({.title = "seed " + std::to_string(first_seed + i), .align = kRight});
  }
  columns.push_back({.title = "tokens", .align = kRight});
  columns.push_back({.title = "seconds", .align = kRight});
  Table table(std::move(columns));
  const auto runs = static_cast<double>(seeds);
  for (const std::string& name : totals.models) {
    const Row& row = totals.rows.at(name);
    const Estimate share = Proportion(row.right, row.n);
    std::vector<std::string> cells = {name, Percent(share.value),
                                      Percent(share.low) + " to " + Percent(share.high)};
    for (size_t i = 0; seeds > 1 && i < row.accuracy.size(); ++i) {
      cells.push_back(Percent(row.accuracy[i]));
    }
    cells.push_back(GroupedInteger(static_cast<int64_t>(row.tokens / runs)));
    cells.push_back(ShortNumber(row.seconds / runs));
    table.AddRow(std::move(cells));
  }
  return table.Render();
}

std::string FilterLine(const Found& found) {
  const Estimate precision = Proportion(found.right_drops, found.dropped);
  const Estimate recall = Proportion(found.right_drops, found.wrong);
  return "filter: " + GroupedInteger(found.dropped) + " solutions dropped, " +
         GroupedInteger(found.wrong) + " were wrong: precision " + Percent(precision.value) +
         ", recall " + Percent(recall.value) + "\n";
}

std::string TotalsJson(const Totals& totals) {
  json::Writer writer(2);
  writer.BeginObject().Key("models").BeginArray();
  for (const std::string& name : totals.models) {
    const Row& row = totals.rows.at(name);
    const Estimate share = Proportion(row.right, row.n);
    writer.BeginObject().Field("model", name).Field("accuracy", share.value);
    writer.Field("low", share.low).Field("high", share.high).Field("n", row.n);
    writer.Key("seeds").BeginArray();
    for (const double value : row.accuracy) writer.Double(value);
    writer.EndArray().Field("tokens", row.tokens).Field("seconds", row.seconds).EndObject();
  }
  writer.EndArray().Key("filter").BeginObject().Field("wrong", totals.filter.wrong);
  writer.Field("dropped", totals.filter.dropped).Field("right_drops", totals.filter.right_drops);
  return writer.EndObject().Field("seconds", totals.seconds).EndObject().Take();
}

// The pipeline and its tokenizer, where the user can look at them and run them again.
Result<std::string> WriteFiles(const std::string& folder) {
  for (const DemoFile& file : DemoFiles()) {
    const std::string path = io::Join(folder, file.name);
    RETORT_RETURN_IF_ERROR(io::RealFileSystem().MakeFolders(io::Parent(path)));
    RETORT_RETURN_IF_ERROR(io::DurableWrite(path, file.text));
  }
  return io::Join(folder, "pipeline.json");
}

Result<PipelineConfig> Load(const CommandCall& call, const std::string& file,
                            const std::string& folder, int64_t seed) {
  Overrides overrides = {.profile = call.args.Text("profile"), .set = call.args.Texts("set")};
  overrides.set.push_back("seed=" + std::to_string(seed));
  overrides.set.push_back("vars.seed=" + std::to_string(seed));
  overrides.set.push_back("output=" + io::Join(folder, "seed-" + std::to_string(seed)));
  return LoadPipeline(file, overrides);
}

Status RunSeed(const CommandCall& call, const PipelineConfig& config, Totals* totals) {
  RunOptions options;
  options.cancel = &call.cancel;
  options.on_event = [&call](const RunEvent& event) { ForwardEvent(event, call.io); };
  RETORT_ASSIGN_OR_RETURN(const RunReport report, RunPipeline(call.session, config, options));
  RETORT_RETURN_IF_ERROR(AddReport(config, report.json, totals));
  return AddFound(call.session, config, &totals->filter);
}

}  // namespace

Outcome RunDemo(const CommandCall& call) {
  const std::string given = call.args.Text("output");
  const std::string folder = given.empty() ? "runs/demo" : given;
  const Result<std::string> file = WriteFiles(folder);
  if (!file.ok()) return file.status();
  const int64_t first = call.args.Int("seed", 1), seeds = call.args.Int("seeds", 1);
  Totals totals;
  for (int64_t seed = first; seed < first + seeds; ++seed) {
    const Result<PipelineConfig> config = Load(call, *file, folder, seed);
    const Status run = config.ok() ? RunSeed(call, *config, &totals) : config.status();
    if (!run.ok()) return {run, ExitCode(run)};
  }
  if (call.args.Flag("json")) return call.io.Line(TotalsJson(totals));
  return call.io.Lines(ModelTable(totals, first, seeds) + FilterLine(totals.filter) + "total " +
                       FormatSeconds(totals.seconds) + "; everything is in " + folder + "\n");
}

}  // namespace retort::host
