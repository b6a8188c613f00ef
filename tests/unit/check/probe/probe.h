// A library with one plugin per rule of the conformance kit, which breaks that rule alone; its id
// is the rule's. Beside them a "good" one of each kind.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "retort/abi/draft/generator.h"
#include "retort/abi/draft/source.h"
#include "retort/abi/entry.h"
#include "retort/abi/filter.h"
#include "retort/abi/reward.h"

namespace probe {

// What every instance begins with.
struct Instance {
  explicit Instance(std::string id) : deed(std::move(id)) {}
  virtual ~Instance() = default;
  bool Is(std::string_view id) const { return deed == id; }
  virtual const void* Table(std::string_view interface_id) = 0;
  std::string deed;
};
inline Instance& Of(retort_instance* self) { return *reinterpret_cast<Instance*>(self); }

Instance* NewReward(const std::string& id);
Instance* NewFilter(const std::string& id);
Instance* NewSource(const std::string& id);
Instance* NewGenerator(const std::string& id);

inline retort_status Fail(const retort_call* call, retort_status status, std::string_view text) {
  call->error(call->ctx, status, {text.data(), text.size()});
  return status;
}
inline bool Cancelled(const retort_call* call) {
  return call->cancel != nullptr && __atomic_load_n(call->cancel, __ATOMIC_RELAXED) != 0;
}
inline std::string_view View(retort_str s) {
  return s.ptr == nullptr ? std::string_view() : std::string_view(s.ptr, s.len);
}
template <class T>
const T& At(const T* first, uint64_t stride, uint64_t i) {
  return *reinterpret_cast<const T*>(reinterpret_cast<const char*>(first) + i * stride);
}

// With the deed "<kind>.old_calls": logs through the first call that it has seen, in a call of the
// step that the rule's second call has.
void UseOldCall(const Instance& self, const retort_call* call);

// What is odd about a text, named as the rules that make it; "" if nothing.
std::string_view OddityOf(const retort_sample& sample);
// Writes all, or (`once`) ignores that the sink takes less.
bool WriteAll(const retort_sink* sink, std::string_view bytes, bool once);
std::string ReadAll(const retort_reader* reader);
// The state "probe" + value + check, or false.
std::string Pack(uint64_t value);
bool Unpack(std::string_view bytes, uint64_t* value);

void Leak(size_t bytes);

extern int n_created;                 // instances so far
extern thread_local bool is_creator;  // this thread has created one

}  // namespace probe
