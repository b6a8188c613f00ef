// What leaves a plugin's C++ as a status: one table of throwers.
// SPDX-License-Identifier: Apache-2.0
#include "retort/sdk/guard.h"

#include <gtest/gtest.h>

#include <functional>
#include <new>
#include <stdexcept>

#include "core/base/plugin_call.h"

namespace retort::sdk {
namespace {

struct Case {
  const char* name;
  std::function<void()> fn;
  retort_status status;
  const char* text;
};

TEST(Guard, TurnsWhatIsThrownIntoStatusAndText) {
  const Case cases[] = {
      {"nothing", [] {}, RETORT_OK, ""},
      {"failure", [] { throw Failure(RETORT_NOT_FOUND, "no x"); }, RETORT_NOT_FOUND, "no x"},
      {"failure that says ok", [] { throw Failure(RETORT_OK, "?"); }, RETORT_INTERNAL, "?"},
      {"bad_alloc", [] { throw std::bad_alloc(); }, RETORT_RESOURCE_EXHAUSTED, "out of memory"},
      {"exception", [] { throw std::out_of_range("far"); }, RETORT_INTERNAL, "far"},
      {"anything", [] { throw 1; }, RETORT_INTERNAL, "unknown exception"},
  };
  for (const Case& c : cases) {
    PluginCall call("reward x");
    EXPECT_EQ(Guard(call.Begin(), c.fn), c.status) << c.name;
    EXPECT_EQ(call.error_text(), c.text) << c.name;
  }
}

TEST(Attempt, FailureOfAnItemIsHandledEndOfTheCallIsNot) {
  const auto on_failure = [](std::string_view) { return -1; };
  EXPECT_EQ(Attempt([] { return 1; }, on_failure), 1);
  EXPECT_EQ(Attempt([]() -> int { throw Failure("bad item"); }, on_failure), -1);
  EXPECT_THROW(Attempt([]() -> int { throw Failure(RETORT_CANCELLED, "stop"); }, on_failure),
               Failure);
}

}  // namespace
}  // namespace retort::sdk
