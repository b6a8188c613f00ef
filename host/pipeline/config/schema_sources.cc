// What a source and a generator plugin are given beside their config.
// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/config/schema_parts.h"

namespace retort::host {

using enum KeyKind;

namespace {

std::vector<KeySpec> UseKeys(const char* what) {
  return {{.name = "plugin", .kind = kString, .summary = what, .required = true},
          {.name = "config", .kind = kRaw, .fallback = "{}", .summary = "of the plugin"},
          {.name = "isolate",
           .kind = kBool,
           .summary = "true: in a worker process; by default all but the built-in plugins are"},
          {.name = "timeout_ms",
           .kind = kInt,
           .fallback = "60000",
           .summary = "of one call, in a worker",
           .min = 1,
           .max = 86'400'000}};
}

}  // namespace

const ObjectSpec& SourceEntrySpec() {
  static const ObjectSpec spec = {
      .title = "a source", .keys = UseKeys("id of a source plugin"), .shorthand = "plugin"};
  return spec;
}

const ObjectSpec& GeneratorEntrySpec() {
  static const ObjectSpec spec = [] {
    ObjectSpec s = {
        .title = "a generator", .keys = UseKeys("id of a generator plugin"), .shorthand = "plugin"};
    s.keys.push_back({.name = "max_retries",
                      .kind = kInt,
                      .fallback = "3",
                      .summary = "of a request that failed",
                      .min = 0,
                      .max = 1000});
    s.keys.push_back(
        {.name = "on_error",
         .kind = kString,
         .fallback = "\"skip\"",
         .summary = "no answer after all retries: kept as an error, or the stage fails",
         .choices = "skip|fail"});
    s.keys.push_back({.name = "max_error_rate",
                      .kind = kNumber,
                      .fallback = "0.01",
                      .summary = "share of errors above which the stage fails",
                      .min = 0,
                      .max = 1});
    return s;
  }();
  return spec;
}

}  // namespace retort::host
