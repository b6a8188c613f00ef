// Writing the plan: a run of rows at a time is read, rounded and measured by all threads, then
// appended. Sums of errors go by pieces of a fixed size, so that they don't depend on threads.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/base/threads.h"
#include "core/model/gguf_export.h"
#include "core/model/layout.h"
#include "retort/kernels/packed.h"

namespace retort::model {
namespace {

using io::GgmlType;

constexpr int64_t kPieceWeights = int64_t{1} << 18;  // of one thread
constexpr float kMaxF16 = 65504;

int PackedTypeOf(GgmlType type) {
  switch (type) {
    case GgmlType::kQ8_0: return RETORT_PACKED_Q8_0;
    case GgmlType::kQ4_0: return RETORT_PACKED_Q4_0;
    case GgmlType::kQ4_1: return RETORT_PACKED_Q4_1;
    case GgmlType::kQ4_K: return RETORT_PACKED_Q4_K;
    case GgmlType::kQ6_K: return RETORT_PACKED_Q6_K;
    default: return -1;
  }
}

void RoundToHalves(GgmlType type, const float* weights, int64_t n, char* out) {
  for (int64_t i = 0; i < n; ++i) {
    const uint16_t half =
        type == GgmlType::kF16 ? io::F32ToF16(weights[i]) : io::F32ToBF16(weights[i]);
    std::memcpy(out + i * 2, &half, sizeof half);
  }
}

// A piece of a tensor: what one thread does.
struct Piece {
  int64_t begin = 0, end = 0;  // rows
  std::vector<float> weights, rounded;
  std::string bytes;
  ExportClass sums;
  Status status;
};

Status Wrong(const ExportTensor& tensor, const Piece& piece, size_t index, int64_t cols,
             const std::string& rule) {
  const int64_t at = piece.begin * cols + static_cast<int64_t>(index);
  return DataLoss("tensor \"" + tensor.item.name + "\", element " + std::to_string(at) + ": " +
                  rule);
}

Status CheckWeights(const ExportTensor& tensor, const Piece& piece, int64_t cols) {
  const bool f16 = tensor.item.type == GgmlType::kF16;
  for (size_t i = 0; i < piece.weights.size(); ++i) {
    const float weight = piece.weights[i];
    if (!std::isfinite(weight)) {
      return Wrong(tensor, piece, i, cols, "not a finite number (a damaged or diverged model)");
    }
    if (f16 && std::abs(weight) > kMaxF16) {
      return Wrong(tensor, piece, i, cols,
                   std::to_string(weight) + " is beyond f16, which ends at 65504; choose bf16");
    }
  }
  return OkStatus();
}

void Measure(Piece* piece) {
  for (size_t i = 0; i < piece->weights.size(); ++i) {
    const double weight = piece->weights[i], error = piece->rounded[i] - weight;
    piece->sums.square_weight += weight * weight;
    piece->sums.square_error += error * error;
    piece->sums.max_error = std::max(piece->sums.max_error, std::abs(error));
  }
}

void Convert(const ExportTensor& tensor, int64_t cols, Piece* piece) {
  const GgmlType type = tensor.item.type;
  const io::GgmlTypeInfo& info = *io::FindGgmlType(static_cast<uint32_t>(type));
  const int64_t n = (piece->end - piece->begin) * cols;
  piece->weights.resize(static_cast<size_t>(n));
  piece->status = tensor.read(piece->begin, piece->end, piece->weights.data());
  if (piece->status.ok()) piece->status = CheckWeights(tensor, *piece, cols);
  if (!piece->status.ok()) return;
  piece->bytes.resize(static_cast<size_t>(n / info.block_weights * info.block_bytes));
  const float* weights = piece->weights.data();
  if (type == GgmlType::kF32) {
    std::memcpy(piece->bytes.data(), weights, piece->bytes.size());
  } else if (type == GgmlType::kF16 || type == GgmlType::kBF16) {
    RoundToHalves(type, weights, n, piece->bytes.data());
  } else {
    retort_quantize(PackedTypeOf(type), weights, n, piece->bytes.data());
  }
  piece->rounded.resize(piece->weights.size());
  io::Dequantize(type, piece->bytes.data(), n, piece->rounded.data());
  Measure(piece);
}

class Run {
 public:
  Run(const GgufExport& plan, const ExportOptions& options, io::GgufWriter* writer)
      : plan_(plan), options_(options), writer_(*writer) {}

  Status Write(ExportReport* report) {
    for (const ExportTensor& tensor : plan_.tensors) all_ += BytesOf(tensor);
    pieces_.resize(static_cast<size_t>(std::max(options_.n_threads, 1)));
    for (size_t i = 0; i < plan_.tensors.size(); ++i) {
      const ExportTensor& tensor = plan_.tensors[i];
      ExportClass& sums = report->classes[{tensor.cls, tensor.item.type}];
      ++sums.tensors;
      sums.bytes += BytesOf(tensor);
      const RowsCols m = AsMatrix(tensor.item.shape);
      sums.weights += m.rows * m.cols;
      RETORT_RETURN_IF_ERROR(tensor.read ? WriteRead(i, &sums) : WriteStored(i));
    }
    return OkStatus();
  }

 private:
  static uint64_t BytesOf(const ExportTensor& tensor) {
    return io::GgufItemBytes(tensor.item, "").value();  // checked by the writer
  }

  Status Progress(uint64_t bytes) {
    done_ += bytes;
    if (!options_.progress || options_.progress(done_, all_)) return OkStatus();
    return Cancelled("interrupted; nothing was written");
  }

  Status WriteStored(size_t index) {
    constexpr size_t kBytes = size_t{8} << 20;
    std::string_view rest = plan_.tensors[index].stored;
    while (!rest.empty()) {
      const std::string_view part = rest.substr(0, kBytes);
      RETORT_RETURN_IF_ERROR(writer_.Append(index, part));
      RETORT_RETURN_IF_ERROR(Progress(part.size()));
      rest.remove_prefix(part.size());
    }
    return OkStatus();
  }

  Status WriteRead(size_t index, ExportClass* sums) {
    const ExportTensor& tensor = plan_.tensors[index];
    const std::vector<int64_t>& shape = tensor.item.shape;
    const RowsCols m = AsMatrix(shape);
    const int64_t step = std::max<int64_t>(kPieceWeights / std::max<int64_t>(m.cols, 1), 1);
    for (int64_t row = 0; row < m.rows && m.cols > 0;) {
      size_t used = 0;
      for (; used < pieces_.size() && row < m.rows; ++used) {
        Piece& piece = pieces_[used];
        piece.begin = row;
        piece.end = row = std::min(row + step, m.rows);
        piece.sums = {};
      }
      ParallelFor(static_cast<int64_t>(used), options_.n_threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          Convert(tensor, m.cols, &pieces_[static_cast<size_t>(i)]);
        }
      });
      for (size_t i = 0; i < used; ++i) {
        RETORT_RETURN_IF_ERROR(pieces_[i].status);
        Add(pieces_[i].sums, sums);
        RETORT_RETURN_IF_ERROR(writer_.Append(index, pieces_[i].bytes));
        RETORT_RETURN_IF_ERROR(Progress(pieces_[i].bytes.size()));
      }
    }
    return OkStatus();
  }

  static void Add(const ExportClass& piece, ExportClass* sums) {
    sums->square_error += piece.square_error;
    sums->square_weight += piece.square_weight;
    sums->max_error = std::max(sums->max_error, piece.max_error);
  }

  const GgufExport& plan_;
  const ExportOptions& options_;
  io::GgufWriter& writer_;
  std::vector<Piece> pieces_;
  uint64_t done_ = 0, all_ = 0;
};

}  // namespace

Result<ExportReport> WriteGguf(io::FileSystem& fs, const std::string& path, const GgufExport& plan,
                               const ExportOptions& options) {
  std::vector<io::GgufItem> items;
  for (const ExportTensor& tensor : plan.tensors) items.push_back(tensor.item);
  RETORT_ASSIGN_OR_RETURN(io::GgufWriter writer,
                          io::GgufWriter::Create(fs, path, plan.kvs, std::move(items)));
  ExportReport report;
  if (Status s = Run(plan, options, &writer).Write(&report); !s.ok()) return s.WithContext(path);
  RETORT_ASSIGN_OR_RETURN(report.file, writer.Finish());
  return report;
}

}  // namespace retort::model
