// The report of a check, as text and as JSON.
// SPDX-License-Identifier: Apache-2.0
#include <set>
#include <string>
#include <string_view>

#include "core/json/json.h"
#include "host/check/kit.h"
#include "host/report/table.h"

namespace retort::host::check {
namespace {

const char* WordOf(Verdict verdict) {
  return verdict == Verdict::kPass ? "pass" : verdict == Verdict::kFail ? "FAIL" : "skip";
}

std::string Milliseconds(double seconds) {
  return seconds > 0 ? GroupedInteger(static_cast<int64_t>(seconds * 1e3)) : "";
}

// Rows of one plugin (or the library) as a table; rules that aren't about it are left out.
std::string TableOf(const KitReport& report, const std::string& plugin) {
  Table table({{"rule"}, {"ABI"}, {"ms", Align::kRight}, {"verdict"}, {"what must hold"}});
  for (const Row& row : report.rows) {
    if (row.plugin != plugin || row.finding.verdict == Verdict::kSkip) continue;
    table.AddRow({row.rule->id, row.rule->abi_rule, Milliseconds(row.seconds),
                  WordOf(row.finding.verdict), row.rule->title});
  }
  return table.empty() ? "" : table.Render();
}

// Why rules were skipped, each reason once with how many.
std::string SkippedOf(const KitReport& report, const std::string& plugin) {
  std::string text;
  std::set<std::string> told;
  for (const Row& row : report.rows) {
    if (row.plugin != plugin || row.finding.verdict != Verdict::kSkip) continue;
    if (!told.insert(row.finding.text).second) continue;
    size_t n = 0;
    for (const Row& other : report.rows) {
      n += other.plugin == plugin && other.finding.verdict == Verdict::kSkip &&
                   other.finding.text == row.finding.text
               ? 1
               : 0;
    }
    text += "skipped " + std::to_string(n) + " (" + row.rule->id + (n > 1 ? ", ..." : "") +
            "): " + row.finding.text + "\n";
  }
  return text;
}

std::string FailuresOf(const KitReport& report) {
  std::string text;
  for (const Row& row : report.rows) {
    if (row.finding.verdict != Verdict::kFail) continue;
    text += "\nFAIL " + std::string(row.rule->id) + " (" + row.rule->abi_rule + ")" +
            (row.plugin.empty() ? "" : " of " + row.plugin) + ": " + row.rule->title + "\n";
    text += "  found:  " + row.finding.text + "\n";
    text += "  remedy: " + std::string(row.rule->remedy) + "\n";
  }
  return text;
}

}  // namespace

std::string RenderText(const KitReport& report) {
  std::string text = report.file + "\n";
  if (!report.library.empty()) text += report.library + " " + report.version + "\n";
  const auto section = [&](const std::string& title, const std::string& plugin) {
    const std::string rows = TableOf(report, plugin), skipped = SkippedOf(report, plugin);
    if (!rows.empty() || !skipped.empty()) text += "\n" + title + "\n" + rows + skipped;
  };
  section("the library", "");
  for (const std::string& plugin : report.plugins) section(plugin, plugin);
  text += FailuresOf(report);
  text += "\n" + std::to_string(report.Count(Verdict::kPass)) + " passed, " +
          std::to_string(report.Count(Verdict::kFail)) + " failed, " +
          std::to_string(report.Count(Verdict::kSkip)) + " skipped; repeat with --seed " +
          std::to_string(report.seed) + "\n";
  return text;
}

std::string RenderJson(const KitReport& report) {
  static constexpr const char* kWords[] = {"pass", "fail", "skip"};
  json::Writer out;
  out.BeginObject().Field("file", report.file).Field("hash", report.hash);
  out.Field("library", report.library).Field("version", report.version);
  out.Key("plugins").BeginArray();
  for (const std::string& plugin : report.plugins) out.String(plugin);
  out.EndArray().Field("seed", report.seed).Field("timeout_ms", report.timeout_ms);
  out.Field("passed", report.passed());
  out.Field("n_pass", static_cast<uint64_t>(report.Count(Verdict::kPass)));
  out.Field("n_fail", static_cast<uint64_t>(report.Count(Verdict::kFail)));
  out.Field("n_skip", static_cast<uint64_t>(report.Count(Verdict::kSkip)));
  out.Key("rules").BeginArray();
  for (const Row& row : report.rows) {
    out.BeginObject().Field("rule", row.rule->id).Field("abi_rule", row.rule->abi_rule);
    out.Field("plugin", row.plugin);
    out.Field("verdict", kWords[static_cast<size_t>(row.finding.verdict)]);
    out.Field("title", row.rule->title).Field("found", row.finding.text);
    if (row.finding.verdict == Verdict::kFail) out.Field("remedy", row.rule->remedy);
    out.Field("seconds", row.seconds).EndObject();
  }
  return out.EndArray().EndObject().Take();
}

}  // namespace retort::host::check
