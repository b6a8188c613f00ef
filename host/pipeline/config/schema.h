// What a pipeline file may hold, as tables: one row per key. They drive validation, defaults and
// documentation; nothing else in the code knows a key's default or range.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

namespace retort::host {

enum class KeyKind : uint8_t {
  kBool,
  kInt,
  kNumber,
  kString,
  kPath,    // made absolute: against the file's folder, or the current one when from --set
  kRaw,     // an object that somebody else checks (a plugin's config)
  kObject,  // of `object`
  kList,    // of `item` (and `object`); a value that is no list is a list of one
  kMap,     // name -> `item` (and `object`)
};

struct ObjectSpec;

struct KeySpec {
  const char* name;
  KeyKind kind;
  const char* fallback = nullptr;  // JSON of the default; NULL: absent unless given
  const char* summary = "";
  bool required = false;
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  const char* choices = nullptr;  // "a|b|c", of a string
  const char* word = nullptr;     // that may stand in the place of a number
  KeyKind item = KeyKind::kString;
  const ObjectSpec* object = nullptr;
};

// One of several forms of an object, chosen by the string under ObjectSpec::variant_key.
struct VariantSpec {
  const char* value;
  const ObjectSpec* object;
};

struct ObjectSpec {
  const char* title;  // "an sft stage"
  std::vector<KeySpec> keys = {};
  const char* shorthand = nullptr;   // a bare string stands for {shorthand: string}
  const char* switch_key = nullptr;  // a bare true or false stands for {switch_key: it}
  const char* variant_key = nullptr;
  std::vector<VariantSpec> variants = {};
  // Named by the design, not in this version: refused by that reason, not as unknown.
  std::vector<const char*> reserved = {};
  std::vector<const char*> reserved_variants = {};

  const KeySpec* Find(std::string_view name) const;
};

const ObjectSpec& PipelineSpec();

// The key of ours that a transformers, TRL or verl name stands for, or NULL.
const char* OurNameOf(std::string_view foreign);

}  // namespace retort::host
