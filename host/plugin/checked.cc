// SPDX-License-Identifier: Apache-2.0
#include "host/plugin/checked.h"

#include <string_view>

#include "host/library/guard.h"
#include "host/plugin/checked_tables.h"
#include "host/plugin/running.h"

namespace retort::host {

CheckedInstance::~CheckedInstance() {
  const RunningScope running(label.c_str());
  const Status ignored = Guard([&]() -> Status {
    entry->destroy(inner);
    return OkStatus();
  });
  (void)ignored.ok();  // nobody is left to tell
}

Result<std::unique_ptr<CheckedInstance>> Wrap(const retort_entry* entry, retort_instance* inner,
                                              const std::string& kind) {
  auto self = std::make_unique<CheckedInstance>(entry, inner);
  const CheckedInstance::Inner& in = self->in;
  RETORT_RETURN_IF_ERROR(Guard([&]() -> Status { return FetchTables(self.get()); }));
  RETORT_RETURN_IF_ERROR(CheckMainTable(*self, kind));
  if (in.reward != nullptr || in.answer != nullptr) WrapReward(self.get());
  if (in.filter != nullptr) WrapFilter(self.get());
  if (in.token_loss != nullptr) RETORT_RETURN_IF_ERROR(WrapTokenLoss(self.get()));
  if (in.sequence_loss != nullptr) RETORT_RETURN_IF_ERROR(WrapSequenceLoss(self.get()));
  if (in.optimizer != nullptr) WrapOptimizer(self.get());
  if (in.family != nullptr) WrapFamily(self.get());
  if (in.op != nullptr) WrapOp(self.get());
  if (in.source != nullptr) WrapSource(self.get());
  if (in.generator != nullptr) WrapGenerator(self.get());
  return self;
}

const void* FindTable(const CheckedInstance& self, const char* id) {
  const std::string_view wanted(id);
  const auto pick = [&](const char* known, const void* inner, const void* outer) {
    return wanted == known && inner != nullptr ? outer : nullptr;
  };
  for (const void* table :
       {pick(RETORT_REWARD_INTERFACE, self.in.reward, &self.out.reward),
        pick(RETORT_ANSWER_INTERFACE, self.in.answer, &self.out.answer),
        pick(RETORT_FILTER_INTERFACE, self.in.filter, &self.out.filter),
        pick(RETORT_TOKEN_LOSS_INTERFACE, self.in.token_loss, &self.out.token_loss),
        pick(RETORT_SEQUENCE_LOSS_INTERFACE, self.in.sequence_loss, &self.out.sequence_loss),
        pick(RETORT_OPTIMIZER_INTERFACE, self.in.optimizer, &self.out.optimizer),
        pick(RETORT_FAMILY_INTERFACE, self.in.family, &self.out.family),
        pick(RETORT_OP_INTERFACE, self.in.op, &self.out.op),
        pick(RETORT_SOURCE_INTERFACE, self.in.source, &self.out.source),
        pick(RETORT_GENERATOR_INTERFACE, self.in.generator, &self.out.generator)}) {
    if (table != nullptr) return table;
  }
  return nullptr;
}

}  // namespace retort::host
