// Draws one id from a row of logits: edits (bias, penalties, bans), temperature, then top-k (ties
// with the k-th stay), top-p (descending, lower id first on ties; kept while the mass strictly
// before is below p), min-p (kept from that share of the likeliest on), then one uniform number.
// Never sorts the vocabulary.
// Method: one pass of exponentials with sums per 256 ids. Without a filter the draw walks those
// sums in id order. With one, a second pass counts ids and mass in 1024 bins of 1/64 nat below the
// maximum; only the bins where a limit or the draw falls are gathered and sorted.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "core/engine/engine.h"
#include "core/generate/logit_edits.h"
#include "core/generate/token_counts.h"

namespace retort::generate {

struct Draw {
  int32_t id = -1;  // -1: the logits are not finite
  float logp = 0;   // temperature-scaled (greedy: 1), full vocabulary, edits and filters ignored
};

// Scratch of one row; reused, so that decoding allocates nothing.
class Sampler {
 public:
  explicit Sampler(int64_t vocab);
  // So many edits of a row take no memory.
  void ReserveEdits(size_t n) { edits_.Reserve(n); }

  // `banned` ids are not drawn (stop ids before min_tokens); `counts`: of the ids so far, for
  // penalties. Edits `logits` in place. `uniform` lies in [0, 1); greedy ignores it.
  Draw Sample(std::span<float> logits, const engine::SamplingParams& params,
              std::span<const int32_t> banned, double uniform,
              std::span<const TokenCounts::Entry> counts = {});

 private:
  struct Candidate {
    float logit;
    int32_t id;
  };
  // What a filter keeps: all ids of bins [0, bin), and the first `count` of bin `bin` in
  // (logit descending, id ascending) order. mass: of the bins before, and with the partial one.
  struct Cut {
    int64_t bin = 0, count = 0;
    double mass_before = 0, mass = 0;
  };
  static constexpr int64_t kBins = 1024;

  void FillBins(std::span<const float> logits);
  void SortBin(std::span<const float> logits, int64_t bin);  // into candidates_
  double MassOf(const Candidate& c) const { return p_[static_cast<size_t>(c.id)]; }
  Cut KeepAll() const;
  Cut KeepTopK(std::span<const float> logits, int64_t k);
  Cut KeepTopP(std::span<const float> logits, const Cut& cut, double p);
  Cut KeepMinP(std::span<const float> logits, const Cut& cut, double p);
  int32_t DrawFiltered(std::span<const float> logits, const engine::SamplingParams& params,
                       double uniform);
  int32_t DrawFromBins(std::span<const float> logits, const Cut& cut, double target);
  int32_t DrawFromBlocks(double target) const;

  std::vector<float> p_;            // exp((z - max) / T), not normalised
  std::vector<double> block_sums_;  // of p_, per 256 ids
  std::array<int64_t, kBins> bin_count_{};
  std::array<double, kBins> bin_mass_{};
  std::vector<int32_t> bin_ids_;  // of the bin at hand
  std::vector<Candidate> candidates_;
  LogitEdits edits_;
  float max_ = 0, bins_per_unit_ = 0;
};

}  // namespace retort::generate
