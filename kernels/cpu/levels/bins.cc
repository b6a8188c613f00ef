// Histogram of a row of logits, and the columns of one bin of it.
// Method: bins are worked out 16 at a time. In a real row most columns lie in the last bin, whose
// sum stays in lanes; only the others scatter.
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/levels/levels.h"

namespace retort::kernels::RETORT_KERNELS_NS {

struct Binning {
  F16 max, rate, last;
  explicit Binning(const BinArgs& a)
      : max(F16::Set1(a.max)),
        rate(F16::Set1(a.bins_per_unit)),
        last(F16::Set1(static_cast<float>(a.n_bins - 1))) {}
  // Whole numbers as floats. Missing lanes must be masked by the caller.
  F16 Of(F16 x) const {
    const F16 v = Min((max - x) * rate, last), magic = F16::Set1(12582912.0f);
    const F16 nearest = (v + magic) - magic;
    return BlendLess(v, nearest, nearest - F16::Set1(1.0f), nearest);
  }
};

// Missing lanes read as -inf: they lie in the last bin.
static inline F16 LoadLogits(const float* x, Full) { return F16::Load(x); }
static inline F16 LoadLogits(const float* x, int64_t n) {
  float lanes[16];
  for (float& lane : lanes) lane = -INFINITY;
  memcpy(lanes, x, static_cast<size_t>(n) * sizeof(float));
  return F16::Load(lanes);
}

// Counts the lanes below the last bin.
static int64_t Scatter(F16 bins, F16 mass, int64_t last, int64_t* counts, double* masses) {
  float bin[16], p[16];
  bins.Store(bin);
  mass.Store(p);
  int64_t n = 0;
  for (int i = 0; i < 16; ++i) {
    const auto at = static_cast<int64_t>(bin[i]);
    if (at == last) continue;
    ++counts[at];
    masses[at] += static_cast<double>(p[i]);
    ++n;
  }
  return n;
}

void LogitBins(const BinArgs& a, const float* p, int64_t* counts, double* masses) {
  const Binning binning(a);
  const int64_t last = a.n_bins - 1;
  memset(counts, 0, static_cast<size_t>(a.n_bins) * sizeof(int64_t));
  memset(masses, 0, static_cast<size_t>(a.n_bins) * sizeof(double));
  int64_t above = 0;
  for (int64_t first = 0; first < a.cols; first += kSoftmaxBlock) {
    const int64_t rest = a.cols - first, count = rest < kSoftmaxBlock ? rest : kSoftmaxBlock;
    F16 sum = F16::Zero();
    ForLanes(count, [&](int64_t i, auto n) {
      const F16 bins = binning.Of(LoadLogits(a.x + first + i, n));
      const F16 mass = LoadAt<F16>(p + first + i, n);
      sum = sum + BlendLess(bins, binning.last, F16::Zero(), mass);
      if (MaxAll(binning.last - bins) > 0) above += Scatter(bins, mass, last, counts, masses);
    });
    masses[last] += static_cast<double>(Sum(sum));
  }
  counts[last] = a.cols - above;
}

int64_t LogitBinIds(const BinArgs& a, int64_t bin, int32_t* ids) {
  const Binning binning(a);
  const F16 wanted = F16::Set1(static_cast<float>(bin));
  int64_t found = 0;
  ForLanes(a.cols, [&](int64_t c, auto n) {
    const F16 bins = binning.Of(LoadLogits(a.x + c, n));
    if (!AnyEqual(bins, wanted)) return;
    float lanes[16];
    bins.Store(lanes);
    const int64_t width = a.cols - c < 16 ? a.cols - c : 16;
    for (int64_t i = 0; i < width; ++i) {
      if (static_cast<int64_t>(lanes[i]) == bin) ids[found++] = static_cast<int32_t>(c + i);
    }
  });
  return found;
}

}  // namespace retort::kernels::RETORT_KERNELS_NS
