// Loading: first a plan that claims every tensor of the model for some rows of some param; then the
// reading, slice by slice, straight into place.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <list>
#include <span>
#include <string>
#include <vector>

#include "core/base/threads.h"
#include "core/model/files.h"
#include "core/model/init.h"
#include "core/model/load_plan.h"
#include "core/model/params.h"
#include "core/model/row_writer.h"

namespace retort::model {
namespace {

// Slices that are given back to the system together: one by one that costs a tenth of loading.
constexpr int kSlicesOfShare = 16;
struct Share {
  std::atomic<int32_t> left{0};  // slices that are not read yet
  int64_t begin = 0, end = 0;    // rows of the param
};

// What one thread does at a time.
struct Job {
  std::span<const Piece> pieces;  // one; all of the param if it must be staged
  int64_t begin = 0, end = 0;     // rows of the param; not if staged
  bool staged = false;
  Share* share = nullptr;  // of slices
};

class Loader {
 public:
  Loader(const Source& source, const graph::Graph& graph, const ParamStore& store)
      : source_(source), graph_(graph), store_(store) {}

  Status Load(const LoadPlan& plan, int32_t n_threads) {
    AddJobs(plan.pieces);
    // Dealt out one by one: threads end together. The first error by plan order wins.
    std::vector<Status> results(jobs_.size());
    std::atomic<size_t> next{0};
    const int32_t n_workers = std::max(n_threads, 1);
    ParallelFor(n_workers, n_workers, [&](int64_t, int64_t) {
      for (size_t i = next++; i < jobs_.size(); i = next++) results[i] = Run(jobs_[i]);
    });
    for (const Status& status : results) RETORT_RETURN_IF_ERROR(status);
    return OkStatus();
  }

 private:
  const graph::Source& PartOf(const Piece& piece) const {
    return graph_.params[piece.param].sources[piece.source];
  }

  void AddJobs(std::span<const Piece> pieces) {
    for (size_t first = 0; first < pieces.size();) {
      size_t last = first + 1;
      while (last < pieces.size() && pieces[last].param == pieces[first].param) ++last;
      AddParam(pieces.subspan(first, last - first));
      first = last;
    }
  }

  void AddParam(std::span<const Piece> pieces) {
    const RowWriter writer(store_.view(pieces[0].param));
    const bool packable = std::all_of(pieces.begin(), pieces.end(), [&](const Piece& p) {
      return writer.Packable(p.param_begin, p.param_begin + p.rows);
    });
    if (!packable) return jobs_.push_back({.pieces = pieces, .staged = true});
    for (const Piece& piece : pieces) {
      const std::span<const Piece> alone(&piece, 1);
      const int64_t end = piece.param_begin + piece.rows;
      if (PartOf(piece).transpose) {
        jobs_.push_back({.pieces = alone, .begin = piece.param_begin, .end = end});
        continue;
      }
      Share* share = nullptr;
      for (int64_t begin = piece.param_begin; begin < end;) {
        const int64_t slice_end = writer.SliceEnd(begin, end);
        if (share == nullptr || share->left == kSlicesOfShare) {
          share = &shares_.emplace_back();
          share->begin = begin;
        }
        jobs_.push_back({.pieces = alone, .begin = begin, .end = slice_end, .share = share});
        ++share->left;
        begin = share->end = slice_end;
      }
    }
  }

  Status Run(const Job& job) const {
    RowWriter writer(store_.view(job.pieces[0].param));
    if (!job.staged) {
      const Piece& piece = job.pieces[0];
      RETORT_RETURN_IF_ERROR(ReadPiece(writer, piece, job.begin, job.end));
      if (job.share != nullptr && --job.share->left == 0) {
        Release(piece, job.share->begin, job.share->end);
      }
      return OkStatus();
    }
    writer.Stage();
    for (const Piece& piece : job.pieces) {
      RETORT_RETURN_IF_ERROR(
          ReadPiece(writer, piece, piece.param_begin, piece.param_begin + piece.rows));
      Release(piece, piece.param_begin, piece.param_begin + piece.rows);
    }
    writer.Unstage();
    return OkStatus();
  }

  Status ReadPiece(const RowWriter& writer, const Piece& piece, int64_t begin, int64_t end) const {
    const TensorInfo& tensor = *source_.Find(PartOf(piece).checkpoint_name);
    if (PartOf(piece).transpose) return ReadTransposed(writer, tensor, piece);
    const int64_t shift = piece.source_begin - piece.param_begin;
    for (int64_t at = begin; at < end;) {
      const int64_t to = writer.SliceEnd(at, end);
      RETORT_RETURN_IF_ERROR(ReadSlice(writer, tensor, piece.param, at, to, shift));
      at = to;
    }
    return OkStatus();
  }

  // Rows [begin, end) of the param were read for good.
  void Release(const Piece& piece, int64_t begin, int64_t end) const {
    if (PartOf(piece).transpose) return;  // done already: the rows are columns
    const int64_t shift = piece.source_begin - piece.param_begin;
    source_.Release(PartOf(piece).checkpoint_name, begin + shift, end + shift);
  }

  // Rows [begin, end) of the param; `shift` makes them rows of the tensor.
  Status ReadSlice(const RowWriter& writer, const TensorInfo& tensor, size_t param, int64_t begin,
                   int64_t end, int64_t shift) const {
    const TensorView& view = store_.view(param);
    const int64_t cols = AsMatrix(graph_.params[param].shape).cols;
    void* place = writer.InPlace(begin);
    if (source_.StoredType(tensor) == view.dtype) {
      if (place != nullptr) {
        return source_.ReadStored(tensor.name, begin + shift, end + shift, place);
      }
      std::vector<unsigned char> blocks(
          static_cast<size_t>((end - begin) * FileRowBytes(view.dtype, cols)));
      RETORT_RETURN_IF_ERROR(
          source_.ReadStored(tensor.name, begin + shift, end + shift, blocks.data()));
      writer.WriteStored(begin, end, blocks.data());
      return OkStatus();
    }
    std::vector<float> rows;
    if (view.dtype != DType::kF32) {
      rows.resize(static_cast<size_t>((end - begin) * cols));
      place = rows.data();
    }
    const auto out = TensorView::Contiguous(place, DType::kF32, {end - begin, cols});
    RETORT_RETURN_IF_ERROR(source_.ReadRows(tensor.name, begin + shift, end + shift, out));
    return rows.empty() ? OkStatus() : writer.WriteF32(begin, end, rows.data(), Named(tensor));
  }

  // A matrix that the checkpoint holds as [in, out]: read whole, then turned into its rows.
  Status ReadTransposed(const RowWriter& writer, const TensorInfo& tensor,
                        const Piece& piece) const {
    const RowsCols have = AsMatrix(tensor.shape);  // [in, out]
    std::vector<float> whole(static_cast<size_t>(have.rows * have.cols)), rows;
    const auto all = TensorView::Contiguous(whole.data(), DType::kF32, {have.rows, have.cols});
    RETORT_RETURN_IF_ERROR(source_.ReadRows(tensor.name, 0, have.rows, all));
    source_.Release(tensor.name, 0, have.rows);
    const int64_t end = piece.param_begin + piece.rows;
    for (int64_t begin = piece.param_begin; begin < end;) {
      const int64_t to = writer.SliceEnd(begin, end);
      rows.resize(static_cast<size_t>((to - begin) * have.rows));
      for (int64_t r = begin; r < to; ++r) {
        const int64_t column = piece.source_begin + r - piece.param_begin;
        for (int64_t c = 0; c < have.rows; ++c) {
          rows[static_cast<size_t>((r - begin) * have.rows + c)] =
              whole[static_cast<size_t>(c * have.cols + column)];
        }
      }
      RETORT_RETURN_IF_ERROR(writer.WriteF32(begin, to, rows.data(), Named(tensor)));
      begin = to;
    }
    return OkStatus();
  }

  std::string Named(const TensorInfo& tensor) const {
    return source_.path() + ": tensor \"" + tensor.name + "\"";
  }

  const Source& source_;
  const graph::Graph& graph_;
  const ParamStore& store_;
  std::vector<Job> jobs_;
  std::list<Share> shares_;
};

}  // namespace

Status LoadParams(const Source& source, const graph::Graph& graph, const ParamStore& store,
                  int32_t n_threads, uint64_t init_seed) {
  if (store.size() != graph.params.size()) {
    return Internal("the param store was made for another graph");
  }
  RETORT_ASSIGN_OR_RETURN(const LoadPlan plan, PlanLoading(source, graph));
  for (size_t i : plan.to_init) {
    RETORT_RETURN_IF_ERROR(InitParam(graph.params[i], init_seed, store.view(i)));
  }
  return Loader(source, graph, store).Load(plan, n_threads);
}

}  // namespace retort::model
