// Every built-in plugin passes every rule.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <map>

#include "kit_fixture.h"

namespace retort::host::check {
namespace {

// Configs of the plugins whose defaults are not enough.
std::string ConfigOf(const std::string& library, const std::string& records) {
  if (library.ends_with("_filter_length.so")) return R"({"max_chars": 60, "max_tokens": 40})";
  if (library.ends_with("_source_jsonl.so")) return R"({"path": ")" + records + R"("})";
  return "";
}

std::string WriteRecords() {
  const std::string path = testing::TempDir() + "check_records.jsonl";
  std::ofstream file(path);
  for (int i = 0; i < 40; ++i) {
    file << R"({"question": "What is )" << i << R"( + 1?", "answer": ")" << i + 1 << "\"}\n";
  }
  file << "{no record\n";  // the source's to report
  return path;
}

class Builtin : public testing::TestWithParam<std::string> {};

TEST_P(Builtin, KeepsEveryRule) {
  KitOptions options = OptionsFor(std::string(RETORT_PLUGIN_DIR) + "/" + GetParam());
  options.config = ConfigOf(GetParam(), WriteRecords());
  if (GetParam().ends_with("_op_xielu.so")) options.inputs = "Tx8,1,1";
  const KitReport report = Check(options);
  EXPECT_TRUE(report.passed()) << RenderText(report);
  EXPECT_GT(report.Count(Verdict::kPass), 30U);
}

std::vector<std::string> Libraries() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(RETORT_PLUGIN_DIR)) {
    if (entry.path().extension() == ".so") names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

INSTANTIATE_TEST_SUITE_P(Plugins, Builtin, testing::ValuesIn(Libraries()),
                         [](const testing::TestParamInfo<std::string>& library) {
                           std::string name;
                           for (const char c : library.param)
                             name += std::isalnum(c) != 0 ? c : '_';
                           return name;
                         });

}  // namespace
}  // namespace retort::host::check
