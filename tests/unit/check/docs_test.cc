// docs/conformance.md lists every rule, as the tables say it. RETORT_UPDATE=1 in the environment
// rewrites the list instead of comparing.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>

#include "host/check/tables.h"

namespace retort::host::check {
namespace {

const std::string kPath = std::string(RETORT_SOURCE_DIR) + "/docs/conformance.md";
constexpr std::string_view kBegin =
    "<!-- rules.begin: written by check_docs_test with RETORT_UPDATE=1 -->\n";
constexpr std::string_view kEnd = "<!-- rules.end -->";

std::string Cell(std::string_view text) {
  std::string out;
  for (const char c : text) out += c == '|' ? std::string("\\|") : std::string(1, c);
  return out;
}

std::string Lists() {
  std::string out, table;
  for (const Rule* rule : AllRules()) {
    const std::string id = rule->id, its = id.substr(0, id.find('.'));
    if (its != table) {
      table = its;
      out += "\n### " + table + "\n\n| rule | ABI | what must hold | remedy |\n|---|---|---|---|\n";
    }
    out += "| `" + id + "` | " + rule->abi_rule + " | " + Cell(rule->title) + " | " +
           Cell(rule->remedy) + " |\n";
  }
  return out + "\n";
}

TEST(ConformanceDocs, ListEveryRule) {
  std::stringstream file;
  file << std::ifstream(kPath).rdbuf();
  std::string text = file.str();
  const size_t begin = text.find(kBegin), end = text.find(kEnd);
  ASSERT_NE(begin, std::string::npos) << kPath << " has no mark " << kBegin;
  ASSERT_NE(end, std::string::npos) << kPath << " has no mark " << kEnd;
  const size_t from = begin + kBegin.size();
  const std::string expected = Lists();
  ASSERT_GT(expected.size(), 8000U);
  if (std::getenv("RETORT_UPDATE") != nullptr) {
    std::ofstream(kPath) << text.replace(from, end - from, expected);
    return;
  }
  EXPECT_EQ(text.substr(from, end - from), expected)
      << "run this test with RETORT_UPDATE=1 and review the difference";
}

}  // namespace
}  // namespace retort::host::check
