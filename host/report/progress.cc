// SPDX-License-Identifier: Apache-2.0
#include "host/report/progress.h"

#include <algorithm>

#include "host/report/table.h"

namespace retort::host {
namespace {

constexpr int64_t kWatchedNs = 100'000'000;
constexpr int64_t kPipedNs = 10'000'000'000;

double FractionOf(const ProgressState& state) {
  if (state.fraction >= 0) return std::min(state.fraction, 1.0);
  return state.total > 0 ? std::min(state.done / state.total, 1.0) : -1;
}

}  // namespace

std::optional<ProgressLine> ProgressMeter::Update(const ProgressState& state) {
  const int64_t now = clock_->MonotonicNs();
  const double fraction = FractionOf(state);
  const bool first = state.what != what_;
  if (first) {
    what_ = state.what;
    started_ns_ = now;
    first_done_ = state.done;
    first_fraction_ = std::max(fraction, 0.0);
    finished_ = false;
  }
  const bool last = fraction >= 1 && !finished_;
  const bool due = now - shown_ns_ >= (watched_ ? kWatchedNs : kPipedNs);
  if (!first && !last && !due) return std::nullopt;
  if (first && !watched_) {  // a piped log gets its first line when there is something to say
    shown_ns_ = now;
    if (!last) return std::nullopt;
  }
  finished_ = finished_ || last;
  shown_ns_ = now;
  const double seconds = static_cast<double>(now - started_ns_) * 1e-9;
  return ProgressLine{fraction, Text(state, fraction, seconds)};
}

std::string ProgressMeter::Text(const ProgressState& state, double fraction, double seconds) const {
  std::string text = state.what + "  " + GroupedInteger(static_cast<int64_t>(state.done));
  if (state.total > 0) text += "/" + GroupedInteger(static_cast<int64_t>(state.total));
  if (!state.unit.empty()) text += " " + state.unit;
  const double done = state.done - first_done_;
  if (seconds > 0.5 && done > 0) {
    text += "  " + ShortNumber(done / seconds) + "/s";
    const double moved = fraction - first_fraction_;
    if (moved > 0 && fraction < 1) {
      text += "  ETA " + FormatSeconds(seconds * (1 - fraction) / moved);
    }
  }
  if (state.tokens_per_second > 0) {
    text += "  " + ShortNumber(state.tokens_per_second) + " tokens/s";
  }
  if (!state.metric.empty()) text += "  " + state.metric + " " + ShortNumber(state.value);
  return text;
}

}  // namespace retort::host
