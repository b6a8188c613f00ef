// What a library's descriptors say, for rules.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "host/check/rule.h"
#include "retort/abi/entry.h"

namespace retort::host::check {

// The subject's own, or NULL.
inline const retort_descriptor* DescriptorOf(const Subject& subject) {
  for (uint32_t i = 0; i < subject.entry->count(); ++i) {
    const retort_descriptor* d = subject.entry->describe(i);
    if (d != nullptr && subject.kind == d->kind && subject.id == d->id) return d;
  }
  return nullptr;
}

inline bool HasDescriptorFlag(const Subject& subject, uint32_t flag) {
  const retort_descriptor* d = DescriptorOf(subject);
  return d != nullptr && (d->flags & flag) != 0;
}

}  // namespace retort::host::check
