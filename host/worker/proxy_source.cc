// Sources in a worker. After each `next` the position is saved; a fresh worker loads it, so that a
// source that died goes on where it was: each record once, in the same order. A call is given to
// the caller whole or not at all.
// SPDX-License-Identifier: Apache-2.0
#include <optional>

#include "host/worker/proxy.h"

namespace retort::host {
namespace {

class SourceProxy : public Proxy {
 public:
  explicit SourceProxy(std::unique_ptr<Supervisor> given) : Proxy(std::move(given)) {
    const TableFacts& facts = supervisor().facts();
    table_ = {.struct_size = sizeof table_,
              .flags = facts.flags,
              .next = Next,
              .save = facts.has_state ? Save : nullptr,
              .load = facts.has_state ? Load : nullptr};
    supervisor().restore = [this](const retort_call* call) { return Return(call); };
  }
  const void* Interface(std::string_view id) const override {
    return id == RETORT_SOURCE_INTERFACE ? &table_ : nullptr;
  }

 private:
  static retort_status Next(retort_instance* handle, const retort_call* call, uint64_t max_n,
                            void* ctx, void (*on)(void* ctx, const retort_record* record),
                            int32_t* end) {
    return AtEdge(call, [&] {
      SourceProxy& self = As<SourceProxy>(handle);
      Answer answer =
          self.AskTwice(FrameType::kNext, call, [&](FrameWriter& out) { out.Uint(max_n); });
      if (answer.kind != Answer::kReply) return Report(call, answer);
      FrameReader in = answer.fields;
      const bool at_end = in.Uint() != 0;
      uint64_t n = 0;
      const auto legal = [&](const Item& item) {
        return item.kind == ItemKind::kRecord && ++n <= max_n;
      };
      const auto each = [&](const Item& item) { on(ctx, &item.record); };
      const bool fits = in.ok() && HandOn(in, call, legal, each);
      if (!answer.good()) return Report(call, answer);  // what it has got stands
      if (!fits) {
        answer = self.supervisor().Violation("records that are none, or more than were asked for");
        self.GiveUpIfExhausted(answer);
        return Report(call, answer);
      }
      self.read_ = true;
      self.Remember(call);
      *end = at_end ? 1 : 0;
      return RETORT_OK;
    });
  }

  // Asks for the position; none: the next death of the worker is the source's end.
  void Remember(const retort_call* call) {
    position_.reset();
    if (table_.save == nullptr) return;
    Answer answer = supervisor().Call(FrameType::kSave, call, [](FrameWriter&) {});
    if (!answer.good()) return;
    const std::string_view state = answer.fields.Text();
    if (answer.fields.ok()) position_ = std::string(state);
  }

  Status Return(const retort_call* call) {
    if (!read_) return OkStatus();
    if (!position_.has_value()) {
      return Unavailable("its position is not known, because it could not be saved");
    }
    const Answer answer = supervisor().Call(
        FrameType::kMerge, call, [&](FrameWriter& out) { out.Text(std::string_view(*position_)); });
    if (answer.good()) return OkStatus();
    return Unavailable("it could not go back to its position: " + answer.text);
  }

  static retort_status Save(retort_instance* handle, const retort_call* call,
                            const retort_sink* sink) {
    return AtEdge(call, [&] {
      SourceProxy& self = As<SourceProxy>(handle);
      if (self.position_.has_value()) {
        return WriteAll(*sink, *self.position_) ? RETORT_OK : RETORT_ABORTED;
      }
      Answer answer = self.AskTwice(FrameType::kSave, call, [](FrameWriter&) {});
      if (!answer.good()) return Report(call, answer);
      const std::string_view state = answer.fields.Text();
      if (!answer.fields.ok()) {
        return Report(call, self.supervisor().Violation("a saved position that is none"));
      }
      return WriteAll(*sink, state) ? RETORT_OK : RETORT_ABORTED;
    });
  }

  static retort_status Load(retort_instance* handle, const retort_call* call,
                            const retort_reader* reader) {
    return AtEdge(call, [&] {
      SourceProxy& self = As<SourceProxy>(handle);
      std::string state;
      if (!ReadAll(*reader, kMaxFrameBytes / 2, &state)) return RETORT_ABORTED;
      const Answer answer = self.AskTwice(
          FrameType::kMerge, call, [&](FrameWriter& out) { out.Text(std::string_view(state)); });
      if (answer.good()) {
        self.read_ = true;
        self.position_ = std::move(state);
      }
      return Report(call, answer);
    });
  }

  retort_source_v1 table_{};
  bool read_ = false;                    // it is not at its beginning any more
  std::optional<std::string> position_;  // after the last `next`
};

}  // namespace

std::unique_ptr<Proxy> MakeSourceProxy(std::unique_ptr<Supervisor> supervisor) {
  return std::make_unique<SourceProxy>(std::move(supervisor));
}

}  // namespace retort::host
