// SPDX-License-Identifier: Apache-2.0
#include "core/generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "retort/kernels/softmax.h"

namespace retort::generate {
namespace {

constexpr int64_t kBlock = 256;  // of retort_exp_blocks_f32
constexpr double kBinsPerNat = 64;

int32_t ArgMax(std::span<const float> logits, float* max) {
  int32_t index = 0;
  retort_row_argmax_f32(logits.data(), 0, 1, static_cast<int64_t>(logits.size()), &index, max, 1);
  return index;
}

}  // namespace

Sampler::Sampler(int64_t vocab)
    : p_(static_cast<size_t>(vocab)),
      block_sums_(static_cast<size_t>((vocab + kBlock - 1) / kBlock)),
      bin_ids_(static_cast<size_t>(vocab)) {
  candidates_.reserve(static_cast<size_t>(vocab));
}

void Sampler::FillBins(std::span<const float> logits) {
  retort_logit_bins_f32(logits.data(), p_.data(), static_cast<int64_t>(logits.size()), max_,
                        bins_per_unit_, kBins, bin_count_.data(), bin_mass_.data());
}

void Sampler::SortBin(std::span<const float> logits, int64_t bin) {
  const int64_t n = retort_logit_bin_ids_f32(logits.data(), static_cast<int64_t>(logits.size()),
                                             max_, bins_per_unit_, kBins, bin, bin_ids_.data());
  candidates_.clear();
  for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
    const int32_t id = bin_ids_[i];
    candidates_.push_back({logits[static_cast<size_t>(id)], id});
  }
  std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  });
}

Sampler::Cut Sampler::KeepAll() const {
  Cut cut{.bin = kBins, .count = 0, .mass_before = 0, .mass = 0};
  for (double mass : bin_mass_) cut.mass_before += mass;
  cut.mass = cut.mass_before;
  return cut;
}

Sampler::Cut Sampler::KeepTopK(std::span<const float> logits, int64_t k) {
  Cut cut;
  int64_t before = 0;
  while (before + bin_count_[static_cast<size_t>(cut.bin)] < k) {
    before += bin_count_[static_cast<size_t>(cut.bin)];
    cut.mass_before += bin_mass_[static_cast<size_t>(cut.bin)];
    ++cut.bin;
  }
  SortBin(logits, cut.bin);
  const float kth = candidates_[static_cast<size_t>(k - before - 1)].logit;
  cut.mass = cut.mass_before;
  for (const Candidate& c : candidates_) {
    if (c.logit < kth) break;
    cut.mass += MassOf(c);
    ++cut.count;
  }
  return cut;
}

Sampler::Cut Sampler::KeepTopP(std::span<const float> logits, const Cut& cut, double p) {
  const double limit = p * cut.mass;
  Cut kept;
  while (kept.bin < cut.bin &&
         kept.mass_before + bin_mass_[static_cast<size_t>(kept.bin)] < limit) {
    kept.mass_before += bin_mass_[static_cast<size_t>(kept.bin)];
    ++kept.bin;
  }
  if (kept.bin == kBins) return cut;  // rounding: the limit was not reached
  SortBin(logits, kept.bin);
  const int64_t most = kept.bin == cut.bin ? cut.count : static_cast<int64_t>(candidates_.size());
  kept.mass = kept.mass_before;
  while (kept.count < most && kept.mass < limit) {
    kept.mass += MassOf(candidates_[static_cast<size_t>(kept.count)]);
    ++kept.count;
  }
  return kept;
}

// Bins below the limit's hold likelier ids only; rounding may move an id to the bin beside it.
Sampler::Cut Sampler::KeepMinP(std::span<const float> logits, const Cut& cut, double p) {
  const auto limit_bin = static_cast<int64_t>(std::min(-std::log(p) * kBinsPerNat, kBins - 1.0));
  const int64_t first = std::max<int64_t>(limit_bin - 1, 0);
  Cut kept;
  for (; kept.bin < std::min(first, cut.bin); ++kept.bin) {
    kept.mass_before += bin_mass_[static_cast<size_t>(kept.bin)];
  }
  for (; kept.bin < kBins; ++kept.bin) {
    if (kept.bin == cut.bin && cut.count == 0) return cut;
    SortBin(logits, kept.bin);
    const int64_t most = kept.bin == cut.bin ? cut.count : static_cast<int64_t>(candidates_.size());
    kept.mass = kept.mass_before;
    for (kept.count = 0; kept.count < most; ++kept.count) {
      const double mass = MassOf(candidates_[static_cast<size_t>(kept.count)]);
      if (mass < p) return kept;
      kept.mass += mass;
    }
    if (kept.bin == cut.bin) return cut;
    kept.mass_before = kept.mass;
  }
  return cut;
}

int32_t Sampler::DrawFromBins(std::span<const float> logits, const Cut& cut, double target) {
  int64_t bin = 0, last = -1;  // last: the last bin with mass, in case rounding leaves target over
  double before = 0, before_last = 0;
  for (; bin < cut.bin; ++bin) {
    const double mass = bin_mass_[static_cast<size_t>(bin)];
    if (mass > 0) {
      last = bin;
      before_last = before;
      if (before + mass > target) break;
    }
    before += mass;
  }
  if (bin == cut.bin && cut.count == 0 && last >= 0) {
    bin = last;
    before = before_last;
  }
  SortBin(logits, bin);
  const int64_t most = bin == cut.bin ? cut.count : static_cast<int64_t>(candidates_.size());
  int32_t drawn = -1;
  for (int64_t i = 0; i < most && before <= target; ++i) {
    const Candidate& c = candidates_[static_cast<size_t>(i)];
    if (MassOf(c) > 0) drawn = c.id;
    before += MassOf(c);
  }
  return drawn;
}

int32_t Sampler::DrawFromBlocks(double target) const {
  size_t block = 0, last = 0;
  double before = 0, before_last = 0;
  for (; block < block_sums_.size(); ++block) {
    if (block_sums_[block] > 0) {
      last = block;
      before_last = before;
      if (before + block_sums_[block] > target) break;
    }
    before += block_sums_[block];
  }
  // The block's own sum was rounded differently: its last id with mass takes what is left over.
  const size_t begin = last * kBlock, end = std::min(begin + kBlock, p_.size());
  int32_t drawn = -1;
  double sum = before_last;
  for (size_t id = begin; id < end && sum <= target; ++id) {
    if (p_[id] > 0) drawn = static_cast<int32_t>(id);
    sum += static_cast<double>(p_[id]);
  }
  return drawn;
}

int32_t Sampler::DrawFiltered(std::span<const float> logits, const engine::SamplingParams& params,
                              double uniform) {
  FillBins(logits);
  const bool top_k = params.top_k > 0 && params.top_k < static_cast<int64_t>(logits.size());
  Cut cut = top_k ? KeepTopK(logits, params.top_k) : KeepAll();
  if (params.top_p < 1) cut = KeepTopP(logits, cut, params.top_p);
  if (params.min_p > 0) cut = KeepMinP(logits, cut, params.min_p);
  return DrawFromBins(logits, cut, uniform * cut.mass);
}

Draw Sampler::Sample(std::span<float> logits, const engine::SamplingParams& params,
                     std::span<const int32_t> banned, double uniform,
                     std::span<const TokenCounts::Entry> counts) {
  const auto vocab = static_cast<int64_t>(logits.size());
  const bool greedy = params.temperature == 0;
  const double scale = greedy ? 1 : 1 / params.temperature;
  int32_t best = ArgMax(logits, &max_);
  const double full_max = static_cast<double>(max_);
  double total =
      retort_exp_blocks_f32(logits.data(), vocab, scale, full_max, p_.data(), block_sums_.data());
  if (!std::isfinite(total) || !std::isfinite(full_max)) return {};
  const double log_total = std::log(total);
  edits_.Apply(logits, params, counts, banned);
  if (!edits_.empty()) {
    best = ArgMax(logits, &max_);
    if (!std::isfinite(max_)) return {};
    if (!greedy) {
      total = retort_exp_blocks_f32(logits.data(), vocab, scale, static_cast<double>(max_),
                                    p_.data(), block_sums_.data());
    }
  }
  int32_t id = best;
  if (!greedy) {
    const bool filters =
        (params.top_k > 0 && params.top_k < vocab) || params.top_p < 1 || params.min_p > 0;
    bins_per_unit_ = static_cast<float>(scale * kBinsPerNat);
    id = filters ? DrawFiltered(logits, params, uniform) : DrawFromBlocks(uniform * total);
    if (id < 0) id = best;  // only if u * mass rounds up to the mass itself
  }
  const auto z = static_cast<double>(edits_.Before(logits, id));
  return {id, static_cast<float>(scale * (z - full_max) - log_total)};
}

}  // namespace retort::generate
