// Which units of a batch a plugin can't bear: the batch is halved, breadth first, until the units
// that kill or hang it stand alone.
//
// Method: breadth first, because with few bad units every second attempt or so succeeds, which
// shows that the plugin as such is well. When it is `exhausted()` before the first good answer, a
// few single units are tried, spread over what is left: one good answer and the halving goes on,
// none and the plugin is out. Each timeout costs timeout_ms, so a call allows itself log2(n) + 2 of
// them (one bad unit among n needs at most that many), and other failures 8 * (log2(n) + 1), enough
// for about eight bad units; with the next one, what is still unknown is marked like it. Rejected:
// one unit per call from the start (the fixed costs of n calls even for one bad unit), and depth
// first (a first unit that is bad looks like a dead plugin). SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>

namespace retort::host {

enum class Attempt : uint8_t {
  kGood,
  kFailed,    // the worker died
  kTimedOut,  // likewise costly, and counted against another allowance
  kTooLarge,  // no harm done, but only parts of it can be tried
  kStop,      // no further attempts: cancelled, or the plugin is out
};

struct HalvingHooks {
  std::function<Attempt(uint64_t first, uint64_t n)> attempt;
  // Units without a verdict, and why.
  std::function<void(uint64_t first, uint64_t n, Attempt why)> mark;
  std::function<bool()> exhausted;  // too many failures in a row
  int n_probes = 3;
};

enum class HalvingEnd : uint8_t { kDone, kStopped, kOut };

// Every unit of [0, n) was in a good attempt or was marked, unless the end is kStopped.
HalvingEnd Halve(uint64_t n, const HalvingHooks& hooks);

}  // namespace retort::host
