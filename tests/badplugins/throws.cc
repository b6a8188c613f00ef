// A reward plugin that lets exceptions out across the C edge: from init, describe, create, score or
// destroy. With THROWS_INSIDE it catches its own: fine, however it is linked.
// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <stdexcept>

#include "retort/abi/entry.h"
#include "retort/abi/reward.h"

namespace {

int the_object = 0;

[[maybe_unused]] retort_status AllOne(const retort_reward_args* args) {
  for (uint64_t i = 0; i < args->n; ++i) {
    args->score[i] = 1;
    args->status[i] = RETORT_SCORE_OK;
  }
  return RETORT_OK;
}

retort_status Score(retort_instance*, const retort_call*,
                    [[maybe_unused]] const retort_reward_args* args) {
#ifdef THROWS_INSIDE
  try {
    throw std::runtime_error("thrown by score");
  } catch (const std::exception&) {
    return AllOne(args);
  }
#elif defined(BAD_DESTROY)
  return AllOne(args);
#else
  throw std::runtime_error("thrown by score");
#endif
}

const retort_reward_v1 kReward = {sizeof(retort_reward_v1), 0, 0, Score};

retort_status Init(const char*) {
#ifdef BAD_INIT
  throw std::runtime_error("thrown by init");
#else
  return RETORT_OK;
#endif
}
uint32_t Count() { return 1; }
const retort_descriptor* Describe(uint32_t index) {
  static const retort_descriptor kDescriptor = {
      sizeof(retort_descriptor), 0, "reward", "throws", "1.0.0", "throws", nullptr};
#ifdef BAD_DESCRIBE
  throw std::runtime_error("thrown by describe");
#endif
  return index == 0 ? &kDescriptor : nullptr;
}
retort_status Create(const retort_host*, const retort_call* call, const char* kind, const char* id,
                     retort_str, retort_instance** out) {
  if (std::strcmp(kind, "reward") != 0 || std::strcmp(id, "throws") != 0) {
    call->error(call->ctx, RETORT_NOT_FOUND, retort_str{"no such plugin", 14});
    return RETORT_NOT_FOUND;
  }
#ifdef BAD_CREATE
  throw 42;
#else
  *out = reinterpret_cast<retort_instance*>(&the_object);
  return RETORT_OK;
#endif
}
void Destroy(retort_instance*) {
#ifndef THROWS_INSIDE
  throw std::runtime_error("thrown by destroy");
#endif
}
const void* GetInterface(retort_instance*, const char* id) {
  return std::strcmp(id, RETORT_REWARD_INTERFACE) == 0 ? &kReward : nullptr;
}

const retort_entry kEntry = {sizeof(retort_entry),
                             RETORT_ABI_MINOR,
                             "throws",
                             "1.0.0",
                             "Apache-2.0",
                             "for tests",
                             Init,
                             nullptr,
                             Count,
                             Describe,
                             Create,
                             Destroy,
                             GetInterface};

}  // namespace

extern "C" __attribute__((visibility("default"))) const retort_entry* retort_plugin_entry_v1() {
  return &kEntry;
}
