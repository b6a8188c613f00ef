// A rule of the conformance kit: what must hold, and the function that finds out, run in a child
// process of its own under a time limit. The rules of a kind are one table, in files of their own.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "core/base/rng.h"
#include "core/base/status.h"
#include "retort/abi/entry.h"

namespace retort::host::check {

enum class Verdict : uint8_t { kPass, kFail, kSkip };  // kSkip: the rule is not about this plugin

struct Finding {
  Verdict verdict = Verdict::kPass;
  std::string text;  // kFail: found and expected, with numbers; kSkip: why
  static Finding Pass() { return {}; }
  static Finding Fail(std::string text) { return {Verdict::kFail, std::move(text)}; }
  static Finding Skip(std::string why) { return {Verdict::kSkip, std::move(why)}; }
  // OK passes, anything else fails with its text.
  static Finding Of(const Status& status) { return status.ok() ? Pass() : Fail(status.message()); }
  bool passed() const { return verdict == Verdict::kPass; }
};

// What a rule's function is given. The library is open in this process; nothing was created yet.
struct Subject {
  std::string path;                     // absolute
  const retort_entry* entry = nullptr;  // NULL only for the rules that open it themselves
  std::string kind, id;                 // the plugin under test; "" for the rules of the library
  std::string config;                   // JSON, defaults filled
  std::string config_schema;            // "" or as its descriptor has it
  uint64_t seed = 0;                    // of everything random in the rule
  std::string engine_path;              // libretort_engine, for rules that need the engine
  std::string model;   // of a family: a config.json to build, its text; "": the kit's own
  std::string inputs;  // of an op: the shapes of its inputs, "Tx64,64"; "": the kit tries some

  // Random numbers for the part `name` of a rule: the same in every run with the same seed.
  Rng Random(std::string_view name) const { return Rng(Derive(RootKey(seed, "check"), name)); }
};

// Exceptions that the plugin or the rule lets out, signals, exits and overrun time are caught
// outside and fail the rule: a rule never needs to guard a call.
struct Rule {
  const char* id;        // "reward.permutation", unique; the first word is its table's name
  const char* abi_rule;  // "R6": the rule of docs/abi.md that it proves
  const char* title;     // what must hold, one line
  const char* remedy;    // what the author does about a failure, one line
  Finding (*run)(const Subject& subject);
  bool opens_itself = false;  // runs without an open library, also on one that can't be loaded
};

std::span<const Rule> LibraryRules();   // once per library
std::span<const Rule> GrowthRules();    // once per plugin, any kind
std::span<const Rule> InstanceRules();  // once per plugin, any kind
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

// In a function that returns a Finding: fails the rule, or goes on with the value.
#define RETORT_FIND(lhs, expr) RETORT_FIND_INNER(RETORT_CONCAT(retort_found_, __LINE__), lhs, expr)
#define RETORT_FIND_INNER(tmp, lhs, expr)                                             \
  auto tmp = (expr);                                                                  \
  if (!tmp.ok()) return ::retort::host::check::Finding::Fail(tmp.status().message()); \
  lhs = std::move(tmp).value()
#define RETORT_FAIL_IF_ERROR(expr)                                           \
  do {                                                                       \
    if (::retort::Status retort_status_ = (expr); !retort_status_.ok())      \
      return ::retort::host::check::Finding::Fail(retort_status_.message()); \
  } while (false)
// Returns a Finding that did not pass.
#define RETORT_PASS_OR_RETURN(expr)                                                         \
  do {                                                                                      \
    if (::retort::host::check::Finding retort_finding_ = (expr); !retort_finding_.passed()) \
      return retort_finding_;                                                               \
  } while (false)
