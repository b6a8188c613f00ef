// docs/pipeline.md lists every key of the pipeline file as the tables that validate it have it.
// RETORT_UPDATE=1 in the environment rewrites the list instead of comparing.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "host/pipeline/config/schema.h"

namespace retort::host {
namespace {

constexpr const char* kPath = RETORT_SOURCE_DIR "/docs/pipeline.md";
constexpr std::string_view kBegin = "<!-- keys.begin -->\n", kEnd = "<!-- keys.end -->\n";

std::string Number(double x) {
  std::ostringstream text;
  text << x;
  return text.str();
}

std::string Range(const KeySpec& key) {
  const bool low = std::isfinite(key.min), high = std::isfinite(key.max);
  if (low && high) return ", " + Number(key.min) + " to " + Number(key.max);
  if (low) return ", at least " + Number(key.min);
  return high ? ", at most " + Number(key.max) : "";
}

std::string KindName(KeyKind kind, const ObjectSpec* object) {
  switch (kind) {
    case KeyKind::kBool: return "true or false";
    case KeyKind::kInt: return "integer";
    case KeyKind::kNumber: return "number";
    case KeyKind::kString: return "text";
    case KeyKind::kPath: return "path";
    case KeyKind::kRaw: return "object";
    case KeyKind::kObject: return object != nullptr ? object->title : "object";
    case KeyKind::kList: return "list";
    case KeyKind::kMap: return "map";
  }
  return "";
}

std::string TypeOf(const KeySpec& key) {
  if (key.choices != nullptr) {
    std::string out;
    std::stringstream choices(key.choices);
    for (std::string choice; std::getline(choices, choice, '|');) {
      if (!choice.empty()) out += (out.empty() ? "`" : ", `") + choice + "`";
    }
    return out;
  }
  std::string type = KindName(key.kind, key.object);
  if (key.kind == KeyKind::kList) type += " of " + KindName(key.item, key.object);
  if (key.kind == KeyKind::kMap) type = "name → " + KindName(key.item, key.object);
  return type + Range(key) + (key.word != nullptr ? ", or `" + std::string(key.word) + "`" : "");
}

std::string DefaultOf(const KeySpec& key) {
  if (key.required) return "required";
  return key.fallback == nullptr ? "" : "`" + std::string(key.fallback) + "`";
}

std::string TableOf(const ObjectSpec& spec) {
  std::string title = spec.title;
  title[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(title[0])));
  std::string out = "### " + title + "\n\n";
  if (spec.shorthand != nullptr) {
    out += "A text stands for `{\"" + std::string(spec.shorthand) + "\": text}`.\n\n";
  }
  if (spec.switch_key != nullptr) {
    out += "`true` or `false` stands for `{\"" + std::string(spec.switch_key) + "\": it}`.\n\n";
  }
  out += "| key | type | default | meaning |\n|---|---|---|---|\n";
  for (const KeySpec& key : spec.keys) {
    out += "| `" + std::string(key.name) + "` | " + TypeOf(key) + " | " + DefaultOf(key) + " | " +
           key.summary + " |\n";
  }
  return out + "\n";
}

// Objects in the order in which a reader meets them, each once.
void Collect(const ObjectSpec& spec, std::vector<const ObjectSpec*>* out) {
  if (std::find(out->begin(), out->end(), &spec) != out->end()) return;
  if (!spec.keys.empty()) out->push_back(&spec);
  for (const VariantSpec& variant : spec.variants) Collect(*variant.object, out);
  for (const KeySpec& key : spec.keys) {
    if (key.object != nullptr) Collect(*key.object, out);
  }
}

std::string Reference() {
  std::vector<const ObjectSpec*> objects;
  Collect(PipelineSpec(), &objects);
  std::string out;
  for (const ObjectSpec* object : objects) out += TableOf(*object);
  out.pop_back();
  return out;
}

TEST(PipelineReference, DocumentListsEveryKey) {
  std::stringstream file;
  file << std::ifstream(kPath).rdbuf();
  std::string text = file.str();
  const size_t begin = text.find(kBegin), end = text.find(kEnd);
  ASSERT_NE(begin, std::string::npos) << kPath << " has no mark " << kBegin;
  ASSERT_NE(end, std::string::npos) << kPath << " has no mark " << kEnd;
  const size_t from = begin + kBegin.size();
  const std::string expected = Reference();
  ASSERT_GT(expected.size(), 4000U);
  if (std::getenv("RETORT_UPDATE") != nullptr) {
    std::ofstream(kPath) << text.replace(from, end - from, expected);
    return;
  }
  EXPECT_EQ(text.substr(from, end - from), expected)
      << "run this test with RETORT_UPDATE=1 and review the difference";
}

}  // namespace
}  // namespace retort::host
