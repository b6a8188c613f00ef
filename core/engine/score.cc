// SPDX-License-Identifier: Apache-2.0
#include "core/engine/score.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <tuple>

#include "core/engine/head.h"
#include "core/engine/top_k.h"
#include "core/engine/value_head.h"
#include "core/graph/shared_rows.h"
#include "core/graph/value_head.h"
#include "core/ops/ops.h"
#include "retort/kernels/softmax.h"

namespace retort::engine {
namespace {

constexpr int64_t kPassTokens = 2048;

Status CheckRequest(const graph::Graph& graph, size_t index, const ScoreRequest& request) {
  const std::string name = "score request " + std::to_string(index);
  if (request.ids.empty()) return InvalidArgument(name + " has no tokens");
  if (request.first < 1) {
    return InvalidArgument(name + ": first is " + std::to_string(request.first) +
                           "; the first token has nothing before it, so it must be at least 1");
  }
  if (request.ids.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max() / 2)) {
    return InvalidArgument(name + " is too long: " + std::to_string(request.ids.size()));
  }
  if (!(request.temperature > 0) || !std::isfinite(request.temperature)) {
    return InvalidArgument(name + ": its temperature must be finite and above 0");
  }
  if (request.top_k < 0) return InvalidArgument(name + ": top_k must be at least 0");
  if (request.want_values && graph.value_head < 0) {
    return FailedPrecondition(name + ": the model has no value head; values need a reward model");
  }
  return request.want_logp ? graph::CheckHasLmHead(graph, name) : OkStatus();
}

// The rows that requests have of their own in a pass, told one after the other. The last one that
// had to have all of its rows is the head, from which the following ones may go on.
class OwnRows {
 public:
  explicit OwnRows(const graph::Graph& graph) : may_share_(graph::TextsMayShareRows(graph)) {}

  // What comes before the rows of `request`, the `index`-th of the pass: all of its prompt but the
  // last token, whose row says what comes next, if the head begins with the same.
  Prefix Add(const ScoreRequest& request, size_t index) {
    const size_t rows = std::min(static_cast<size_t>(request.first), request.ids.size()) - 1;
    const bool shares =
        may_share_ && request.shares_prompt && head_ != nullptr && rows > 0 &&
        rows <= head_->ids.size() &&
        std::equal(request.ids.begin(), request.ids.begin() + static_cast<int64_t>(rows),
                   head_->ids.begin());
    if (shares) return {.sequence = head_index_, .rows = static_cast<int32_t>(rows)};
    head_ = &request;
    head_index_ = static_cast<int32_t>(index);
    return {};
  }

 private:
  bool may_share_;
  const ScoreRequest* head_ = nullptr;
  int32_t head_index_ = -1;
};

class Scorer {
 public:
  Scorer(Inference& inference, const graph::Graph& graph, std::span<const TensorView> params,
         int n_threads)
      : inference_(inference), graph_(graph), value_head_(graph, params), n_threads_(n_threads) {}

  // One forward pass over all of `requests`, which want the same.
  void Run(std::span<const ScoreRequest> requests, std::span<ScoreResult> results) {
    Pack(requests);
    const TensorView hidden = inference_.Forward(
        {.ids = ids_, .positions = positions_, .cu_seqlens = cu_seqlens_, .prefixes = prefixes_},
        nullptr);
    if (requests[0].want_values) TakeValues(hidden, requests, results);
    if (requests[0].want_logp) RunHead(hidden, requests, results);
  }

 private:
  void RunHead(const TensorView& hidden, std::span<const ScoreRequest> requests,
               std::span<ScoreResult> results) {
    const auto n = static_cast<int64_t>(rows_.size());
    const int64_t step = HeadChunkRows(n, graph_.vocab(), DType::kF32, 0);
    logp_.resize(rows_.size());
    entropy_.resize(requests[0].want_entropy ? rows_.size() : 0);
    scale_ = 1 / requests[0].temperature;
    StartRows(requests[0].top_k);
    for (int64_t begin = 0; begin < n; begin += step) {
      ScoreChunk(hidden, begin, std::min(step, n - begin));
    }
    auto next = logp_.begin();
    for (size_t i = 0; i < requests.size(); ++i) {
      const int64_t count = NumScored(requests[i]);
      results[i].logp.assign(next, next + count);
      if (!entropy_.empty()) {
        const auto first = entropy_.begin() + (next - logp_.begin());
        results[i].entropy.assign(first, first + count);
      }
      if (top_k_ > 0) results[i].rows = TakeRows(next - logp_.begin(), count);
      next += count;
    }
  }

  void TakeValues(const TensorView& hidden, std::span<const ScoreRequest> requests,
                  std::span<ScoreResult> results) {
    values_.resize(ids_.size());
    const auto n = static_cast<int64_t>(values_.size());
    value_head_.Forward(hidden, TensorView::Contiguous(values_.data(), DType::kF32, {n}));
    for (size_t i = 0; i < requests.size(); ++i) {
      const auto end = values_.begin() + cu_seqlens_[i + 1] - 1;
      results[i].values.assign(end - NumScored(requests[i]), end);
      results[i].last_value = *end;
    }
  }

  static int64_t NumScored(const ScoreRequest& request) {
    return std::max<int64_t>(0, static_cast<int64_t>(request.ids.size()) - request.first);
  }

  void Pack(std::span<const ScoreRequest> requests) {
    ids_.clear(), positions_.clear(), rows_.clear(), labels_.clear(), prefixes_.clear();
    cu_seqlens_.assign(1, 0);
    OwnRows own(graph_);
    for (size_t i = 0; i < requests.size(); ++i) {
      const ScoreRequest& request = requests[i];
      prefixes_.push_back(own.Add(request, i));
      for (auto t = static_cast<size_t>(prefixes_.back().rows); t < request.ids.size(); ++t) {
        ids_.push_back(request.ids[t]);
        positions_.push_back(static_cast<int32_t>(t));
        if (static_cast<int64_t>(t) < request.first) continue;
        rows_.push_back(static_cast<int32_t>(ids_.size()) - 2);  // the row before it
        labels_.push_back(request.ids[t]);
      }
      cu_seqlens_.push_back(static_cast<int32_t>(ids_.size()));
    }
    if (std::ranges::all_of(prefixes_, [](const Prefix& p) { return p.sequence < 0; })) {
      prefixes_.clear();
    }
  }

  void StartRows(int32_t k) {
    const auto n = rows_.size() * static_cast<size_t>(k);
    top_k_ = k;
    all_rows_ = {.k = k, .ids = std::vector<int32_t>(n), .logp = std::vector<float>(n), .tail = {}};
    all_rows_.tail.resize(k > 0 ? rows_.size() : 0);
  }

  // The likeliest tokens of rows [begin, begin + count) of the pass.
  TeacherRows TakeRows(int64_t begin, int64_t count) const {
    TeacherRows rows{.k = top_k_, .ids = {}, .logp = {}, .tail = {}};
    const auto ids = all_rows_.ids.begin() + begin * top_k_;
    const auto logp = all_rows_.logp.begin() + begin * top_k_;
    const auto tail = all_rows_.tail.begin() + begin;
    rows.ids.assign(ids, ids + count * top_k_);
    rows.logp.assign(logp, logp + count * top_k_);
    rows.tail.assign(tail, tail + count);
    return rows;
  }

  void FillRows(int64_t begin, int64_t count) {
    TopK top(top_k_);
    const auto vocab = static_cast<size_t>(graph_.vocab());
    for (int64_t r = 0; r < count; ++r) {
      const std::span<const float> z(logits_.data() + static_cast<size_t>(r) * vocab, vocab);
      const auto label = static_cast<size_t>(labels_[static_cast<size_t>(begin + r)]);
      const double lse = scale_ * static_cast<double>(z[label]) -
                         static_cast<double>(logp_[static_cast<size_t>(begin + r)]);
      const int64_t at = (begin + r) * top_k_;
      top.Run(z, scale_, lse, all_rows_.ids.data() + at, all_rows_.logp.data() + at,
              all_rows_.tail.data() + begin + r);
    }
  }

  void ScoreChunk(const TensorView& hidden, int64_t begin, int64_t count) {
    const int64_t vocab = graph_.vocab(), width = graph_.width();
    hidden_.resize(static_cast<size_t>(count * width));
    logits_.resize(static_cast<size_t>(count * vocab));
    const TensorView rows = TensorView::Contiguous(hidden_.data(), DType::kF32, {count, width});
    const TensorView logits = TensorView::Contiguous(logits_.data(), DType::kF32, {count, vocab});
    ops::GatherRows(
        hidden, std::span(rows_).subspan(static_cast<size_t>(begin), static_cast<size_t>(count)),
        rows);
    inference_.Logits(rows, logits);
    retort_row_logp_f32(logits_.data(), 0, count, vocab, scale_, labels_.data() + begin,
                        logp_.data() + begin, entropy_.empty() ? nullptr : entropy_.data() + begin,
                        n_threads_);
    if (top_k_ > 0) FillRows(begin, count);
  }

  Inference& inference_;
  const graph::Graph& graph_;
  const ValueHead value_head_;
  const int n_threads_;
  std::vector<int32_t> ids_, positions_, cu_seqlens_, rows_;
  std::vector<Prefix> prefixes_;
  std::vector<int64_t> labels_;
  std::vector<float> hidden_, logits_, logp_, entropy_, values_;
  TeacherRows all_rows_;  // of the pass
  double scale_ = 1;
  int32_t top_k_ = 0;
};

}  // namespace

namespace {

// What is one for all requests of a pass.
auto KindOf(const ScoreRequest& request) {
  return std::tuple(request.adapter, request.temperature, request.want_logp, request.want_values,
                    request.want_entropy, request.top_k);
}

// Requests by kind, in their order within one.
std::vector<size_t> PassOrder(std::span<const ScoreRequest> requests) {
  std::vector<size_t> order(requests.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return KindOf(requests[a]) < KindOf(requests[b]); });
  return order;
}

// The end of the pass that begins at `begin`, by its rows and kind.
size_t PassEnd(const graph::Graph& graph, std::span<const ScoreRequest> requests,
               std::span<const size_t> order, size_t begin, int64_t limit) {
  OwnRows own(graph);
  int64_t rows = 0;
  for (size_t end = begin; end < order.size(); ++end) {
    const ScoreRequest& next = requests[order[end]];
    rows += static_cast<int64_t>(next.ids.size()) - own.Add(next, end - begin).rows;
    // A request longer than the limit gets a pass of its own.
    const bool fits = rows <= limit && KindOf(next) == KindOf(requests[order[begin]]);
    if (end > begin && !fits) return end;
  }
  return order.size();
}

}  // namespace

Result<std::vector<ScoreResult>> Score(Inference& inference, const graph::Graph& graph,
                                       std::span<const TensorView> params,
                                       std::span<const ScoreRequest> requests, int64_t max_tokens,
                                       const Cancel* cancel,
                                       const std::function<void(int64_t)>& on_progress,
                                       int n_threads) {
  for (size_t i = 0; i < requests.size(); ++i) {
    RETORT_RETURN_IF_ERROR(CheckRequest(graph, i, requests[i]));
  }
  const int64_t limit = max_tokens > 0 ? max_tokens : kPassTokens;
  const std::vector<size_t> order = PassOrder(requests);
  std::vector<ScoreResult> results(requests.size());
  Scorer scorer(inference, graph, params, n_threads);
  int64_t done = 0;
  for (size_t begin = 0; begin < requests.size();) {
    if (cancel != nullptr && cancel->load(std::memory_order_relaxed) != 0) {
      return Cancelled("scoring was stopped after " + std::to_string(begin) + " of " +
                       std::to_string(requests.size()) + " texts");
    }
    const size_t end = PassEnd(graph, requests, order, begin, limit);
    std::vector<ScoreRequest> pass;
    for (size_t i = begin; i < end; ++i) pass.push_back(requests[order[i]]);
    std::vector<ScoreResult> scored(pass.size());
    inference.SetAdapter(pass.front().adapter);
    scorer.Run(pass, scored);
    for (size_t i = begin; i < end; ++i) {
      results[order[i]] = std::move(scored[i - begin]);
      done += static_cast<int64_t>(requests[order[i]].ids.size());
    }
    if (on_progress) on_progress(done);
    begin = end;
  }
  return results;
}

}  // namespace retort::engine
