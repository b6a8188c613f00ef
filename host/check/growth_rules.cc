// Rules of growth: a later host's structs are larger, its strides wider, its hints unknown. The
// numeric kinds have theirs in their own tables.
// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <utility>

#include "host/check/library_facts.h"
#include "host/check/rule.h"
#include "host/check/use.h"

namespace retort::host::check {
namespace {

constexpr uint32_t kHintBits = 0xFFFF0000U;
constexpr const char* kNotHere = "the structs of this kind have rules of their own";

// The same work with structs of another shape gives the same.
Finding SameWith(const Subject& subject, const UseShape& shape, const char* what) {
  if (!UseTakesShape(subject)) return Finding::Skip(kNotHere);
  const Result<std::string> expected = UseOnce(subject);
  if (!expected.ok()) return Finding::Skip("its work fails, see instance.use");
  const Result<std::string> got = UseOnce(subject, shape);
  if (!got.ok()) return Finding::Fail(std::string("with ") + what + ": " + got.status().ToString());
  if (*got == *expected || HasDescriptorFlag(subject, RETORT_PLUGIN_NETWORK)) {
    return Finding::Pass();
  }
  return Finding::Fail(std::string("with ") + what + " it gave other results");
}

// At their first size the structs end where reading is a crash.
Finding FirstSize(const Subject& subject) {
  return UseOnce(subject).ok() ? Finding::Pass()
                               : Finding::Skip("its work fails, see instance.use");
}

Finding GrownHost(const Subject& subject) {
  RETORT_FIND(RawInstance instance, RawInstance::Create(subject, Growth::kGrown));
  return Finding::Of(instance.Destroy());
}

Finding GrownCall(const Subject& subject) {
  return SameWith(subject, {.call = {.growth = Growth::kGrown}}, "a larger retort_call");
}

Finding GrownArgs(const Subject& subject) {
  if (subject.kind != RETORT_KIND_REWARD && subject.kind != RETORT_KIND_FILTER) {
    return Finding::Skip(kNotHere);
  }
  return SameWith(subject, {.call = {}, .args = Growth::kGrown}, "a larger argument struct");
}

Finding Stride(const Subject& subject) {
  if (subject.kind == RETORT_KIND_SOURCE) return Finding::Skip("sources get no array of structs");
  return SameWith(subject, {.call = {}, .stride_extra = kGrowthBytes},
                  "array elements 64 bytes further apart than their struct's size");
}

Finding Hints(const Subject& subject) {
  return SameWith(subject, {.call = {.growth = Growth::kExact, .flags = kHintBits}},
                  "bits 16 to 31 of call->flags set");
}

constexpr const char* kSize =
    "never compare struct_size with ==, never read beyond the members "
    "of your own header, never copy struct_size bytes";

constexpr Rule kRules[] = {
    {"growth.first_size", "R3", "works with structs of version 1.0, reading nothing beyond", kSize,
     FirstSize},
    {"growth.host", "R3", "create takes larger retort_host and retort_call structs", kSize,
     GrownHost},
    {"growth.call", "R3", "a larger retort_call changes nothing", kSize, GrownCall},
    {"growth.args", "R3", "a larger argument struct changes nothing", kSize, GrownArgs},
    {"growth.stride", "R3", "arrays of structs are walked by their stride",
     "step by sample_stride, group_stride or stride bytes instead of indexing the array", Stride},
    {"growth.hints", "R4", "unknown hints (flag bits 16 to 31) change nothing",
     "test the bits that you know; refuse unknown ones below 16 alone", Hints},
};

}  // namespace

std::span<const Rule> GrowthRules() { return kRules; }

}  // namespace retort::host::check
