// SPDX-License-Identifier: Apache-2.0
#include "core/model/convert.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "core/io/dequant.h"
#include "core/io/safetensors_stream.h"
#include "core/model/layout.h"
#include "core/model/save.h"

namespace retort::model {
namespace {

constexpr int64_t kPieceWeights = int64_t{1} << 18;
constexpr float kMaxF16 = 65504;

// Rounds a piece; `sums` counts what that costs.
Status Round(const TensorInfo& tensor, int64_t first, const std::vector<float>& weights,
             DType store, std::string* out, ConvertReport* sums) {
  out->resize(weights.size() * static_cast<size_t>(DTypeSize(store)));
  if (store == DType::kF32) {
    std::memcpy(out->data(), weights.data(), out->size());
    return OkStatus();
  }
  for (size_t i = 0; i < weights.size(); ++i) {
    const float weight = weights[i];
    if (store == DType::kF16 && std::abs(weight) > kMaxF16) {
      return DataLoss("tensor \"" + tensor.name + "\", element " +
                      std::to_string(first + static_cast<int64_t>(i)) + ": " +
                      std::to_string(weight) + " is beyond f16, which ends at 65504; choose bf16");
    }
    const bool bf16 = store == DType::kBF16;
    const uint16_t half = bf16 ? io::F32ToBF16(weight) : io::F32ToF16(weight);
    std::memcpy(out->data() + i * 2, &half, sizeof half);
    const double error = (bf16 ? io::BF16ToF32(half) : io::F16ToF32(half)) - double{weight};
    sums->square_error += error * error;
    sums->square_weight += double{weight} * double{weight};
    sums->max_error = std::max(sums->max_error, std::abs(error));
  }
  return OkStatus();
}

Status WriteTensor(const Source& source, const TensorInfo& tensor, DType store,
                   io::SafetensorsWriter* file, ConvertReport* report,
                   const std::function<Status(uint64_t)>& progress) {
  const RowsCols m = AsMatrix(tensor.shape);
  const int64_t step = std::max<int64_t>(kPieceWeights / std::max<int64_t>(m.cols, 1), 1);
  std::vector<float> weights;
  std::string bytes;
  for (int64_t row = 0; row < m.rows && m.cols > 0; row += step) {
    const int64_t n = std::min(step, m.rows - row);
    weights.resize(static_cast<size_t>(n * m.cols));
    const auto view = TensorView::Contiguous(weights.data(), DType::kF32, {n, m.cols});
    RETORT_RETURN_IF_ERROR(source.ReadRows(tensor.name, row, row + n, view));
    source.Release(tensor.name, row, row + n);
    RETORT_RETURN_IF_ERROR(Round(tensor, row * m.cols, weights, store, &bytes, report));
    RETORT_RETURN_IF_ERROR(file->Append(bytes));
    RETORT_RETURN_IF_ERROR(progress(bytes.size()));
  }
  ++report->tensors;
  report->weights += m.rows * m.cols;
  return OkStatus();
}

// Weights of an older model, which a reader would prefer or take for part of the new one.
Status RemoveOlder(io::FileSystem& fs, const std::string& folder) {
  RETORT_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(folder));
  for (const std::string& name : names) {
    const bool shard = name.starts_with("model-") && name.ends_with(".safetensors");
    if (!shard && name != "model.safetensors.index.json") continue;
    RETORT_RETURN_IF_ERROR(fs.Remove(io::Join(folder, name)));
  }
  return OkStatus();
}

}  // namespace

DType MainType(const Source& source) {
  std::map<std::string_view, uint64_t> bytes;
  for (const TensorInfo& tensor : source.tensors()) bytes[tensor.storage] += tensor.bytes;
  const auto most = std::max_element(
      bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most == bytes.end()) return DType::kF32;
  return most->first == "BF16" ? DType::kBF16 : most->first == "F16" ? DType::kF16 : DType::kF32;
}

Result<ConvertReport> WriteFolder(io::FileSystem& fs, const std::string& folder,
                                  const Source& source, DType store,
                                  const std::function<bool(uint64_t, uint64_t)>& progress) {
  const ModelTexts texts = TextsOf(source);
  RETORT_ASSIGN_OR_RETURN(const std::string config, SavedConfig(texts.config_json, store));
  std::vector<io::SafetensorsSpec> specs;
  uint64_t all = 0, done = 0;
  for (const TensorInfo& tensor : source.tensors()) {
    specs.push_back({.name = tensor.name, .shape = tensor.shape, .stored = store});
    const RowsCols m = AsMatrix(tensor.shape);
    all += static_cast<uint64_t>(m.rows * m.cols * DTypeSize(store));
  }
  const auto count = [&](uint64_t bytes) -> Status {
    done += bytes;
    return !progress || progress(done, all) ? OkStatus() : Cancelled("interrupted");
  };
  RETORT_RETURN_IF_ERROR(fs.MakeFolders(folder));
  const std::string path = io::Join(folder, "model.safetensors");
  RETORT_ASSIGN_OR_RETURN(io::SafetensorsWriter file,
                          io::SafetensorsWriter::Create(fs, path, std::move(specs)));
  ConvertReport report;
  for (const io::SafetensorsSpec& spec : file.specs()) {
    const Status written =
        WriteTensor(source, *source.Find(spec.name), store, &file, &report, count);
    if (!written.ok()) return written.WithContext(path);
  }
  RETORT_ASSIGN_OR_RETURN(const io::FileDigest digest, file.Finish());
  report.bytes = digest.bytes;
  RETORT_RETURN_IF_ERROR(RemoveOlder(fs, folder));
  std::vector<io::FileDigest> digests;
  RETORT_RETURN_IF_ERROR(WriteTexts(fs, folder, texts, config, &digests));
  return report;
}

}  // namespace retort::model
