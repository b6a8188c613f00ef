// The one place that decides how many threads this process may use.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>

namespace retort {

// Cores of the affinity mask, at least 1.
int32_t AvailableCores();

// `requested` > 0: that many, but never more than the mask has cores times four (a typing error
// must not start a thousand threads); otherwise all cores of the mask.
int32_t ResolveThreads(int32_t requested);

// Calls fn(begin, end) over disjoint ranges that cover [0, n), on at most n_threads threads (the
// caller's among them); returns when all are done. `fn` must not throw. Results must not depend
// on the split. For load-time work; the engine has its own pool.
void ParallelFor(int64_t n, int32_t n_threads, const std::function<void(int64_t, int64_t)>& fn);

}  // namespace retort
