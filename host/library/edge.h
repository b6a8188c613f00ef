// Structs, texts and sinks as they cross the C edge.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "core/base/plugin_call.h"
#include "core/base/status.h"
#include "retort/host.h"

namespace retort::host {

// The caller's struct as far as it goes; members that it doesn't have are zero. NULL is all zero.
template <class T>
Status ReadStruct(const T* given, const char* name, T& known) {
  known = {};
  if (given == nullptr) return {};
  if (given->struct_size < 2 * sizeof(uint32_t)) {
    return InvalidArgument(std::string(name) + ".struct_size is " +
                           std::to_string(given->struct_size) + "; set it to sizeof");
  }
  std::memcpy(&known, given, std::min<size_t>(given->struct_size, sizeof known));
  return {};
}

// The part of `full` that the caller has room for; its struct_size stays.
template <class T>
Status WriteStruct(T full, const char* name, T* out) {
  if (out == nullptr || out->struct_size < 2 * sizeof(uint32_t)) {
    return InvalidArgument(std::string(name) + ": give a struct with struct_size set to sizeof");
  }
  full.struct_size = out->struct_size;
  std::memcpy(out, &full, std::min<size_t>(out->struct_size, sizeof full));
  return {};
}

// Unknown bits 0-15 are UNIMPLEMENTED, bits 16-31 are hints.
Status CheckFlags(uint32_t flags, uint32_t known, const char* name);

// A path: not empty, no NUL inside. `name` is the member's.
Result<std::string> PathOf(retort_str text, const char* name);

Status CheckUtf8(std::string_view text, const std::string& where);

inline retort_str OptionalStr(std::string_view text) {
  return text.empty() ? retort_str{nullptr, 0} : ToStr(text);
}

// All of it, in as many writes as the sink needs. ABORTED: it failed.
Status WriteAll(const retort_sink* sink, std::string_view text);
// Before the work: INVALID_ARGUMENT without a sink.
Status CheckSink(const retort_sink* sink, const char* name);

// Element i of a caller's array.
template <class T>
const T& At(const T* first, uint32_t stride, uint64_t i) {
  return *reinterpret_cast<const T*>(reinterpret_cast<const char*>(first) + uint64_t{stride} * i);
}
// INVALID_ARGUMENT: a NULL array with elements, or a stride below the element's size.
Status CheckArray(const void* first, uint64_t n, uint32_t stride, size_t element, const char* name);

}  // namespace retort::host
