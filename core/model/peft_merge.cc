// Merging an adapter into the weights it stands beside.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>
#include <cmath>
#include <set>
#include <tuple>

#include "core/base/threads.h"
#include "core/model/peft.h"

namespace retort::model {
namespace {

// Of one row.
struct RowError {
  double max_error = 0, sum_error = 0, max_change = 0, sum_change = 0;
};

// One part of one weight.
struct Job {
  const graph::Param* param = nullptr;
  graph::LoraPart part;
  TensorView w, a, b;
};

RowError MergeRow(const Job& job, int64_t j, const RoundRow& round) {
  const int64_t n = job.a.shape[1], r = job.a.shape[0];
  float* w = job.w.as<float>() + (job.part.out_begin + j) * job.w.strides[0];
  const float* b = job.b.as<float>() + (job.part.b_begin + j) * job.b.strides[0];
  std::vector<double> exact(static_cast<size_t>(n), 0.0);
  for (int64_t k = 0; k < r; ++k) {
    const double by = job.part.scale * static_cast<double>(b[k]);
    const float* a = job.a.as<float>() + k * job.a.strides[0];
    for (int64_t i = 0; i < n; ++i) exact[static_cast<size_t>(i)] += by * static_cast<double>(a[i]);
  }
  RowError error;
  for (int64_t i = 0; i < n; ++i) {
    double& value = exact[static_cast<size_t>(i)];
    error.max_change = std::max(error.max_change, std::abs(value));
    error.sum_change += value * value;
    value += static_cast<double>(w[i]);
    w[i] = static_cast<float>(value);
  }
  if (round) round(*job.param, w, n);
  for (int64_t i = 0; i < n; ++i) {
    const double off = static_cast<double>(w[i]) - exact[static_cast<size_t>(i)];
    error.max_error = std::max(error.max_error, std::abs(off));
    error.sum_error += off * off;
  }
  return error;
}

}  // namespace

Result<MergeReport> MergeAdapter(const graph::Graph& graph, int32_t adapter,
                                 std::span<const TensorView> params, const RoundRow& round,
                                 int32_t n_threads) {
  if (params.size() != graph.params.size()) {
    return Internal("merging: the weights are of another graph");
  }
  std::vector<Job> jobs;
  std::set<std::pair<int32_t, int64_t>> done;  // a weight may be used by several nodes
  std::set<int32_t> weights;
  for (const graph::Node& node : graph.nodes) {
    for (const graph::LoraPart& part : node.lora) {
      const int32_t weight = node.params[0];
      if (part.adapter != adapter || !done.emplace(weight, part.out_begin).second) continue;
      const auto view = [&](int32_t p) { return params[static_cast<size_t>(p)]; };
      const Job job{.param = &graph.params[static_cast<size_t>(weight)],
                    .part = part,
                    .w = view(weight),
                    .a = view(part.a),
                    .b = view(part.b)};
      if (job.w.dtype != DType::kF32) {
        return Unimplemented("merging into " + job.param->name + ": it is kept as " +
                             std::string(DTypeName(job.w.dtype)) + "; load the base as f32");
      }
      jobs.push_back(job);
      weights.insert(weight);
    }
  }
  if (jobs.empty()) return InvalidArgument("merging: the model has no such adapter");
  MergeReport report{.n_weights = static_cast<int64_t>(weights.size())};
  double sum_error = 0, sum_change = 0;
  for (const Job& job : jobs) {
    std::vector<RowError> rows(static_cast<size_t>(job.part.n_out));
    ParallelFor(job.part.n_out, n_threads, [&](int64_t begin, int64_t end) {
      for (int64_t j = begin; j < end; ++j) rows[static_cast<size_t>(j)] = MergeRow(job, j, round);
    });
    for (const RowError& row : rows) {
      report.max_error = std::max(report.max_error, row.max_error);
      report.max_change = std::max(report.max_change, row.max_change);
      sum_error += row.sum_error;
      sum_change += row.sum_change;
    }
    report.n_elements += job.part.n_out * job.a.shape[1];
  }
  const auto n = static_cast<double>(report.n_elements);
  report.rms_error = std::sqrt(sum_error / n);
  report.rms_change = std::sqrt(sum_change / n);
  return report;
}

void RoundToBf16(const graph::Param&, float* row, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const auto bits = std::bit_cast<uint32_t>(row[i]);
    const uint32_t up = 0x7FFF + (bits >> 16 & 1);  // to nearest, ties to even
    row[i] = std::bit_cast<float>((bits + up) & 0xFFFF0000);
  }
}

}  // namespace retort::model
