// Filters in a worker. judge is halved between groups like a reward's batch. What a filter has
// observed must outlive its worker:
//
// Method: the host keeps a journal of the calls that changed the instance (observe, merge,
// end_pass) and repeats it in a fresh instance. When the part of the journal since the last
// finished pass grows beyond both a floor and twice the last saved state, the worker is asked to
// save, and one merge of that state takes the part's place; so memory stays within about three
// states, and the work of saving is proportional to what was observed. Finished passes keep
// "merge, end_pass", the sequence that the ABI itself defines for shards. Rejected: a save after
// each observe (quadratic for a filter like dedup), and giving up at the first death (a worker
// killed from outside would cost the run).
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <vector>

#include "host/worker/halving.h"
#include "host/worker/proxy.h"

namespace retort::host {
namespace {

constexpr uint64_t kJournalFloor = uint64_t{16} << 20;

// One call of judge.
class Judging {
 public:
  Judging(Supervisor& supervisor, const retort_call* call, const retort_filter_args& args)
      : supervisor_(supervisor), call_(call), args_(args) {}

  retort_status Run() {
    const HalvingHooks hooks{.attempt =
                                 [&](uint64_t first, uint64_t n) {
                                   return Try({first, n});
                                 },
                             .mark =
                                 [&](uint64_t first, uint64_t n, Attempt) {
                                   Mark({first, n});
                                 },
                             .exhausted = [&] { return supervisor_.Exhausted(); },
                             .n_probes = supervisor_.max_restarts()};
    const HalvingEnd end = Halve(args_.n_groups, hooks);
    if (any_good_) supervisor_.NoteGood();
    if (end == HalvingEnd::kOut) supervisor_.GiveUp();
    if (end != HalvingEnd::kStopped) return RETORT_OK;
    return Report(call_, stop_);
  }

 private:
  Attempt Try(GroupRange groups) {
    const bool whole = groups.n == args_.n_groups;
    const auto ask = [&] {
      return supervisor_.Call(FrameType::kJudge, call_,
                              [&](FrameWriter& out) { PutFilterArgs(args_, groups, out); });
    };
    Answer answer = ask();
    const bool alone = whole && groups.n <= 1;
    if (alone && answer.kind == Answer::kFailed && !supervisor_.Exhausted()) answer = ask();
    if (answer.good() && !Accept(answer, SamplesOf(args_, groups))) {
      answer = supervisor_.Violation("a reply to judge that does not fit its groups");
    }
    text_ = answer.text;
    switch (answer.kind) {
      case Answer::kFailed: return Attempt::kFailed;
      case Answer::kTimedOut: return Attempt::kTimedOut;
      case Answer::kTooLarge: return Attempt::kTooLarge;
      case Answer::kCancelled:
      case Answer::kOut: break;
      case Answer::kReply:
        if (answer.good()) {
          any_good_ = true;
          return Attempt::kGood;
        }
        if (!whole && answer.status != RETORT_CANCELLED) {
          Mark(groups);
          return Attempt::kGood;  // the plugin answered: it can't judge these
        }
        break;
    }
    stop_ = std::move(answer);
    return Attempt::kStop;
  }

  bool Accept(const Answer& answer, GroupRange samples) {
    const auto legal = [&](const Item& item) {
      return item.kind == ItemKind::kDecision && item.index < samples.n;
    };
    const auto each = [&](const Item& item) {
      args_.decide(args_.out_ctx, samples.first + item.index, &item.decision);
    };
    return HandOn(answer.fields, call_, legal, each);
  }

  void Mark(GroupRange groups) {
    const GroupRange samples = SamplesOf(args_, groups);
    retort_decision decision{};
    decision.struct_size = sizeof decision;
    decision.action = RETORT_ERROR;
    decision.reason = ToStr(text_.empty() ? std::string_view("no verdict") : text_);
    for (uint64_t i = 0; i < samples.n; ++i) {
      args_.decide(args_.out_ctx, samples.first + i, &decision);
    }
  }

  Supervisor& supervisor_;
  const retort_call* call_;
  const retort_filter_args& args_;
  std::string text_;  // of the last failure
  bool any_good_ = false;
  Answer stop_;
};

class FilterProxy : public Proxy {
 public:
  explicit FilterProxy(std::unique_ptr<Supervisor> given) : Proxy(std::move(given)) {
    const TableFacts& facts = supervisor().facts();
    table_ = {.struct_size = sizeof table_,
              .flags = facts.flags & ~RETORT_FILTER_CONCURRENT,
              .n_observe_passes = facts.n_observe_passes,
              ._pad = 0,
              .observe = facts.n_observe_passes > 0 ? Observe : nullptr,
              .end_pass = facts.n_observe_passes > 0 ? EndPass : nullptr,
              .judge = Judge,
              .save = facts.has_state ? Save : nullptr,
              .merge = facts.has_state ? Merge : nullptr};
    supervisor().restore = [this](const retort_call* call) { return Repeat(call); };
  }
  const void* Interface(std::string_view id) const override {
    return id == RETORT_FILTER_INTERFACE ? &table_ : nullptr;
  }

 private:
  struct Entry {
    FrameType type;
    std::string fields;
  };

  // Asks for something that changes the instance, and remembers it.
  retort_status Change(FrameType type, const retort_call* call, std::string fields) {
    const Answer answer =
        AskTwice(type, call, [&](FrameWriter& out) { out.Bytes(fields.data(), fields.size()); });
    if (answer.good()) {
      const auto none = [](const Item&) { return false; };
      HandOn(answer.fields, call, none, none);  // metrics
      open_bytes_ += fields.size();
      journal_.push_back({type, std::move(fields)});
    }
    return Report(call, answer);
  }

  void Shorten(const retort_call* call) {
    if (open_bytes_ <= std::max(kJournalFloor, 2 * state_bytes_)) return;
    const Answer answer = supervisor().Call(FrameType::kSave, call, [](FrameWriter&) {});
    FrameReader in = answer.fields;
    const std::string_view state = answer.good() ? in.Text() : std::string_view();
    if (!answer.good() || !in.ok()) {
      state_bytes_ = std::max(2 * state_bytes_, open_bytes_);  // goes on with the longer journal
      return;
    }
    FrameWriter merge;
    merge.Text(state);
    journal_.resize(open_begin_);
    journal_.push_back({FrameType::kMerge, merge.Flatten()});
    state_bytes_ = state.size();
    open_bytes_ = 0;
  }

  Status Repeat(const retort_call* call) {
    for (const Entry& entry : journal_) {
      const Answer answer = supervisor().Call(entry.type, call, [&](FrameWriter& out) {
        out.Bytes(entry.fields.data(), entry.fields.size());
      });
      if (answer.good()) continue;
      return Unavailable("what it had observed could not be repeated: " + answer.text);
    }
    return OkStatus();
  }

  static retort_status Observe(retort_instance* handle, const retort_call* call,
                               const retort_filter_args* args) {
    return AtEdge(call, [&] {
      FilterProxy& self = As<FilterProxy>(handle);
      FrameWriter fields;
      PutFilterArgs(*args, {0, args->n_groups}, fields);
      if (fields.size() > kMaxFrameBytes) return TooLarge(call, fields.size());
      const retort_status status = self.Change(FrameType::kObserve, call, fields.Flatten());
      if (status == RETORT_OK) self.Shorten(call);
      return status;
    });
  }

  static retort_status EndPass(retort_instance* handle, const retort_call* call, uint32_t pass) {
    return AtEdge(call, [&] {
      FilterProxy& self = As<FilterProxy>(handle);
      FrameWriter fields;
      fields.Uint(pass);
      const retort_status status = self.Change(FrameType::kEndPass, call, fields.Flatten());
      if (status != RETORT_OK) return status;
      self.open_begin_ = self.journal_.size();
      self.open_bytes_ = self.state_bytes_ = 0;
      return status;
    });
  }

  static retort_status Judge(retort_instance* handle, const retort_call* call,
                             const retort_filter_args* args) {
    return AtEdge(call,
                  [&] { return Judging(As<FilterProxy>(handle).supervisor(), call, *args).Run(); });
  }

  static retort_status Save(retort_instance* handle, const retort_call* call,
                            const retort_sink* sink) {
    return AtEdge(call, [&] {
      FilterProxy& self = As<FilterProxy>(handle);
      Answer answer = self.AskTwice(FrameType::kSave, call, [](FrameWriter&) {});
      if (!answer.good()) return Report(call, answer);
      const std::string_view state = answer.fields.Text();
      if (!answer.fields.ok()) {
        return Report(call, self.supervisor().Violation("a saved state that is none"));
      }
      return WriteAll(*sink, state) ? RETORT_OK : RETORT_ABORTED;
    });
  }

  static retort_status Merge(retort_instance* handle, const retort_call* call,
                             const retort_reader* reader) {
    return AtEdge(call, [&] {
      FilterProxy& self = As<FilterProxy>(handle);
      std::string state;
      if (!ReadAll(*reader, kMaxFrameBytes / 2, &state)) return RETORT_ABORTED;
      FrameWriter fields;
      fields.Text(std::string_view(state));
      return self.Change(FrameType::kMerge, call, fields.Flatten());
    });
  }

  static retort_status TooLarge(const retort_call* call, uint64_t bytes) {
    Answer answer;
    answer.status = RETORT_RESOURCE_EXHAUSTED;
    answer.text = "a call to observe has " + std::to_string(bytes) +
                  " bytes, a worker takes at most " + std::to_string(kMaxFrameBytes);
    return Report(call, answer);
  }

  retort_filter_v1 table_{};
  std::vector<Entry> journal_;
  size_t open_begin_ = 0;  // of the journal: the pass that is not finished
  uint64_t open_bytes_ = 0, state_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Proxy> MakeFilterProxy(std::unique_ptr<Supervisor> supervisor) {
  return std::make_unique<FilterProxy>(std::move(supervisor));
}

}  // namespace retort::host
