// SPDX-License-Identifier: Apache-2.0
#include "host/worker/halving.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <deque>

namespace retort::host {
namespace {

struct Range {
  uint64_t first, n;
};

class Halving {
 public:
  Halving(uint64_t n, const HalvingHooks& hooks) : hooks_(hooks) {
    const auto levels = static_cast<uint64_t>(std::bit_width(n));  // log2(n) + 1
    timeouts_left_ = levels + 1;
    failures_left_ = 8 * levels;
    queue_.push_back({0, n});
  }

  HalvingEnd Run() {
    while (!queue_.empty()) {
      const Range range = queue_.front();
      queue_.pop_front();
      const Attempt outcome = hooks_.attempt(range.first, range.n);
      if (outcome == Attempt::kStop) return HalvingEnd::kStopped;
      if (outcome == Attempt::kGood) {
        seen_good_ = true;
        continue;
      }
      Count(outcome);
      if (range.n == 1) {
        hooks_.mark(range.first, 1, outcome);
      } else {
        queue_.push_back({range.first, range.n / 2});
        queue_.push_back({range.first + range.n / 2, range.n - range.n / 2});
      }
      if (outcome != Attempt::kTooLarge && !seen_good_ && hooks_.exhausted()) {
        const HalvingEnd last_look = Probe();
        if (last_look != HalvingEnd::kDone) return last_look;
      }
      if (spent_) MarkRest();
    }
    return HalvingEnd::kDone;
  }

 private:
  void Count(Attempt outcome) {
    why_ = outcome;
    if (outcome == Attempt::kTooLarge) return;
    uint64_t& left = outcome == Attempt::kTimedOut ? timeouts_left_ : failures_left_;
    if (left == 0) spent_ = true;
    if (left > 0) --left;
  }

  void MarkRest() {
    for (const Range& range : queue_) hooks_.mark(range.first, range.n, why_);
    queue_.clear();
  }

  // Single units spread over what is left. kDone: one was good.
  HalvingEnd Probe() {
    for (int i = 0; i < hooks_.n_probes && !queue_.empty(); ++i) {
      const uint64_t unit = Spread(i + 1);
      const Attempt outcome = hooks_.attempt(unit, 1);
      if (outcome == Attempt::kStop) return HalvingEnd::kStopped;
      if (outcome == Attempt::kGood) {
        seen_good_ = true;
        return HalvingEnd::kDone;
      }
      Count(outcome);
      hooks_.mark(unit, 1, outcome);
      if (spent_) break;
    }
    MarkRest();
    return HalvingEnd::kOut;
  }

  // Takes the unit at the fractional part of i times the golden ratio out of what is left: never
  // the first or the last of many, which are bad together more often than chance would have it.
  uint64_t Spread(int i) {
    uint64_t left = 0;
    for (const Range& range : queue_) left += range.n;
    const double place = 0.6180339887498949 * i;
    auto skip = static_cast<uint64_t>((place - std::floor(place)) * static_cast<double>(left));
    size_t at = 0;
    while (skip >= queue_[at].n) skip -= queue_[at++].n;
    const uint64_t unit = queue_[at].first + skip;
    Remove(at, unit);
    return unit;
  }

  void Remove(size_t at, uint64_t unit) {
    const Range range = queue_[at];
    const Range before{range.first, unit - range.first};
    const Range after{unit + 1, range.first + range.n - unit - 1};
    const auto place = queue_.erase(queue_.begin() + static_cast<ptrdiff_t>(at));
    const auto next = after.n > 0 ? queue_.insert(place, after) : place;
    if (before.n > 0) queue_.insert(next, before);
  }

  const HalvingHooks& hooks_;
  std::deque<Range> queue_;
  uint64_t timeouts_left_ = 0, failures_left_ = 0;
  bool spent_ = false, seen_good_ = false;
  Attempt why_ = Attempt::kFailed;
};

}  // namespace

HalvingEnd Halve(uint64_t n, const HalvingHooks& hooks) {
  if (n == 0) {
    const Attempt outcome = hooks.attempt(0, 0);
    if (outcome == Attempt::kGood) return HalvingEnd::kDone;
    if (outcome == Attempt::kStop) return HalvingEnd::kStopped;
    return hooks.exhausted() ? HalvingEnd::kOut : HalvingEnd::kDone;
  }
  return Halving(n, hooks).Run();
}

}  // namespace retort::host
