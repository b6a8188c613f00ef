// Sizes that growing structs had in version 1.0 (R3, R4): up to the last member of that version.
// A plugin of then hands over structs of that size; only below it they are refused. A member added
// later is read only where struct_size covers it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "retort/abi/entry.h"
#include "retort/abi/filter.h"

namespace retort::host {

inline constexpr uint32_t kFirstEntrySize =
    offsetof(retort_entry, get_interface) + sizeof(retort_entry::get_interface);
inline constexpr uint32_t kFirstDescriptorSize =
    offsetof(retort_descriptor, config_schema) + sizeof(retort_descriptor::config_schema);
inline constexpr uint32_t kFirstDecisionSize =
    offsetof(retort_decision, record) + sizeof(retort_decision::record);

}  // namespace retort::host
