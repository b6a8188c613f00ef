// What a run does with a plugin, once and in small: for rules that hold for every kind.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>

#include "core/base/status.h"
#include "host/check/raw_plugin.h"

namespace retort::host::check {

// How the host's structs look; counts for rewards, filters, sources and generators.
struct UseShape {
  CallKind call = {};            // of create and of all calls
  Growth args = Growth::kExact;  // of the argument struct
  size_t stride_extra = 0;       // bytes between the elements of arrays of structs
  // Another instance, destroyed between this one's creation and its work; NULL: none.
  RawInstance* destroyed_before_work = nullptr;
};

// Creates an instance, has it work on ordinary input, destroys it. Gives what came out, as text to
// compare with another use ("" for the kinds whose numbers have rules of their own).
Result<std::string> UseOnce(const Subject& subject, const UseShape& shape = {});

// Kinds that UseShape counts for.
bool UseTakesShape(const Subject& subject);

}  // namespace retort::host::check
