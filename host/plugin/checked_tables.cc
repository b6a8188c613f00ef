// SPDX-License-Identifier: Apache-2.0
#include "host/plugin/checked_tables.h"

#include <cstddef>
#include <initializer_list>
#include <string>

namespace retort::host {
namespace {

constexpr uint32_t kSaneTableBytes = 1U << 16;
constexpr uint32_t kRefusedFlags = 0xFFFF;  // bits 16-31 are hints

// What a table must have. `id` names it in messages.
struct TableRule {
  const char* id;
  uint32_t size;
  uint32_t known_flags;
  std::initializer_list<size_t> functions;  // offsets of members that must not be NULL
};

bool IsDraft(std::string_view id) { return id.ends_with("/0"); }

Status CheckTable(const void* table, const TableRule& rule) {
  const char* bytes = static_cast<const char*>(table);
  const auto* head = static_cast<const uint32_t*>(table);  // struct_size, flags
  const std::string what = std::string("its table ") + rule.id;
  if (head[0] < rule.size) {
    return InvalidArgument(what + " has struct_size " + std::to_string(head[0]) +
                           ", expected at least " + std::to_string(rule.size));
  }
  if (head[0] > kSaneTableBytes) {
    return InvalidArgument(what + " has struct_size " + std::to_string(head[0]) +
                           ", which no version can have; set it to sizeof the table");
  }
  if (const uint32_t unknown = head[1] & kRefusedFlags & ~rule.known_flags; unknown != 0) {
    return Unimplemented(
        what + " has flag bits that this retort doesn't know: " + std::to_string(unknown));
  }
  for (const size_t offset : rule.functions) {
    if (*reinterpret_cast<void* const*>(bytes + offset) == nullptr) {
      return InvalidArgument(what + " has a NULL function (at byte " + std::to_string(offset) +
                             ")");
    }
  }
  return OkStatus();
}

// Asks for the table and checks it; absent is fine.
template <class Table>
Status Fetch(const CheckedInstance& self, const TableRule& rule, const Table** out) {
  if (IsDraft(rule.id) && self.entry->abi_minor != RETORT_ABI_MINOR) return OkStatus();
  const void* table = self.entry->get_interface(self.inner, rule.id);
  if (table == nullptr) return OkStatus();
  RETORT_RETURN_IF_ERROR(CheckTable(table, rule));
  *out = static_cast<const Table*>(table);
  return OkStatus();
}

#define RETORT_FN(type, member) offsetof(type, member)

Status FetchSampleKinds(CheckedInstance* self) {
  const TableRule reward = {RETORT_REWARD_INTERFACE,
                            sizeof(retort_reward_v1),
                            RETORT_REWARD_CONCURRENT | RETORT_REWARD_NEEDS_IDS |
                                RETORT_REWARD_GROUPWISE | RETORT_REWARD_PURE,
                            {RETORT_FN(retort_reward_v1, score)}};
  const TableRule answer = {
      RETORT_ANSWER_INTERFACE, sizeof(retort_answer_v1), 0, {RETORT_FN(retort_answer_v1, classes)}};
  const TableRule filter = {RETORT_FILTER_INTERFACE,
                            sizeof(retort_filter_v1),
                            RETORT_FILTER_CONCURRENT | RETORT_FILTER_NEEDS_IDS |
                                RETORT_FILTER_NEEDS_SCORES | RETORT_FILTER_NEEDS_ANSWERS,
                            {RETORT_FN(retort_filter_v1, judge)}};
  RETORT_RETURN_IF_ERROR(Fetch(*self, reward, &self->in.reward));
  RETORT_RETURN_IF_ERROR(Fetch(*self, answer, &self->in.answer));
  return Fetch(*self, filter, &self->in.filter);
}

Status FetchNumericKinds(CheckedInstance* self) {
  const TableRule token = {
      RETORT_TOKEN_LOSS_INTERFACE,
      sizeof(retort_token_loss_v1),
      0,
      {RETORT_FN(retort_token_loss_v1, spec), RETORT_FN(retort_token_loss_v1, rows)}};
  const TableRule sequence = {
      RETORT_SEQUENCE_LOSS_INTERFACE,
      sizeof(retort_sequence_loss_v1),
      0,
      {RETORT_FN(retort_sequence_loss_v1, spec), RETORT_FN(retort_sequence_loss_v1, eval)}};
  const TableRule optimizer = {
      RETORT_OPTIMIZER_INTERFACE,
      sizeof(retort_optimizer_v1),
      0,
      {RETORT_FN(retort_optimizer_v1, spec), RETORT_FN(retort_optimizer_v1, step)}};
  const TableRule family = {
      RETORT_FAMILY_INTERFACE,
      sizeof(retort_family_v1),
      0,
      {RETORT_FN(retort_family_v1, match), RETORT_FN(retort_family_v1, build)}};
  const TableRule op = {RETORT_OP_INTERFACE,
                        sizeof(retort_op_v1),
                        RETORT_OP_RECOMPUTE_OK | RETORT_OP_INPLACE | RETORT_OP_ROWWISE,
                        {RETORT_FN(retort_op_v1, infer), RETORT_FN(retort_op_v1, forward)}};
  RETORT_RETURN_IF_ERROR(Fetch(*self, token, &self->in.token_loss));
  RETORT_RETURN_IF_ERROR(Fetch(*self, sequence, &self->in.sequence_loss));
  RETORT_RETURN_IF_ERROR(Fetch(*self, optimizer, &self->in.optimizer));
  RETORT_RETURN_IF_ERROR(Fetch(*self, family, &self->in.family));
  return Fetch(*self, op, &self->in.op);
}

Status FetchDataKinds(CheckedInstance* self) {
  const TableRule source = {RETORT_SOURCE_INTERFACE,
                            sizeof(retort_source_v1),
                            0,
                            {RETORT_FN(retort_source_v1, next), RETORT_FN(retort_source_v1, save),
                             RETORT_FN(retort_source_v1, load)}};
  const TableRule generator = {
      RETORT_GENERATOR_INTERFACE,
      sizeof(retort_generator_v1),
      0,
      {RETORT_FN(retort_generator_v1, submit), RETORT_FN(retort_generator_v1, poll),
       RETORT_FN(retort_generator_v1, cancel)}};
  RETORT_RETURN_IF_ERROR(Fetch(*self, source, &self->in.source));
  return Fetch(*self, generator, &self->in.generator);
}

#undef RETORT_FN

// Functions that come together or not at all.
Status CheckPairs(const CheckedInstance::Inner& in) {
  if (const retort_filter_v1* f = in.filter; f != nullptr && f->n_observe_passes > 0) {
    if (f->observe == nullptr || f->end_pass == nullptr || f->save == nullptr ||
        f->merge == nullptr) {
      return InvalidArgument("it has observe passes, but observe, end_pass, save or merge is NULL");
    }
  }
  if (const retort_optimizer_v1* o = in.optimizer; o != nullptr) {
    if ((o->save == nullptr) != (o->load == nullptr)) {
      return InvalidArgument("it has one of save and load; both or neither must be NULL");
    }
  }
  return OkStatus();
}

// The ids that serve a kind, and whether one of them is there.
struct MainTable {
  const char* id;  // NULL: the kind is not known
  const void* table;
  const char* other_id = nullptr;
};

MainTable MainTableOf(const CheckedInstance::Inner& in, std::string_view kind) {
  if (kind == RETORT_KIND_REWARD) return {RETORT_REWARD_INTERFACE, in.reward};
  if (kind == RETORT_KIND_FILTER) return {RETORT_FILTER_INTERFACE, in.filter};
  if (kind == RETORT_KIND_OPTIMIZER) return {RETORT_OPTIMIZER_INTERFACE, in.optimizer};
  if (kind == RETORT_KIND_FAMILY) return {RETORT_FAMILY_INTERFACE, in.family};
  if (kind == RETORT_KIND_OP) return {RETORT_OP_INTERFACE, in.op};
  if (kind == RETORT_KIND_SOURCE) return {RETORT_SOURCE_INTERFACE, in.source};
  if (kind == RETORT_KIND_GENERATOR) return {RETORT_GENERATOR_INTERFACE, in.generator};
  if (kind == RETORT_KIND_LOSS) {
    const void* sequence = in.sequence_loss;
    return {RETORT_TOKEN_LOSS_INTERFACE, in.token_loss != nullptr ? in.token_loss : sequence,
            RETORT_SEQUENCE_LOSS_INTERFACE};
  }
  return {nullptr, nullptr};
}

}  // namespace

Status FetchTables(CheckedInstance* self) {
  RETORT_RETURN_IF_ERROR(FetchSampleKinds(self));
  RETORT_RETURN_IF_ERROR(FetchNumericKinds(self));
  RETORT_RETURN_IF_ERROR(FetchDataKinds(self));
  return CheckPairs(self->in);
}

Status CheckMainTable(const CheckedInstance& self, std::string_view kind) {
  const MainTable main = MainTableOf(self.in, kind);
  if (main.id == nullptr) {
    return Unimplemented("this version of retort can't run plugins of kind " + std::string(kind));
  }
  if (main.table != nullptr) return OkStatus();
  const uint32_t minor = self.entry->abi_minor;
  if (IsDraft(main.id) && minor != RETORT_ABI_MINOR) {
    return FailedPrecondition(
        std::string("interface ") + main.id +
        " is a draft: it works only if library and host have the same ABI version, but the "
        "library was built with 1." +
        std::to_string(minor) + ", this retort has 1." + std::to_string(RETORT_ABI_MINOR) +
        "; build it with this version's SDK");
  }
  std::string ids = main.id;
  if (main.other_id != nullptr) ids += std::string(" nor ") + main.other_id;
  return FailedPrecondition("it has no interface " + ids +
                            "; it may speak another revision: build it with this version's SDK");
}

}  // namespace retort::host
