// SPDX-License-Identifier: Apache-2.0
#include "host/check/loss_spec.h"

#include <cmath>
#include <set>

#include "host/check/differences.h"

namespace retort::host::check {
namespace {

constexpr uint32_t kKnownFlags = RETORT_LOSS_BF16 | RETORT_LOSS_F64;
constexpr uint32_t kHintBits = 0xFFFF0000;

Finding CheckAuxNames(const retort_loss_spec& spec) {
  if (spec.n_aux > 0 && spec.aux_names == nullptr) {
    return Finding::Fail("n_aux is " + std::to_string(spec.n_aux) + ", but aux_names is NULL");
  }
  std::set<std::string> names;
  for (uint32_t i = 0; i < spec.n_aux; ++i) {
    const char* name = spec.aux_names[i];
    if (name == nullptr || *name == '\0') {
      return Finding::Fail("aux_names[" + std::to_string(i) + "] is empty, must be a name");
    }
    if (!names.insert(name).second) {
      return Finding::Fail(std::string("aux_names has \"") + name + "\" twice");
    }
  }
  return Finding::Pass();
}

}  // namespace

SpecCopy::SpecCopy(const retort_loss_spec& from) : spec(from) {
  for (uint32_t i = 0; i < from.n_aux; ++i) aux_names.emplace_back(from.aux_names[i]);
  spec.aux_names = nullptr;
}

Finding CheckSpec(const retort_loss_spec* spec, uint64_t side_inputs) {
  if (spec == nullptr) return Finding::Fail("spec gave NULL, must never");
  if (spec->struct_size < sizeof(retort_loss_spec)) {
    return Finding::Fail("the spec's struct_size is " + std::to_string(spec->struct_size) +
                         ", must be at least " + std::to_string(sizeof(retort_loss_spec)));
  }
  if ((spec->flags & ~(kKnownFlags | kHintBits)) != 0) {
    return Finding::Fail("the spec has unknown flags: " + std::to_string(spec->flags));
  }
  if (spec->grain > RETORT_GRAIN_GROUP) {
    return Finding::Fail("the spec's grain is " + std::to_string(spec->grain) +
                         ", must be RETORT_GRAIN_ROW, _SEQUENCE or _GROUP");
  }
  if (((spec->needs | spec->optional) & ~side_inputs) != 0) {
    return Finding::Fail("needs " + std::to_string(spec->needs) + " and optional " +
                         std::to_string(spec->optional) +
                         " have bits that are no side inputs of this kind of loss");
  }
  if ((spec->needs & spec->optional) != 0) {
    return Finding::Fail("the bits " + std::to_string(spec->needs & spec->optional) +
                         " are in needs and in optional, must be in one of them");
  }
  if (!(spec->teacher_temperature >= 0) || !std::isfinite(spec->teacher_temperature)) {
    return Finding::Fail("teacher_temperature is " + Number(spec->teacher_temperature) +
                         ", must be finite and at least 0");
  }
  return CheckAuxNames(*spec);
}

Finding CheckSameSpec(const SpecCopy& a, const SpecCopy& b, std::string_view when) {
  const auto differs = [&](const char* member) {
    return Finding::Fail(std::string("the spec's ") + member + " differs " + std::string(when) +
                         "; it must be a pure function of the config");
  };
  if (a.spec.flags != b.spec.flags) return differs("flags");
  if (a.spec.needs != b.spec.needs) return differs("needs");
  if (a.spec.optional != b.spec.optional) return differs("optional");
  if (a.spec.grain != b.spec.grain) return differs("grain");
  if (a.aux_names != b.aux_names) return differs("aux_names");
  if (a.spec.scratch_per_row != b.spec.scratch_per_row) return differs("scratch_per_row");
  if (a.spec.teacher_temperature != b.spec.teacher_temperature ||
      a.spec.teacher_top_k != b.spec.teacher_top_k) {
    return differs("wish for the teacher's cache");
  }
  return Finding::Pass();
}

}  // namespace retort::host::check
