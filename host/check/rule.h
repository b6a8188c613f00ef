// A rule of the conformance kit: what must hold, and the function that finds out, run in a child
// process of its own under a time limit. The rules of a kind are one table, in files of their own.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "retort/abi/entry.h"

namespace retort::host::check {

enum class Verdict : uint8_t { kPass, kFail, kSkip };  // kSkip: the rule is not about this plugin

struct Finding {
  Verdict verdict = Verdict::kPass;
  std::string text;  // kFail: found and expected, with numbers; kSkip: why
  static Finding Pass() { return {}; }
  static Finding Fail(std::string text) { return {Verdict::kFail, std::move(text)}; }
  static Finding Skip(std::string why) { return {Verdict::kSkip, std::move(why)}; }
};

// What a rule's function is given. The library is open in this process; nothing was created yet.
struct Subject {
  std::string path;                     // absolute
  const retort_entry* entry = nullptr;  // NULL only for the rules that open it themselves
  std::string kind, id;                 // the plugin under test; "" for the rules of the library
  std::string config;                   // JSON, defaults filled
  uint64_t seed = 0;                    // of everything random in the rule
  std::string engine_path;              // libretort_engine, for rules that need the engine
};

struct Rule {
  const char* id;        // "reward.permutation", unique; the first word is its table's name
  const char* abi_rule;  // "R6": the rule of docs/abi.md that it proves
  const char* title;     // what must hold, one line
  const char* remedy;    // what the author does about a failure, one line
  Finding (*run)(const Subject& subject);
};

std::span<const Rule> LibraryRules();  // once per library
std::span<const Rule> GrowthRules();   // once per plugin, any kind
std::span<const Rule> RewardRules();
std::span<const Rule> FilterRules();
std::span<const Rule> SourceRules();
std::span<const Rule> GeneratorRules();
std::span<const Rule> TokenLossRules();
std::span<const Rule> SequenceLossRules();
std::span<const Rule> OptimizerRules();
std::span<const Rule> OpRules();
std::span<const Rule> FamilyRules();

}  // namespace retort::host::check
