// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/scores.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/json/json.h"
#include "host/report/table.h"

namespace retort::host {

std::string WriteScores(const std::vector<ScoreRow>& rows) {
  json::Writer writer(2);
  writer.BeginObject().Key("scores").BeginArray();
  for (const ScoreRow& row : rows) {
    writer.BeginObject().Field("model", row.model).Field("task", row.task);
    writer.Field("metric", row.metric).Field("value", row.estimate.value);
    writer.Field("low", row.estimate.low).Field("high", row.estimate.high);
    writer.Field("n", row.estimate.n).EndObject();
  }
  writer.EndArray().EndObject();
  return writer.Take() + "\n";
}

Result<std::vector<ScoreRow>> ReadScores(std::string_view text, const std::string& what) {
  RETORT_ASSIGN_OR_RETURN(const json::Document document, json::Document::Parse(text, what));
  const json::Value scores = document.root()["scores"];
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  std::vector<ScoreRow> rows;
  for (size_t i = 0; i < scores.size(); ++i) {
    const json::Value row = scores[i];
    rows.push_back({.model = std::string(row["model"].StringOr("")),
                    .task = std::string(row["task"].StringOr("")),
                    .metric = std::string(row["metric"].StringOr("")),
                    .estimate = {.value = row["value"].DoubleOr(kNone),
                                 .low = row["low"].DoubleOr(kNone),
                                 .high = row["high"].DoubleOr(kNone),
                                 .n = row["n"].IntOr(0)}});
  }
  return rows;
}

namespace {

template <class Get>
std::vector<std::string> Distinct(const std::vector<ScoreRow>& rows, Get get) {
  std::vector<std::string> out;
  for (const ScoreRow& row : rows) {
    if (std::find(out.begin(), out.end(), get(row)) == out.end()) out.push_back(get(row));
  }
  return out;
}

std::string Cell(const Estimate& estimate) {
  if (!std::isfinite(estimate.low)) return ShortNumber(estimate.value);
  return ShortNumber(estimate.value) + " [" + ShortNumber(estimate.low) + ", " +
         ShortNumber(estimate.high) + "]";
}

std::string TaskTable(const std::vector<ScoreRow>& rows, const std::string& task) {
  std::vector<ScoreRow> own;
  for (const ScoreRow& row : rows) {
    if (row.task == task) own.push_back(row);
  }
  const auto metrics = Distinct(own, [](const ScoreRow& row) { return row.metric; });
  std::vector<Table::Column> columns = {{.title = "model"}};
  for (const std::string& metric : metrics) {
    columns.push_back({.title = metric, .align = Align::kRight});
  }
  Table table(std::move(columns));
  for (const std::string& model : Distinct(own, [](const ScoreRow& row) { return row.model; })) {
    std::vector<std::string> cells = {model};
    for (const std::string& metric : metrics) {
      const auto is_it = [&](const ScoreRow& row) {
        return row.model == model && row.metric == metric;
      };
      const auto found = std::find_if(own.begin(), own.end(), is_it);
      cells.push_back(found != own.end() ? Cell(found->estimate) : "-");
    }
    table.AddRow(std::move(cells));
  }
  return table.Render();
}

}  // namespace

std::string ScoreTable(const std::vector<ScoreRow>& rows) {
  std::string out;
  for (const std::string& task : Distinct(rows, [](const ScoreRow& row) { return row.task; })) {
    int64_t n = 0;
    for (const ScoreRow& row : rows) {
      if (row.task == task) n = std::max(n, row.estimate.n);
    }
    out += (out.empty() ? "" : "\n") + task + " (n up to " + std::to_string(n) +
           ", 95% intervals)\n" + TaskTable(rows, task);
  }
  return out;
}

}  // namespace retort::host
