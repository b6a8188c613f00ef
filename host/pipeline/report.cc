// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/report.h"

#include <fstream>
#include <sstream>

#include "core/base/clock.h"
#include "core/json/json.h"
#include "host/report/table.h"

namespace retort::host {
namespace {

// Tokens that a stage was about, and the seconds that they took.
struct Throughput {
  double tokens = 0, seconds = 0;
  double rate() const { return seconds > 0 ? tokens / seconds : 0; }
};

bool IsTraining(const StageReport& report) {
  return report.kind == "sft" || report.kind == "distill" || report.kind == "reward_model";
}

Throughput ThroughputOf(const StageReport& report) {
  const StageNumbers& n = report.numbers;
  if (IsTraining(report)) {
    return {.tokens = n.Get("tokens"), .seconds = n.Get("step_seconds")};
  }
  return {.tokens = n.Get("completion_tokens"),
          .seconds = n.Get("prefill_seconds") + n.Get("decode_seconds")};
}

std::string Count(double value) { return GroupedInteger(static_cast<int64_t>(value)); }

// The last evaluation, and the best if it is kept.
std::string EvaluationOf(const StageNumbers& numbers) {
  std::string text;
  for (const char* name : {"eval_loss", "eval_reward", "best_metric"}) {
    if (numbers.Has(name)) text += ", " + std::string(name) + " " + ShortNumber(numbers.Get(name));
  }
  return text;
}

std::string WorkOf(const StageReport& report) {
  const StageNumbers& n = report.numbers;
  if (IsTraining(report)) {
    return Count(n.Get("steps")) + " steps, " + Count(n.Get("examples")) + " examples" +
           EvaluationOf(n);
  }
  if (report.kind == "grpo") return Count(n.Get("samples")) + " samples" + EvaluationOf(n);
  if (report.kind == "filter") {
    return Count(n.Get("kept")) + " kept of " + Count(n.Get("samples"));
  }
  return Count(n.Get("samples")) + " samples";
}

}  // namespace

std::string NumbersLine(const StageReport& report) {
  std::string line = FormatSeconds(report.numbers.Get("seconds")) + ", " + WorkOf(report);
  const Throughput throughput = ThroughputOf(report);
  if (throughput.tokens > 0) {
    line += ", " + Count(throughput.tokens) + " tokens, " + ShortNumber(throughput.rate()) +
            " tokens/s";
  }
  return line;
}

RunReport MakeReport(const std::vector<StageReport>& stages, const std::string& output) {
  constexpr Align kRight = Align::kRight;
  Table table({{.title = "stage"},
               {.title = "kind"},
               {.title = "seconds", .align = kRight},
               {.title = "work"},
               {.title = "tokens", .align = kRight},
               {.title = "tokens/s", .align = kRight},
               {.title = "peak memory", .align = kRight}});
  std::string evaluations;
  double total = 0;
  json::Writer writer(2);
  writer.BeginObject().Field("output", output).Key("stages").BeginArray();
  for (const StageReport& stage : stages) {
    const Throughput throughput = ThroughputOf(stage);
    const double seconds = stage.numbers.Get("seconds");
    const double peak = stage.numbers.Get("peak_bytes");
    const bool any = throughput.tokens > 0;
    total += seconds;
    table.AddRow({stage.name + (stage.skipped ? " (done before)" : ""), stage.kind,
                  ShortNumber(seconds), WorkOf(stage), any ? Count(throughput.tokens) : "-",
                  any ? ShortNumber(throughput.rate()) : "-", peak > 0 ? ShortBytes(peak) : "-"});
    if (!stage.scores.empty()) {
      evaluations += "\n" + stage.name + ": " + ScoreTable(stage.scores);
    }
    writer.BeginObject().Field("name", stage.name).Field("kind", stage.kind);
    writer.Field("skipped", stage.skipped).Field("tokens_per_second", throughput.rate());
    writer.Key("numbers").Raw(stage.numbers.ToJson());
    if (!stage.scores.empty()) writer.Key("evaluation").Raw(WriteScores(stage.scores));
    writer.EndObject();
  }
  writer.EndArray().Field("seconds", total).EndObject();
  std::string text = table.Render() + "total " + FormatSeconds(total) + "; everything is in " +
                     output + "\n" + evaluations;
  return {.text = std::move(text), .json = writer.Take()};
}

double PeakMemoryBytes() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("VmHWM:", 0) != 0) continue;
    std::istringstream fields(line.substr(6));
    double kilobytes = 0;
    fields >> kilobytes;
    return kilobytes * 1024;
  }
  return 0;
}

}  // namespace retort::host
