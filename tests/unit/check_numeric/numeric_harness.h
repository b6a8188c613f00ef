// Runs rules of the conformance kit in this process, on the built-in plugins and on probes.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/json/schema.h"
#include "host/check/rule.h"
#include "host/plugin/loader.h"

namespace retort::host::check {

// By rule id.
using Findings = std::map<std::string, Finding>;

inline Subject SubjectOf(const std::string& path, const std::string& kind, const std::string& id,
                         const std::string& config) {
  Result<LoadedLibrary> library = OpenLibrary(path);
  EXPECT_TRUE(library.ok()) << library.status().ToString();
  Subject subject;
  subject.path = path;
  subject.kind = kind;
  subject.id = id;
  subject.seed = 7;
  subject.config = config;
  if (!library.ok()) return subject;
  subject.entry = library->entry;
  for (uint32_t i = 0; i < subject.entry->count(); ++i) {
    const retort_descriptor* d = subject.entry->describe(i);
    if (d->kind != kind || d->id != id) continue;
    subject.config = json::ResolveConfig(d->config_schema, config).value();
  }
  return subject;
}

inline Findings RunAll(std::span<const Rule> rules, const Subject& subject) {
  Findings findings;
  for (const Rule& rule : rules) findings[rule.id] = rule.run(subject);
  return findings;
}

// Nothing fails; `skipped` rules, and no others, say that they are not about this plugin.
inline void ExpectPasses(std::span<const Rule> rules, const Subject& subject,
                         const std::vector<std::string>& skipped = {}) {
  for (const auto& [id, finding] : RunAll(rules, subject)) {
    const bool skip = std::find(skipped.begin(), skipped.end(), id) != skipped.end();
    EXPECT_EQ(finding.verdict, skip ? Verdict::kSkip : Verdict::kPass)
        << id << ": " << finding.text;
  }
}

// For each rule the probe has a bug of that name, which fails that rule and no other.
inline void ExpectEachBugFailsItsRule(std::span<const Rule> rules, const Subject& probe) {
  for (const Rule& rule : rules) {
    const std::string name = rule.id;
    const std::string bug = name.substr(name.find('.') + 1);
    Subject subject = probe;
    subject.config = R"({"bug": ")" + bug + R"("})";
    for (const auto& [other, finding] : RunAll(rules, subject)) {
      if (other == name) {
        EXPECT_EQ(finding.verdict, Verdict::kFail) << name << " passed its own bug";
        EXPECT_FALSE(finding.text.empty()) << name;
        testing::Test::RecordProperty(name, finding.text);
      } else {
        EXPECT_NE(finding.verdict, Verdict::kFail)
            << "bug " << bug << " failed " << other << ": " << finding.text;
      }
    }
  }
}

}  // namespace retort::host::check
