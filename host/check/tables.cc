// SPDX-License-Identifier: Apache-2.0
#include "host/check/tables.h"

#include <algorithm>

namespace retort::host::check {
namespace {

void Append(std::span<const Rule> table, std::vector<const Rule*>* out) {
  for (const Rule& rule : table) out->push_back(&rule);
}

struct KindTable {
  std::string_view kind;
  std::span<const Rule> (*rules)();
};

constexpr KindTable kKindTables[] = {
    {RETORT_KIND_REWARD, RewardRules},       {RETORT_KIND_FILTER, FilterRules},
    {RETORT_KIND_SOURCE, SourceRules},       {RETORT_KIND_GENERATOR, GeneratorRules},
    {RETORT_KIND_LOSS, TokenLossRules},      {RETORT_KIND_LOSS, SequenceLossRules},
    {RETORT_KIND_OPTIMIZER, OptimizerRules}, {RETORT_KIND_OP, OpRules},
    {RETORT_KIND_FAMILY, FamilyRules},
};

}  // namespace

std::vector<const Rule*> RulesOfLibrary() {
  std::vector<const Rule*> rules;
  Append(LibraryRules(), &rules);
  return rules;
}

std::vector<const Rule*> RulesOfPlugin(std::string_view kind) {
  std::vector<const Rule*> rules;
  Append(InstanceRules(), &rules);
  Append(GrowthRules(), &rules);
  for (const KindTable& table : kKindTables) {
    if (table.kind == kind) Append(table.rules(), &rules);
  }
  return rules;
}

std::vector<const Rule*> AllRules() {
  std::vector<const Rule*> rules = RulesOfLibrary();
  Append(InstanceRules(), &rules);
  Append(GrowthRules(), &rules);
  for (const KindTable& table : kKindTables) Append(table.rules(), &rules);
  return rules;
}

const Rule* FindRule(std::string_view id) {
  const std::vector<const Rule*> rules = AllRules();
  const auto at =
      std::find_if(rules.begin(), rules.end(), [&](const Rule* rule) { return rule->id == id; });
  return at == rules.end() ? nullptr : *at;
}

}  // namespace retort::host::check
