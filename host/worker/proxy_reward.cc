// Rewards in a worker: a batch that kills or hangs it is halved until the guilty samples are
// known; they get an error or a timeout, all others their score.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <limits>
#include <vector>

#include "core/json/json.h"
#include "host/worker/halving.h"
#include "host/worker/proxy.h"

namespace retort::host {
namespace {

std::string ErrorJson(std::string_view text) {
  json::Writer out;
  return out.BeginObject().Field("error", text).EndObject().Take();
}

// One call of score.
class Scoring {
 public:
  Scoring(Supervisor& supervisor, const retort_call* call, const retort_reward_args& args)
      : supervisor_(supervisor), call_(call), args_(args) {
    const bool groupwise = (supervisor.facts().flags & RETORT_REWARD_GROUPWISE) != 0;
    for (uint64_t i = 0; i < args.n; ++i) {
      if (i == 0 || !groupwise || Sample(i).group != Sample(i - 1).group) begins_.push_back(i);
    }
    begins_.push_back(args.n);
    if (args.n == 0) begins_.push_back(0);
  }

  retort_status Run() {
    const uint64_t n_units = args_.n == 0 ? 0 : begins_.size() - 1;
    const HalvingHooks hooks{
        .attempt = [&](uint64_t first, uint64_t n) { return Try(first, n, n == n_units); },
        .mark = [&](uint64_t first, uint64_t n, Attempt why) { Mark(Samples(first, n), why); },
        .exhausted = [&] { return supervisor_.Exhausted(); },
        .n_probes = supervisor_.max_restarts()};
    const HalvingEnd end = Halve(n_units, hooks);
    if (any_good_) supervisor_.NoteGood();
    if (end == HalvingEnd::kOut) supervisor_.GiveUp();
    if (end != HalvingEnd::kStopped) return RETORT_OK;
    return Report(call_, stop_);
  }

 private:
  struct Range {
    uint64_t first, n;
  };
  const retort_sample& Sample(uint64_t i) const {
    return SampleSlice{args_.samples, args_.sample_stride, 0, args_.n}.at(i);
  }
  Range Samples(uint64_t first_unit, uint64_t n_units) const {
    return {begins_[first_unit], begins_[first_unit + n_units] - begins_[first_unit]};
  }

  Attempt Try(uint64_t first_unit, uint64_t n_units, bool whole) {
    const Range range = Samples(first_unit, n_units);
    const auto ask = [&] {
      return supervisor_.Call(FrameType::kScore, call_, [&](FrameWriter& out) {
        PutSamples({args_.samples, args_.sample_stride, range.first, range.n}, out);
      });
    };
    Answer answer = ask();
    // A unit that was never tried in company gets a second chance before it is called bad.
    const bool alone = whole && n_units <= 1;
    if (alone && answer.kind == Answer::kFailed && !supervisor_.Exhausted()) answer = ask();
    if (answer.good() && !Accept(answer, range)) {
      answer = supervisor_.Violation("a reply to score that does not fit its batch");
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
          Mark(range, Attempt::kFailed);
          return Attempt::kGood;  // the plugin answered: it has nothing to say about these
        }
        break;
    }
    stop_ = std::move(answer);
    return Attempt::kStop;
  }

  // False: the reply is not one to these samples.
  bool Accept(const Answer& answer, Range range) {
    FrameReader in = answer.fields;
    const std::span<const double> scores = in.Array<double>(range.n);
    const std::span<const uint8_t> statuses = in.Array<uint8_t>(range.n);
    if (!in.ok()) return false;
    const auto legal = [&](const Item& item) {
      return item.kind == ItemKind::kInfo && item.index < range.n;
    };
    const auto each = [&](const Item& item) {
      if (args_.info != nullptr) {
        args_.info(args_.info_ctx, range.first + item.index, item.text);
      }
    };
    if (!HandOn(in, call_, legal, each)) return false;
    std::copy(scores.begin(), scores.end(), args_.score + range.first);
    std::copy(statuses.begin(), statuses.end(), args_.status + range.first);
    return true;
  }

  void Mark(Range range, Attempt why) {
    const std::string json = ErrorJson(text_);
    for (uint64_t i = range.first; i < range.first + range.n; ++i) {
      args_.score[i] = std::numeric_limits<double>::quiet_NaN();
      args_.status[i] = why == Attempt::kTimedOut ? RETORT_SCORE_TIMEOUT : RETORT_SCORE_ERROR;
      if (args_.info != nullptr) args_.info(args_.info_ctx, i, ToStr(json));
    }
  }

  Supervisor& supervisor_;
  const retort_call* call_;
  const retort_reward_args& args_;
  std::vector<uint64_t> begins_;  // first sample of each unit, then the end
  std::string text_;              // of the last failure
  bool any_good_ = false;
  Answer stop_;
};

class RewardProxy : public Proxy {
 public:
  explicit RewardProxy(std::unique_ptr<Supervisor> supervisor) : Proxy(std::move(supervisor)) {
    const TableFacts& facts = this->supervisor().facts();
    reward_ = {.struct_size = sizeof reward_,
               .flags = facts.flags & ~RETORT_REWARD_CONCURRENT,
               .preferred_batch = facts.preferred_batch,
               .score = Score};
    answer_ = {.struct_size = sizeof answer_, .flags = 0, .classes = Classes};
    has_answers_ = facts.has_answers;
  }
  const void* Interface(std::string_view id) const override {
    if (id == RETORT_REWARD_INTERFACE) return &reward_;
    return id == RETORT_ANSWER_INTERFACE && has_answers_ ? &answer_ : nullptr;
  }

 private:
  static retort_status Score(retort_instance* handle, const retort_call* call,
                             const retort_reward_args* args) {
    return AtEdge(call,
                  [&] { return Scoring(As<RewardProxy>(handle).supervisor(), call, *args).Run(); });
  }

  // A group is asked once: one that kills the worker would do so again.
  static retort_status Classes(retort_instance* handle, const retort_call* call,
                               const retort_sample* samples, uint64_t stride, uint64_t n,
                               int64_t* first_equal) {
    return AtEdge(call, [&] {
      RewardProxy& self = As<RewardProxy>(handle);
      Answer answer = self.supervisor().Call(FrameType::kClasses, call, [&](FrameWriter& out) {
        PutSamples({samples, stride, 0, n}, out);
      });
      if (answer.good()) {
        FrameReader in = answer.fields;
        const std::span<const int64_t> classes = in.Array<int64_t>(n);
        const auto none = [](const Item&) { return false; };
        if (in.ok() && HandOn(in, call, none, none)) {
          std::copy(classes.begin(), classes.end(), first_equal);
        } else {
          answer = self.supervisor().Violation("a reply to classes that does not fit its group");
        }
      }
      self.GiveUpIfExhausted(answer);
      return Report(call, answer);
    });
  }

  retort_reward_v1 reward_{};
  retort_answer_v1 answer_{};
  bool has_answers_ = false;
};

}  // namespace

std::unique_ptr<Proxy> MakeRewardProxy(std::unique_ptr<Supervisor> supervisor) {
  return std::make_unique<RewardProxy>(std::move(supervisor));
}

}  // namespace retort::host
