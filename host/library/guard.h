// Where exceptions stop: one template turns Error, bad_alloc and anything else into a Status.
// Around every function of retort/host.h, every callback given to a plugin and every stage.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>
#include <new>
#include <string>
#include <utility>

#include "core/base/status.h"

namespace retort::host {

// Runs fn, which returns T (Status, or something made from one), and returns what it returned or
// what was thrown. The text of a bad_alloc fits the small-string buffer: it needs no memory.
template <class Fn>
auto Guard(Fn&& fn) noexcept -> decltype(fn()) {
  try {
    return std::forward<Fn>(fn)();
  } catch (const Error& e) {
    return e.status();
  } catch (const std::bad_alloc&) {
    return Status(Code::kResourceExhausted, "out of memory");
  } catch (const std::exception& e) {
    return Status(Code::kInternal, e.what());
  } catch (...) {
    return Status(Code::kInternal, "unknown exception");
  }
}

}  // namespace retort::host
