// A checked instance around one table made by the test.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>
#include <memory>

#include "core/base/plugin_call.h"
#include "host/plugin/checked.h"

namespace retort::host {

struct OfferedTable {
  const char* id = "";
  const void* table = nullptr;
};

// What get_interface answers with; an entry has no context to keep it in.
inline OfferedTable& Offered() {
  static OfferedTable offered;
  return offered;
}

// The instance: the object is never looked at. `minor` is what the library says it was built with.
inline Result<std::unique_ptr<CheckedInstance>> WrapOne(const char* id, const void* table,
                                                        const char* kind,
                                                        uint32_t minor = RETORT_ABI_MINOR) {
  static int object = 0;
  static retort_entry entry;
  entry = {};
  entry.abi_minor = minor;
  entry.destroy = [](retort_instance*) {};
  entry.get_interface = [](retort_instance*, const char* wanted) -> const void* {
    return std::strcmp(wanted, Offered().id) == 0 ? Offered().table : nullptr;
  };
  Offered() = {id, table};
  return Wrap(&entry, reinterpret_cast<retort_instance*>(&object), kind);
}

}  // namespace retort::host
