// Where a plugin's exceptions stop. An author throws Failure (or anything else); Guard turns it
// into a status and a text for the host, so that no exception crosses the C edge.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_SDK_GUARD_H_
#define RETORT_SDK_GUARD_H_

#include <exception>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "retort/abi/call.h"

namespace retort::sdk {

// What a plugin throws to fail a call: a canonical code, and a text that says what was tried, on
// what, which rule broke and what to do.
class Failure : public std::exception {
 public:
  Failure(retort_status code, std::string text) : code_(code), text_(std::move(text)) {}
  explicit Failure(std::string text) : Failure(RETORT_INTERNAL, std::move(text)) {}
  retort_status code() const noexcept { return code_; }
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  retort_status code_;
  std::string text_;
};

inline retort_str ToStr(std::string_view s) { return {s.data(), s.size()}; }
inline std::string_view ToView(retort_str s) {
  return s.ptr == nullptr ? std::string_view() : std::string_view(s.ptr, s.len);
}

// Runs fn and gives RETORT_OK, or reports what it threw to `call` and gives its code.
template <class Fn>
retort_status Guard(const retort_call* call, Fn&& fn) noexcept {
  const auto report = [call](retort_status code, std::string_view text) noexcept {
    if (call != nullptr && call->error != nullptr) call->error(call->ctx, code, ToStr(text));
    return code;
  };
  try {
    std::forward<Fn>(fn)();
    return RETORT_OK;
  } catch (const Failure& e) {
    return report(e.code() == RETORT_OK ? RETORT_INTERNAL : e.code(), e.what());
  } catch (const std::bad_alloc&) {
    return report(RETORT_RESOURCE_EXHAUSTED, "out of memory");
  } catch (const std::exception& e) {
    return report(RETORT_INTERNAL, e.what());
  } catch (...) {
    return report(RETORT_INTERNAL, "unknown exception");
  }
}

// What fn gives, or, when it throws a Failure that concerns one item only, what on_failure(text)
// gives. A cancelled call or missing memory ends the whole call.
template <class Fn, class OnFailure>
auto Attempt(Fn&& fn, OnFailure&& on_failure) -> decltype(fn()) {
  try {
    return std::forward<Fn>(fn)();
  } catch (const Failure& e) {
    if (e.code() == RETORT_CANCELLED || e.code() == RETORT_RESOURCE_EXHAUSTED) throw;
    return std::forward<OnFailure>(on_failure)(std::string_view(e.what()));
  }
}

// The Failure that fn ends with, or nothing.
template <class Fn>
std::optional<Failure> FailureOf(Fn&& fn) {
  try {
    std::forward<Fn>(fn)();
    return std::nullopt;
  } catch (const Failure& e) {
    return e;
  }
}

}  // namespace retort::sdk

#endif  // RETORT_SDK_GUARD_H_
