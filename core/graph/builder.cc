// Params, blocks and the result; ops are in builder_ops.cc, whole-graph checks in check.cc.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/checked.h"
#include "core/graph/builder_impl.h"

namespace retort::graph {
namespace {

constexpr size_t kErrorsShown = 10;

std::string TextOf(const char* text) { return text == nullptr ? "" : text; }

// All dimensions but the last, flattened; a vector has one element per row.
int64_t RowsOf(const std::vector<int64_t>& shape) {
  int64_t rows = shape[0];
  for (size_t d = 1; d + 1 < shape.size(); ++d) rows *= shape[d];
  return rows;
}

// The sources of a spec, checked; by default one, the param's own name.
bool ReadSources(const retort_param_spec& spec, Param& param, std::string& error) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(spec.sources);
  int64_t rows = 0;
  bool counted = true;
  for (uint32_t i = 0; i < spec.n_sources; ++i) {
    const auto& slice = *reinterpret_cast<const retort_slice*>(bytes + i * spec.source_stride);
    Source source{.checkpoint_name = TextOf(slice.checkpoint_name),
                  .row_begin = slice.row_begin,
                  .row_end = slice.row_end,
                  .transpose = slice.transpose != 0,
                  .optional = (slice.flags & RETORT_SLICE_OPTIONAL) != 0};
    const bool all = source.row_begin == 0 && source.row_end == 0;
    if (source.checkpoint_name.empty()) error = "a source without a checkpoint name";
    if (!all && (source.row_begin < 0 || source.row_end <= source.row_begin)) {
      error = "source " + source.checkpoint_name + " has rows " + std::to_string(source.row_begin) +
              " to " + std::to_string(source.row_end) + "; they must be 0 <= begin < end";
    }
    if (!error.empty()) return false;
    counted = counted && !all;
    rows += source.row_end - source.row_begin;
    param.sources.push_back(std::move(source));
  }
  if (param.sources.empty()) param.sources.push_back({.checkpoint_name = param.name});
  const int64_t wanted = RowsOf(param.shape);
  if (spec.n_sources > 0 && counted && rows != wanted) {
    error = "its sources give " + std::to_string(rows) + " rows, its shape has " +
            std::to_string(wanted);
  }
  return error.empty();
}

bool ReadShape(const retort_param_spec& spec, Param& param, std::string& error) {
  if (spec.ndim < 1 || spec.ndim > 4 || spec.shape == nullptr) {
    error = "it has " + std::to_string(spec.ndim) + " dimensions; 1 to 4 are allowed";
    return false;
  }
  param.shape.assign(spec.shape, spec.shape + spec.ndim);
  int64_t numel = 0;
  const bool positive =
      std::all_of(param.shape.begin(), param.shape.end(), [](int64_t d) { return d > 0; });
  if (!positive || !CheckedNumel(param.shape, &numel) || numel > (int64_t{1} << 40)) {
    error = "its shape is " + ShapeText(param.shape) + "; sizes must be above 0 and sane";
  }
  return error.empty();
}

}  // namespace

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i > 0 ? ", " : "") + (shape[i] < 0 ? "any" : std::to_string(shape[i]));
  }
  return text + "]";
}

retort_param Builder::Impl::AddParam(const retort_param_spec& spec) {
  Param param;
  param.name = TextOf(spec.name);
  param.flags = spec.flags;
  param.init = spec.init;
  param.init_value = spec.init_value;
  std::string error;
  const auto same = [&](const Param& p) { return p.name == param.name; };
  if (param.name.empty()) {
    error = "it has no name";
  } else if (std::any_of(graph.params.begin(), graph.params.end(), same)) {
    error = "the name is taken already";
  } else if (spec.init != RETORT_INIT_NORMAL && spec.init != RETORT_INIT_CONSTANT) {
    error = "its init rule " + std::to_string(spec.init) + " is unknown";
  } else if (!std::isfinite(spec.init_value)) {
    error = "its init value isn't finite";
  } else if (ReadShape(spec, param, error)) {
    ReadSources(spec, param, error);
  }
  if (!error.empty()) {
    Fail("param \"" + param.name + "\": " + error);
    return {0};
  }
  graph.params.push_back(std::move(param));
  return {static_cast<uint32_t>(graph.params.size())};
}

void Builder::Impl::SetResult(retort_value hidden, retort_param head, double logit_scale,
                              double soft_cap) {
  if (has_result) return Fail("result was given twice");
  has_result = true;
  if (!HasRows(hidden) || !HasParam(head)) {
    if (hidden.id != 0 && !HasRows(hidden))
      Fail("result: hidden is not a value of this graph's rows");
    if (head.id != 0 && !HasParam(head)) Fail("result: head is not a param of this graph");
    if (errors.empty()) Fail("result: hidden or head is missing");  // else: an echo of those
    return;
  }
  const Param& param = ParamOf(head);
  if (param.shape.size() != 2 || param.shape[1] != WidthOf(hidden)) {
    return Fail("result: head \"" + param.name + "\" has shape " + ShapeText(param.shape) +
                "; it must be " + ShapeText({-1, WidthOf(hidden)}));
  }
  if (!std::isfinite(logit_scale) || logit_scale == 0 || !(soft_cap >= 0)) {
    return Fail("result: logit_scale must be finite and not 0, logit_soft_cap at least 0");
  }
  graph.hidden = static_cast<int32_t>(hidden.id - 1);
  graph.head = static_cast<int32_t>(head.id - 1);
  graph.logit_scale = logit_scale;
  graph.logit_soft_cap = soft_cap;
}

Builder::Builder(std::string family, OpFactory ops) : impl_(std::make_unique<Impl>()) {
  impl_->graph.family = std::move(family);
  impl_->ops = std::move(ops);
  retort_builder_v1& table = impl_->table;
  table.struct_size = sizeof(table);
  table.ctx = impl_.get();
  table.param = [](void* ctx, const retort_param_spec* spec) {
    return Impl::From(ctx).AddParam(*spec);
  };
  table.block = [](void* ctx, uint32_t index) {
    Impl& impl = Impl::From(ctx);
    if (index != static_cast<uint32_t>(impl.graph.n_blocks)) {
      impl.Fail("block " + std::to_string(index) + " begins where block " +
                std::to_string(impl.graph.n_blocks) + " was due; blocks count from 0");
    }
    ++impl.graph.n_blocks;
  };
  table.result = [](void* ctx, retort_value hidden, retort_param head, double logit_scale,
                    double soft_cap) {
    Impl::From(ctx).SetResult(hidden, head, logit_scale, soft_cap);
  };
  FillOps(table);
  FillRowOps(table);
  FillMoe(table);
  FillCustom(table);
}

Builder::~Builder() = default;

const retort_builder_v1* Builder::table() const { return &impl_->table; }

Result<Graph> Builder::Finish() {
  std::vector<std::string>& errors = impl_->errors;
  if (!impl_->has_result) errors.push_back("result was never given");
  if (errors.empty()) CheckAndAssignRoles(impl_->graph, errors);
  if (errors.empty()) return std::move(impl_->graph);
  std::string text = "family \"" + impl_->graph.family + "\" wrote a graph that can't run: ";
  for (size_t i = 0; i < std::min(errors.size(), kErrorsShown); ++i) {
    text += (i > 0 ? "; " : "") + errors[i];
  }
  if (errors.size() > kErrorsShown) {
    text += "; and " + std::to_string(errors.size() - kErrorsShown) + " more";
  }
  return impl_->unimplemented ? Unimplemented(text) : InvalidArgument(text);
}

}  // namespace retort::graph
