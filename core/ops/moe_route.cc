// Routing of tokens to experts, and the load-balancing loss. Scores are worked out in f64: they are
// few, and a choice between near-equal experts is then that of exact scores.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cmath>

#include "core/ops/dispatch.h"
#include "core/ops/moe.h"
#include "core/ops/split.h"

namespace retort::ops {
namespace {

using graph::kMaxExperts;
using graph::MoeSpec;
using Scores = std::array<double, kMaxExperts>;

template <class T>
void Softmax(const T* logits, int64_t n, double* p) {
  const auto greatest = static_cast<double>(*std::max_element(logits, logits + n));
  double sum = 0;
  for (int64_t e = 0; e < n; ++e) {
    p[e] = std::exp(static_cast<double>(logits[e]) - greatest);
    sum += p[e];
  }
  for (int64_t e = 0; e < n; ++e) p[e] /= sum;
}

template <class T>
void ScoresOf(const MoeSpec& spec, const T* logits, double* scores) {
  if (!spec.sigmoid) return Softmax(logits, spec.n_experts, scores);
  for (int64_t e = 0; e < spec.n_experts; ++e) {
    scores[e] = 1 / (1 + std::exp(-static_cast<double>(logits[e])));
  }
}

// The open entry of the greatest value; the lowest index on ties.
int64_t Best(const double* values, const bool* closed, int64_t n) {
  int64_t best = -1;
  for (int64_t e = 0; e < n; ++e) {
    if (!closed[e] && (best < 0 || values[e] > values[best])) best = e;
  }
  return best;
}

// A group's score from its `n` experts' values: the best, or the sum of the two best.
double GroupScore(const double* values, int64_t n, bool two) {
  double first = -INFINITY, second = -INFINITY;
  for (int64_t e = 0; e < n; ++e) {
    if (values[e] > first) {
      second = first, first = values[e];
    } else if (values[e] > second) {
      second = values[e];
    }
  }
  return two && n > 1 ? first + second : first;
}

void CloseGroups(const MoeSpec& spec, const double* choice, bool two, bool* closed) {
  const int64_t size = spec.n_experts / spec.n_groups;
  Scores groups;
  std::array<bool, kMaxExperts> taken{};
  for (int64_t g = 0; g < spec.n_groups; ++g) {
    groups[static_cast<size_t>(g)] = GroupScore(choice + g * size, size, two);
  }
  std::fill_n(closed, spec.n_experts, true);
  for (int64_t k = 0; k < spec.top_k_groups; ++k) {
    const int64_t g = Best(groups.data(), taken.data(), spec.n_groups);
    taken[static_cast<size_t>(g)] = true;
    std::fill_n(closed + g * size, size, false);
  }
}

template <class T>
void RouteRow(const MoeSpec& spec, const T* logits, const T* bias, int32_t* ids, T* weights) {
  Scores scores, choice;
  std::array<bool, kMaxExperts> closed{};
  ScoresOf(spec, logits, scores.data());
  for (size_t e = 0; e < static_cast<size_t>(spec.n_experts); ++e) {
    choice[e] = bias == nullptr ? scores[e] : scores[e] + static_cast<double>(bias[e]);
  }
  if (spec.top_k_groups < spec.n_groups) {
    CloseGroups(spec, choice.data(), bias != nullptr, closed.data());
  }
  double sum = 0;
  for (int64_t k = 0; k < spec.top_k; ++k) {
    const int64_t e = Best(choice.data(), closed.data(), spec.n_experts);
    closed[static_cast<size_t>(e)] = true;
    ids[k] = static_cast<int32_t>(e);
    sum += scores[static_cast<size_t>(e)];
  }
  const double unit = spec.norm_top_k ? sum : 1;
  for (int64_t k = 0; k < spec.top_k; ++k) {
    weights[k] = static_cast<T>(scores[static_cast<size_t>(ids[k])] / unit);
  }
}

// The gradient of the scores that were chosen, from that of the weights; of the others it is 0.
template <class T>
void ScoreGradient(const MoeSpec& spec, const double* scores, const int32_t* ids,
                   const T* d_weights, double* d_scores) {
  double sum = 0, dot = 0;
  for (int64_t k = 0; k < spec.top_k; ++k) {
    sum += scores[ids[k]];
    dot += static_cast<double>(d_weights[k]) * scores[ids[k]];
  }
  for (int64_t k = 0; k < spec.top_k; ++k) {
    const auto d = static_cast<double>(d_weights[k]);
    d_scores[ids[k]] = spec.norm_top_k ? (d - dot / sum) / sum : d;
  }
}

template <class T>
void Put(double value, bool accumulate, T* out) {
  *out = static_cast<T>(accumulate ? static_cast<double>(*out) + value : value);
}

template <class T>
void RouteRowBackward(const MoeSpec& spec, const T* logits, const int32_t* ids, const T* d_weights,
                      T* d_logits, bool accumulate) {
  Scores scores, d_scores;
  std::fill_n(d_scores.begin(), spec.n_experts, 0.0);
  ScoresOf(spec, logits, scores.data());
  ScoreGradient(spec, scores.data(), ids, d_weights, d_scores.data());
  double dot = 0;
  for (size_t e = 0; e < static_cast<size_t>(spec.n_experts); ++e) dot += d_scores[e] * scores[e];
  for (size_t e = 0; e < static_cast<size_t>(spec.n_experts); ++e) {
    const double slope = spec.sigmoid ? d_scores[e] * (1 - scores[e]) : d_scores[e] - dot;
    Put(scores[e] * slope, accumulate, d_logits + e);
  }
}

}  // namespace

void MoeRoute(const MoeSpec& spec, const TensorView& logits, const TensorView* bias,
              const MoeRouting& routing, int n_threads) {
  ByType(logits, [&](auto zero) {
    using T = decltype(zero);
    const int64_t k = spec.top_k;
    Split(logits.shape[0], 8 * logits.numel(), n_threads, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        RouteRow(spec, logits.as<T>() + t * logits.strides[0],
                 bias == nullptr ? nullptr : bias->as<T>(), routing.ids.data() + t * k,
                 routing.weights_TK.as<T>() + t * k);
      }
    });
  });
}

void MoeRouteBackward(const MoeSpec& spec, const TensorView& logits, const MoeRouting& routing,
                      const TensorView& d_weights, const TensorView& d_logits, bool accumulate,
                      int n_threads) {
  ByType(logits, [&](auto zero) {
    using T = decltype(zero);
    const int64_t k = spec.top_k;
    Split(logits.shape[0], 8 * logits.numel(), n_threads, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        RouteRowBackward(spec, logits.as<T>() + t * logits.strides[0], routing.ids.data() + t * k,
                         d_weights.as<T>() + t * k, d_logits.as<T>() + t * d_logits.strides[0],
                         accumulate);
      }
    });
  });
}

void MoeCount(const MoeSpec& spec, const TensorView& logits, const MoeRouting& routing,
              MoeTally* tally) {
  const auto n = static_cast<size_t>(spec.n_experts);
  tally->rows = logits.shape[0];
  tally->choices.assign(n, 0);
  tally->probabilities.assign(n, 0);
  for (const int32_t e : routing.ids) tally->choices[static_cast<size_t>(e)] += 1;
  ByType(logits, [&](auto zero) {
    using T = decltype(zero);
    Scores p;
    for (int64_t t = 0; t < logits.shape[0]; ++t) {
      Softmax(logits.as<T>() + t * logits.strides[0], spec.n_experts, p.data());
      for (size_t e = 0; e < n; ++e) tally->probabilities[e] += p[e];
    }
  });
}

double MoeBalanceLoss(const MoeTally& all) {
  const auto rows = static_cast<double>(all.rows);
  double sum = 0;
  for (size_t e = 0; e < all.choices.size(); ++e) {
    sum += all.choices[e] / rows * (all.probabilities[e] / rows);
  }
  return sum * static_cast<double>(all.choices.size());
}

void MoeBalanceBackward(const MoeTally& all, const TensorView& logits, double factor,
                        const TensorView& d_logits, int n_threads) {
  const auto n = static_cast<int64_t>(all.choices.size());
  const auto rows = static_cast<double>(all.rows);
  const double unit = factor * static_cast<double>(n) / (rows * rows);
  ByType(logits, [&](auto zero) {
    using T = decltype(zero);
    Split(logits.shape[0], 8 * logits.numel(), n_threads, [&](int64_t begin, int64_t end) {
      Scores p;
      for (int64_t t = begin; t < end; ++t) {
        Softmax(logits.as<T>() + t * logits.strides[0], n, p.data());
        double mean = 0;
        for (size_t e = 0; e < all.choices.size(); ++e) mean += p[e] * all.choices[e];
        T* out = d_logits.as<T>() + t * d_logits.strides[0];
        for (size_t e = 0; e < all.choices.size(); ++e) {
          Put(unit * p[e] * (all.choices[e] - mean), true, out + e);
        }
      }
    });
  });
}

}  // namespace retort::ops
