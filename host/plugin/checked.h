// The checked wrapper: the same C tables around a plugin's tables. Callers hold the wrapper's
// handle instead of the plugin's; each call is guarded against exceptions (of the plugin, and of
// the callbacks that it is given) and against a second thread, and what the plugin hands out is
// checked before anybody uses it. Bad output fails the call (or, for one sample of a reward or one
// record of a source, that one) with a text that says which rule broke.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "core/base/status.h"
#include "host/plugin/process_watch.h"
#include "retort/abi/draft/family.h"
#include "retort/abi/draft/generator.h"
#include "retort/abi/draft/loss.h"
#include "retort/abi/draft/op.h"
#include "retort/abi/draft/optimizer.h"
#include "retort/abi/draft/source.h"
#include "retort/abi/entry.h"
#include "retort/abi/filter.h"
#include "retort/abi/reward.h"

namespace retort::host {

// What a wrapper remembers from call to call.
struct KindState {
  virtual ~KindState() = default;
};

// Owns the plugin's instance. Its address is the retort_instance* that callers pass around.
struct CheckedInstance {
  CheckedInstance(const retort_entry* from, retort_instance* plugins_own)
      : entry(from), inner(plugins_own) {}
  ~CheckedInstance();
  CheckedInstance(const CheckedInstance&) = delete;
  CheckedInstance& operator=(const CheckedInstance&) = delete;

  static CheckedInstance& Of(retort_instance* handle) {
    return *reinterpret_cast<CheckedInstance*>(handle);
  }
  retort_instance* handle() { return reinterpret_cast<retort_instance*>(this); }

  // The plugin's own tables; NULL: it has none of that id.
  struct Inner {
    const retort_reward_v1* reward = nullptr;
    const retort_answer_v1* answer = nullptr;
    const retort_filter_v1* filter = nullptr;
    const retort_token_loss_v1* token_loss = nullptr;
    const retort_sequence_loss_v1* sequence_loss = nullptr;
    const retort_optimizer_v1* optimizer = nullptr;
    const retort_family_v1* family = nullptr;
    const retort_op_v1* op = nullptr;
    const retort_source_v1* source = nullptr;
    const retort_generator_v1* generator = nullptr;
  };
  // Ours, filled where the plugin has one.
  struct Outer {
    retort_reward_v1 reward{};
    retort_answer_v1 answer{};
    retort_filter_v1 filter{};
    retort_token_loss_v1 token_loss{};
    retort_sequence_loss_v1 sequence_loss{};
    retort_optimizer_v1 optimizer{};
    retort_family_v1 family{};
    retort_op_v1 op{};
    retort_source_v1 source{};
    retort_generator_v1 generator{};
  };

  const retort_entry* entry;
  retort_instance* inner;
  std::string label;  // "reward format (/path/x.so)": what RunningPlugin says during a call
  Watch watch = Watch::kNothing;  // what of the process is compared after a call
  Inner in;
  Outer out;
  const retort_loss_spec* token_spec = nullptr;  // asked once
  const retort_loss_spec* sequence_spec = nullptr;
  std::unique_ptr<KindState> source_state, generator_state;
  std::atomic<int> n_running{0};  // calls inside the plugin that are not CONCURRENT
};

// Wraps an instance just created; fails when the table that its kind must have is missing, too
// small or has NULL members. On failure the instance is destroyed.
Result<std::unique_ptr<CheckedInstance>> Wrap(const retort_entry* entry, retort_instance* inner,
                                              const std::string& kind);

// Our table with that id, or NULL.
const void* FindTable(const CheckedInstance& instance, const char* id);

// Implemented in one file per kind: copy flags and sizes, put our functions in, check what the
// tables say before any call.
void WrapReward(CheckedInstance* instance);
void WrapFilter(CheckedInstance* instance);
Status WrapTokenLoss(CheckedInstance* instance);
Status WrapSequenceLoss(CheckedInstance* instance);
void WrapOptimizer(CheckedInstance* instance);
void WrapFamily(CheckedInstance* instance);
void WrapOp(CheckedInstance* instance);
void WrapSource(CheckedInstance* instance);
void WrapGenerator(CheckedInstance* instance);

}  // namespace retort::host
