// SPDX-License-Identifier: Apache-2.0
#include "core/model/checkpoint_items.h"

#include <algorithm>

namespace retort::model {
namespace {

Status Incomplete(const std::string& name) {
  return FailedPrecondition("tensor \"" + name +
                            "\": the graph's params don't cover its rows, each once, from 0 on");
}

}  // namespace

Result<std::vector<io::SafetensorsItem>> CheckpointItems::Collect() {
  for (size_t i = 0; i < graph_.params.size(); ++i) {
    if (graph_.params[i].adapter < 0) RETORT_RETURN_IF_ERROR(AddParam(i));
  }
  for (const auto& [name, pieces] : tensors_) RETORT_RETURN_IF_ERROR(AddTensor(name, pieces));
  return std::move(items_);
}

Status CheckpointItems::AddParam(size_t index) {
  const graph::Param& param = graph_.params[index];
  const TensorView& view = params_[index];
  const std::span<const int64_t> shape(view.shape.data(), static_cast<size_t>(view.ndim));
  if (view.dtype != DType::kF32 ||
      !std::equal(shape.begin(), shape.end(), param.shape.begin(), param.shape.end())) {
    return Internal("param \"" + param.name + "\": not an f32 view of its shape");
  }
  const int64_t rows = AsMatrix(param.shape).rows;
  int64_t at = 0;
  for (size_t s = 0; s < param.sources.size(); ++s) {
    const graph::Source& part = param.sources[s];
    const bool all = part.row_begin == 0 && part.row_end == 0;
    if (all && param.sources.size() > 1) {
      return Unimplemented("param \"" + param.name + "\": the graph doesn't say how many rows \"" +
                           part.checkpoint_name + "\" has, so it can't be taken apart again");
    }
    const int64_t n = all ? rows : part.row_end - part.row_begin;
    tensors_[part.checkpoint_name].push_back({.param = index,
                                              .source = s,
                                              .param_begin = at,
                                              .source_begin = part.row_begin,
                                              .rows = n});
    at += n;
  }
  return OkStatus();
}

Status CheckpointItems::AddTensor(const std::string& name, const std::vector<Piece>& pieces) {
  if (pieces.size() > 1) return Assemble(name, pieces);
  const Piece& piece = pieces[0];
  const graph::Param& param = graph_.params[piece.param];
  const RowsCols m = AsMatrix(param.shape);
  if (piece.source_begin != 0) return Incomplete(name);
  TensorView view = params_[piece.param];
  if (piece.rows != m.rows) {
    if (view.ndim > 2) {  // a stack of matrices, as one matrix of all their rows
      if (!view.contiguous())
        return Unimplemented("tensor \"" + name + "\": rows of a padded stack");
      view = TensorView::Contiguous(view.data, view.dtype, {m.rows, m.cols});
    }
    view = view.Rows(piece.param_begin, piece.param_begin + piece.rows);
  }
  if (param.sources[piece.source].transpose && view.ndim == 2) {
    std::swap(view.shape[0], view.shape[1]);
    std::swap(view.strides[0], view.strides[1]);
  }
  items_.push_back({.name = name, .view = view, .stored = store_});
  return OkStatus();
}

Status CheckpointItems::Assemble(const std::string& name, std::vector<Piece> pieces) {
  std::sort(pieces.begin(), pieces.end(),
            [](const Piece& a, const Piece& b) { return a.source_begin < b.source_begin; });
  const graph::Param& front = graph_.params[pieces[0].param];
  const int64_t cols = AsMatrix(front.shape).cols;
  std::vector<float>& buffer = buffers_.emplace_back();
  int64_t at = 0;
  for (const Piece& piece : pieces) {
    const graph::Param& param = graph_.params[piece.param];
    if (param.sources[piece.source].transpose || !params_[piece.param].contiguous()) {
      return Unimplemented("tensor \"" + name + "\": shared by params, transposed or padded");
    }
    if (piece.source_begin != at || AsMatrix(param.shape).cols != cols) return Incomplete(name);
    const float* from = params_[piece.param].as<float>() + piece.param_begin * cols;
    buffer.insert(buffer.end(), from, from + piece.rows * cols);
    at += piece.rows;
  }
  const auto view = front.shape.size() == 1
                        ? TensorView::Contiguous(buffer.data(), DType::kF32, {at})
                        : TensorView::Contiguous(buffer.data(), DType::kF32, {at, cols});
  items_.push_back({.name = name, .view = view, .stored = store_});
  return OkStatus();
}

}  // namespace retort::model
