// SPDX-License-Identifier: Apache-2.0
#include "tests/abi/traveller.h"

#include <cstring>
#include <deque>
#include <string_view>

#include "retort/abi/draft/family.h"
#include "retort/abi/draft/generator.h"
#include "retort/abi/draft/loss.h"
#include "retort/abi/draft/optimizer.h"
#include "retort/abi/draft/source.h"
#include "retort/abi/filter.h"

namespace retort::test {
namespace {

using host::check::GuardedBytes;
using host::check::kGrowthByte;
using host::check::kGrowthBytes;

// Function tables have no context: what the functions below stand for is kept here.
struct State {
  const retort_entry* inner = nullptr;
  Growth growth = Growth::kExact;
  const retort_filter_v1* filter = nullptr;
  const retort_source_v1* source = nullptr;
  const retort_generator_v1* generator = nullptr;
  const retort_token_loss_v1* token_loss = nullptr;
  const retort_sequence_loss_v1* sequence_loss = nullptr;
  const retort_optimizer_v1* optimizer = nullptr;
  const retort_family_v1* family = nullptr;
  const retort_builder_v1* builder = nullptr;
  std::deque<GuardedBytes> kept;
};

State& The() {
  static State state;
  return state;
}

// A copy of a struct that starts with struct_size.
void* CopyGuarded(const void* p) {
  const uint32_t size = *static_cast<const uint32_t*>(p);
  const size_t all = size + (The().growth == Growth::kGrown ? kGrowthBytes : 0);
  GuardedBytes& copy = The().kept.emplace_back(all);
  std::memset(copy.data(), kGrowthByte, all);
  std::memcpy(copy.data(), p, size);
  const auto now = static_cast<uint32_t>(all);
  std::memcpy(copy.data(), &now, sizeof now);
  return copy.data();
}

template <class T>
const T* Copied(const T* p) {
  return p == nullptr ? nullptr : static_cast<const T*>(CopyGuarded(p));
}

// ---- structs that plugins hand to callbacks

struct DecideRelay {
  const retort_filter_args* outer;
  static void Decide(void* ctx, uint64_t sample, const retort_decision* decision) {
    const retort_filter_args& outer = *static_cast<DecideRelay*>(ctx)->outer;
    outer.decide(outer.out_ctx, sample, Copied(decision));
  }
};

retort_status Judge(retort_instance* p, const retort_call* call, const retort_filter_args* args) {
  DecideRelay relay{args};
  retort_filter_args inner = *args;
  inner.out_ctx = &relay;
  inner.decide = DecideRelay::Decide;
  return The().filter->judge(p, call, &inner);
}

template <class T>
struct OnRelay {
  void* ctx;
  void (*on)(void*, const T*);
  static void On(void* self, const T* item) {
    const OnRelay& relay = *static_cast<OnRelay*>(self);
    relay.on(relay.ctx, Copied(item));
  }
};

retort_status Next(retort_instance* p, const retort_call* call, uint64_t max_n, void* ctx,
                   void (*on)(void*, const retort_record*), int32_t* end) {
  OnRelay<retort_record> relay{ctx, on};
  return The().source->next(p, call, max_n, &relay, OnRelay<retort_record>::On, end);
}

retort_status Poll(retort_instance* p, const retort_call* call, void* ctx,
                   void (*on)(void*, const retort_event*)) {
  OnRelay<retort_event> relay{ctx, on};
  return The().generator->poll(p, call, &relay, OnRelay<retort_event>::On);
}

// ---- structs that plugins return

const retort_loss_spec* TokenSpec(retort_instance* p) { return Copied(The().token_loss->spec(p)); }
const retort_loss_spec* SequenceSpec(retort_instance* p) {
  return Copied(The().sequence_loss->spec(p));
}

retort_status OptimizerSpec(retort_instance* p, const retort_call* call,
                            const retort_param_info* info, const retort_optimizer_spec** out) {
  const retort_optimizer_spec* inner = nullptr;
  const retort_status status = The().optimizer->spec(p, call, info, &inner);
  if (status != RETORT_OK) return status;
  auto* copy = static_cast<retort_optimizer_spec*>(CopyGuarded(inner));
  // The states at a stride of their own, the last one's gap up to the guard page.
  const uint64_t stride = inner->state_stride + kGrowthBytes;
  GuardedBytes& states = The().kept.emplace_back(stride * inner->n_states);
  if (inner->n_states > 0) std::memset(states.data(), kGrowthByte, states.size());
  for (uint32_t i = 0; i < inner->n_states; ++i) {
    std::memcpy(states.data() + i * stride,
                reinterpret_cast<const char*>(inner->states) + i * inner->state_stride,
                inner->state_stride);
  }
  copy->states = reinterpret_cast<const retort_state_spec*>(states.data());
  copy->state_stride = stride;
  *out = copy;
  return status;
}

// ---- structs that a family hands to the builder

retort_param Param(void* ctx, const retort_param_spec* spec) {
  return The().builder->param(ctx, Copied(spec));
}
retort_value Rope(void* ctx, retort_value x, uint32_t n_heads, const retort_rope_spec* spec) {
  return The().builder->rope(ctx, x, n_heads, Copied(spec));
}
retort_value Attention(void* ctx, retort_value q, retort_value k, retort_value v, uint32_t layer,
                       const retort_attention_spec* spec) {
  return The().builder->attention(ctx, q, k, v, layer, Copied(spec));
}

retort_status Build(retort_instance* p, const retort_call* call, retort_str config,
                    const retort_builder_v1* builder) {
  The().builder = builder;
  retort_builder_v1 inner = *builder;
  inner.param = Param;
  inner.rope = Rope;
  inner.attention = Attention;
  return The().family->build(p, call, config, &inner);
}

// ---- the entry

const retort_descriptor* Describe(uint32_t index) { return Copied(The().inner->describe(index)); }

// A guarded copy of the table with that id, with `patch` applied, and the inner one kept.
template <class Table, class Patch>
const void* Patched(const void* table, const Table** keep, Patch&& patch) {
  *keep = static_cast<const Table*>(table);
  auto* copy = static_cast<Table*>(CopyGuarded(table));
  patch(*copy);
  return copy;
}

const void* GetInterface(retort_instance* p, const char* id) {
  State& s = The();
  const void* table = s.inner->get_interface(p, id);
  const std::string_view name(id);
  if (table == nullptr) return nullptr;
  if (name == RETORT_FILTER_INTERFACE) {
    return Patched(table, &s.filter, [](retort_filter_v1& t) { t.judge = Judge; });
  }
  if (name == RETORT_SOURCE_INTERFACE) {
    return Patched(table, &s.source, [](retort_source_v1& t) { t.next = Next; });
  }
  if (name == RETORT_GENERATOR_INTERFACE) {
    return Patched(table, &s.generator, [](retort_generator_v1& t) { t.poll = Poll; });
  }
  if (name == RETORT_TOKEN_LOSS_INTERFACE) {
    return Patched(table, &s.token_loss, [](retort_token_loss_v1& t) { t.spec = TokenSpec; });
  }
  if (name == RETORT_SEQUENCE_LOSS_INTERFACE) {
    return Patched(table, &s.sequence_loss,
                   [](retort_sequence_loss_v1& t) { t.spec = SequenceSpec; });
  }
  if (name == RETORT_OPTIMIZER_INTERFACE) {
    return Patched(table, &s.optimizer, [](retort_optimizer_v1& t) { t.spec = OptimizerSpec; });
  }
  if (name == RETORT_FAMILY_INTERFACE) {
    return Patched(table, &s.family, [](retort_family_v1& t) { t.build = Build; });
  }
  return CopyGuarded(table);
}

}  // namespace

const retort_entry* Travel(const retort_entry* inner, Growth growth) {
  State& s = The();
  s.inner = inner;
  s.growth = growth;
  auto* entry = static_cast<retort_entry*>(CopyGuarded(inner));
  entry->describe = Describe;
  entry->get_interface = GetInterface;
  return entry;
}

}  // namespace retort::test
