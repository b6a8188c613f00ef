// Loading: first a plan that claims every tensor of the model for some rows of some param, with
// all mistakes collected; then the reading, straight into place.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <set>

#include "core/base/threads.h"
#include "core/json/json.h"
#include "core/model/files.h"
#include "core/model/init.h"
#include "core/model/layout.h"
#include "core/model/params.h"

namespace retort::model {
namespace {

struct LoadPlan {
  std::vector<Piece> pieces;
  std::set<size_t> to_init;  // params with an optional part that is not there
};

class Planner {
 public:
  Planner(const Source& source, const graph::Graph& graph) : source_(source), graph_(graph) {}

  Result<LoadPlan> Plan() {
    if (source_.tensors().empty()) {
      return FailedPrecondition(source_.path() +
                                ": there are no weights (model.safetensors or "
                                "model.safetensors.index.json)");
    }
    for (size_t i = 0; i < graph_.params.size(); ++i) PlanParam(i);
    CollectUnclaimed();
    if (!missing_.empty() || !misshaped_.empty() || !unclaimed_.empty()) return Mistakes();
    return std::move(plan_);
  }

 private:
  void PlanParam(size_t index) {
    const graph::Param& param = graph_.params[index];
    const RowsCols want = AsMatrix(param.shape);
    int64_t row = 0;
    bool whole = true;
    for (size_t s = 0; s < param.sources.size(); ++s) {
      const graph::Source& part = param.sources[s];
      claimed_.insert(part.checkpoint_name);
      const TensorInfo* tensor = source_.Find(part.checkpoint_name);
      if (tensor == nullptr) {
        whole = false;
        if (part.optional) {
          plan_.to_init.insert(index);
          row += part.row_end - part.row_begin;
        } else {
          missing_.push_back(part.checkpoint_name);
        }
        continue;
      }
      if (!PlanPiece(index, s, *tensor, want.cols, &row)) whole = false;
    }
    if (whole && row != want.rows) {
      misshaped_.push_back("\"" + param.name + "\": its parts have " + std::to_string(row) +
                           " rows together, wanted " + std::to_string(want.rows));
    }
  }

  bool PlanPiece(size_t index, size_t s, const TensorInfo& tensor, int64_t cols, int64_t* row) {
    const graph::Param& param = graph_.params[index];
    const graph::Source& part = param.sources[s];
    const RowsCols have = AsMatrix(tensor.shape, part.transpose);
    const bool all = part.row_begin == 0 && part.row_end == 0;
    const int64_t begin = part.row_begin, end = all ? have.rows : part.row_end;
    const bool alone = param.sources.size() == 1 && all && !part.transpose;
    const bool fits = have.cols == cols && end <= have.rows;
    if (!fits || (alone && tensor.shape != param.shape)) {
      misshaped_.push_back("\"" + tensor.name + "\" has shape " + ShapeText(tensor.shape) +
                           ", wanted for \"" + param.name + "\": " + ShapeText(param.shape) +
                           (all ? "" : " from rows up to " + std::to_string(end)));
      return false;
    }
    plan_.pieces.push_back({.param = index,
                            .source = s,
                            .param_begin = *row,
                            .source_begin = begin,
                            .rows = end - begin});
    *row += end - begin;
    return true;
  }

  void CollectUnclaimed() {
    const bool tied =
        std::none_of(graph_.params.begin(), graph_.params.end(), [](const graph::Param& param) {
          return std::any_of(param.sources.begin(), param.sources.end(), [](const auto& part) {
            return part.checkpoint_name == "lm_head.weight";
          });
        });
    for (const TensorInfo& tensor : source_.tensors()) {
      // Buffers that older checkpoints carry; a head that equals the embedding.
      if (tensor.name.ends_with("rotary_emb.inv_freq")) continue;
      if (tied && tensor.name == "lm_head.weight") continue;
      if (!claimed_.contains(tensor.name)) unclaimed_.push_back(tensor.name);
    }
  }

  Status Mistakes() const {
    std::vector<std::string> wanted(claimed_.begin(), claimed_.end()), missing;
    for (const std::string& name : missing_) {
      const auto near = json::Nearest(name, unclaimed_);
      missing.push_back("\"" + name + "\"" + (near ? " (there is \"" + *near + "\")" : ""));
    }
    std::string message = source_.path() + ": the weights don't fit the \"" + graph_.family +
                          "\" graph of its config.";
    message += Listed("Missing", missing) + Listed("Wrong shape", misshaped_);
    message += Listed("Not used by the graph", unclaimed_);
    return FailedPrecondition(message);
  }

  static std::string Listed(const char* title, const std::vector<std::string>& items) {
    constexpr size_t kShown = 20;
    std::string out;
    for (size_t i = 0; i < std::min(items.size(), kShown); ++i) {
      out.append(i > 0 ? ", "
                       : std::string("\n") + title + " (" + std::to_string(items.size()) + "): ")
          .append(items[i]);
    }
    return out + (items.size() > kShown ? ", ..." : "");
  }

  const Source& source_;
  const graph::Graph& graph_;
  LoadPlan plan_;
  std::set<std::string> claimed_;
  std::vector<std::string> missing_, misshaped_, unclaimed_;
};

// A matrix that the checkpoint holds as [in, out]: read whole, then turned into its rows.
Status ReadTransposed(const Source& source, const TensorInfo& tensor, const Piece& piece,
                      float* out) {
  const RowsCols have = AsMatrix(tensor.shape);  // [in, out]
  std::vector<float> whole(static_cast<size_t>(have.rows * have.cols));
  const auto view = TensorView::Contiguous(whole.data(), DType::kF32, {have.rows, have.cols});
  RETORT_RETURN_IF_ERROR(source.ReadRows(tensor.name, 0, RowCount(tensor.shape), view));
  for (int64_t r = 0; r < piece.rows; ++r) {
    for (int64_t c = 0; c < have.rows; ++c) {
      out[r * have.rows + c] = whole[static_cast<size_t>(c * have.cols + piece.source_begin + r)];
    }
  }
  return OkStatus();
}

Status ReadPiece(const Source& source, const graph::Graph& graph, const Piece& piece,
                 const ParamStore& store) {
  const graph::Param& param = graph.params[piece.param];
  const graph::Source& part = param.sources[piece.source];
  const TensorInfo& tensor = *source.Find(part.checkpoint_name);
  const RowsCols m = AsMatrix(param.shape);
  float* out = store.data(piece.param) + piece.param_begin * m.cols;
  if (part.transpose) return ReadTransposed(source, tensor, piece, out);
  // ReadRows counts rows of the first dimension: more than one of ours in tensors of 3 dimensions.
  const int64_t first = RowCount(tensor.shape), all_rows = AsMatrix(tensor.shape).rows;
  const int64_t per_first = first == 0 ? 1 : std::max<int64_t>(all_rows / first, 1);
  const int64_t begin = piece.source_begin, end = begin + piece.rows;
  if (begin % per_first != 0 || end % per_first != 0) {
    return Unimplemented("tensor \"" + tensor.name + "\": rows " + std::to_string(begin) + " to " +
                         std::to_string(end) + " cut through its first dimension");
  }
  const auto view = TensorView::Contiguous(out, DType::kF32, {piece.rows, m.cols});
  return source.ReadRows(tensor.name, begin / per_first, end / per_first, view);
}

}  // namespace

Status LoadParams(const Source& source, const graph::Graph& graph, const ParamStore& store,
                  int32_t n_threads) {
  if (store.size() != graph.params.size()) {
    return Internal("the param store was made for another graph");
  }
  RETORT_ASSIGN_OR_RETURN(LoadPlan plan, Planner(source, graph).Plan());
  for (size_t i : plan.to_init) InitParam(graph.params[i], 0, store.data(i));
  // Largest first, dealt out one by one: threads end together. The first error by plan order wins.
  std::stable_sort(plan.pieces.begin(), plan.pieces.end(), [&](const Piece& a, const Piece& b) {
    return a.rows * AsMatrix(graph.params[a.param].shape).cols >
           b.rows * AsMatrix(graph.params[b.param].shape).cols;
  });
  std::vector<Status> results(plan.pieces.size());
  std::atomic<size_t> next{0};
  const int32_t n_workers = std::max(n_threads, 1);
  ParallelFor(n_workers, n_workers, [&](int64_t, int64_t) {
    for (size_t i = next++; i < plan.pieces.size(); i = next++) {
      results[i] = ReadPiece(source, graph, plan.pieces[i], store);
    }
  });
  for (const Status& status : results) RETORT_RETURN_IF_ERROR(status);
  return OkStatus();
}

}  // namespace retort::model
