// SPDX-License-Identifier: Apache-2.0
#include "host/plugin/checked.h"

#include <cstddef>
#include <string_view>

#include "host/library/guard.h"

namespace retort::host {
namespace {

// What a table must have. `id` names it in messages.
struct TableRule {
  const char* id;
  uint32_t size;
  std::initializer_list<size_t> functions;  // offsets of members that must not be NULL
};

Status CheckTable(const void* table, const TableRule& rule) {
  const char* bytes = static_cast<const char*>(table);
  const uint32_t size = *static_cast<const uint32_t*>(table);
  if (size < rule.size) {
    return InvalidArgument(std::string("its table ") + rule.id + " has struct_size " +
                           std::to_string(size) + ", expected at least " +
                           std::to_string(rule.size));
  }
  for (const size_t offset : rule.functions) {
    if (*reinterpret_cast<void* const*>(bytes + offset) == nullptr) {
      return InvalidArgument(std::string("its table ") + rule.id +
                             " has a NULL function (at byte " + std::to_string(offset) + ")");
    }
  }
  return OkStatus();
}

// Asks for the table and checks it; absent is fine.
template <class Table>
Status Fetch(const CheckedInstance& self, const TableRule& rule, const Table** out) {
  const void* table = self.entry->get_interface(self.inner, rule.id);
  if (table == nullptr) return OkStatus();
  RETORT_RETURN_IF_ERROR(CheckTable(table, rule));
  *out = static_cast<const Table*>(table);
  return OkStatus();
}

Status FetchAll(CheckedInstance* self) {
  RETORT_RETURN_IF_ERROR(Fetch(
      *self,
      {RETORT_REWARD_INTERFACE, sizeof(retort_reward_v1), {offsetof(retort_reward_v1, score)}},
      &self->in.reward));
  RETORT_RETURN_IF_ERROR(Fetch(
      *self,
      {RETORT_ANSWER_INTERFACE, sizeof(retort_answer_v1), {offsetof(retort_answer_v1, classes)}},
      &self->in.answer));
  RETORT_RETURN_IF_ERROR(Fetch(
      *self,
      {RETORT_FILTER_INTERFACE, sizeof(retort_filter_v1), {offsetof(retort_filter_v1, judge)}},
      &self->in.filter));
  RETORT_RETURN_IF_ERROR(
      Fetch(*self,
            {RETORT_TOKEN_LOSS_INTERFACE,
             sizeof(retort_token_loss_v1),
             {offsetof(retort_token_loss_v1, spec), offsetof(retort_token_loss_v1, rows)}},
            &self->in.token_loss));
  RETORT_RETURN_IF_ERROR(
      Fetch(*self,
            {RETORT_OPTIMIZER_INTERFACE,
             sizeof(retort_optimizer_v1),
             {offsetof(retort_optimizer_v1, spec), offsetof(retort_optimizer_v1, step)}},
            &self->in.optimizer));
  return Fetch(*self,
               {RETORT_FAMILY_INTERFACE,
                sizeof(retort_family_v1),
                {offsetof(retort_family_v1, match), offsetof(retort_family_v1, build)}},
               &self->in.family);
}

// The table without which an instance of a kind is of no use.
Status CheckMainTable(const CheckedInstance::Inner& in, std::string_view kind) {
  const void* table = nullptr;
  const char* id = nullptr;
  if (kind == RETORT_KIND_REWARD) table = in.reward, id = RETORT_REWARD_INTERFACE;
  if (kind == RETORT_KIND_FILTER) table = in.filter, id = RETORT_FILTER_INTERFACE;
  if (kind == RETORT_KIND_LOSS) table = in.token_loss, id = RETORT_TOKEN_LOSS_INTERFACE;
  if (kind == RETORT_KIND_OPTIMIZER) table = in.optimizer, id = RETORT_OPTIMIZER_INTERFACE;
  if (kind == RETORT_KIND_FAMILY) table = in.family, id = RETORT_FAMILY_INTERFACE;
  if (id == nullptr) {
    return Unimplemented("this version of retort can't run plugins of kind " + std::string(kind));
  }
  if (table == nullptr) {
    return FailedPrecondition(std::string("it has no interface ") + id +
                              "; it may speak another revision: build it with this version's SDK");
  }
  return OkStatus();
}

Status CheckPasses(const retort_filter_v1* filter) {
  if (filter == nullptr || filter->n_observe_passes == 0) return OkStatus();
  if (filter->observe != nullptr && filter->end_pass != nullptr && filter->save != nullptr &&
      filter->merge != nullptr) {
    return OkStatus();
  }
  return InvalidArgument("it has observe passes, but observe, end_pass, save or merge is NULL");
}

}  // namespace

CheckedInstance::~CheckedInstance() {
  const Status ignored = Guard([&]() -> Status {
    entry->destroy(inner);
    return OkStatus();
  });
  (void)ignored.ok();  // nobody is left to tell
}

Result<std::unique_ptr<CheckedInstance>> Wrap(const retort_entry* entry, retort_instance* inner,
                                              const std::string& kind) {
  auto self = std::make_unique<CheckedInstance>(entry, inner);
  RETORT_RETURN_IF_ERROR(Guard([&]() -> Status { return FetchAll(self.get()); }));
  RETORT_RETURN_IF_ERROR(CheckMainTable(self->in, kind));
  RETORT_RETURN_IF_ERROR(CheckPasses(self->in.filter));
  if (self->in.reward != nullptr || self->in.answer != nullptr) WrapReward(self.get());
  if (self->in.filter != nullptr) WrapFilter(self.get());
  if (self->in.token_loss != nullptr) {
    RETORT_RETURN_IF_ERROR(Guard([&]() -> Status { return CheckLossSpec(*self); }));
    WrapLoss(self.get());
  }
  if (self->in.optimizer != nullptr) WrapOptimizer(self.get());
  if (self->in.family != nullptr) WrapFamily(self.get());
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
        pick(RETORT_OPTIMIZER_INTERFACE, self.in.optimizer, &self.out.optimizer),
        pick(RETORT_FAMILY_INTERFACE, self.in.family, &self.out.family)}) {
    if (table != nullptr) return table;
  }
  return nullptr;
}

}  // namespace retort::host
