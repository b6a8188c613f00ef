// SPDX-License-Identifier: Apache-2.0
#include "core/model/source.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/io/filesystem.h"
#include "core/model/files.h"

namespace retort::model {
namespace {

// Index of the first non-finite element; n: all are finite. The inner loop has a fixed length and
// no branch, so that the compiler makes vectors of it.
template <class T, class Bits, Bits kExponent>
int64_t FirstNonFinite(const T* data, int64_t n) {
  constexpr int64_t kChunk = 1024;
  const auto finite = [data](int64_t i) {
    return (std::bit_cast<Bits>(data[i]) & kExponent) != kExponent;
  };
  int64_t i = 0;
  for (; i + kChunk <= n; i += kChunk) {
    bool all = true;
    for (int64_t j = 0; j < kChunk; ++j) all &= finite(i + j);
    if (!all) break;
  }
  while (i < n && finite(i)) ++i;
  return i;
}

int64_t FirstNonFinite(const TensorView& view) {
  if (view.dtype == DType::kF32) {
    return FirstNonFinite<float, uint32_t, 0x7f800000>(view.as<float>(), view.numel());
  }
  return FirstNonFinite<double, uint64_t, 0x7ff0000000000000>(view.as<double>(), view.numel());
}

bool LooksLikeGguf(const std::string& path) {
  if (path.ends_with(".gguf")) return true;
  const Result<io::MappedFile> file = io::MappedFile::Open(path);
  return file.ok() && file->bytes().starts_with("GGUF");
}

}  // namespace

Result<std::unique_ptr<Source>> Source::Open(const std::string& path) {
  const Result<io::FileInfo> info = io::RealFileSystem().Stat(path);
  if (!info.ok()) return info.status().WithContext("model");
  if (info->kind == io::FileKind::kFolder) return OpenHfFolder(path);
  if (LooksLikeGguf(path)) return OpenGguf(path);
  const bool shard = path.ends_with(".safetensors") || path.ends_with(".json");
  return InvalidArgument(path + ": a model is an HF folder or a .gguf file; this is another file" +
                         (shard ? " (name its folder, " + io::Parent(path) + ")" : std::string()));
}

Status Source::ReadStored(std::string_view name, int64_t, int64_t, void*) const {
  return Unimplemented(path() + ": tensor \"" + std::string(name) + "\" can't be read as stored");
}

const TensorInfo* SourceBase::Find(std::string_view name) const {
  const auto it = std::lower_bound(
      tensors_.begin(), tensors_.end(), name,
      [](const TensorInfo& info, std::string_view wanted) { return info.name < wanted; });
  return it != tensors_.end() && it->name == name ? &*it : nullptr;
}

Status SourceBase::ReadRows(std::string_view name, int64_t row_begin, int64_t row_end,
                            const TensorView& out) const {
  const TensorInfo* tensor = Find(name);
  const std::string where = path_ + ": tensor \"" + std::string(name) + "\"";
  if (tensor == nullptr) return NotFound(where + " is not there");
  const int64_t rows = RowCount(tensor->shape);
  if (row_begin < 0 || row_end < row_begin || row_end > rows) {
    return OutOfRange(where + ": rows " + std::to_string(row_begin) + " to " +
                      std::to_string(row_end) + " of " + std::to_string(rows));
  }
  int64_t row_size = 1;
  for (size_t d = 1; d < tensor->shape.size(); ++d) row_size *= tensor->shape[d];
  const bool floats = out.dtype == DType::kF32 || out.dtype == DType::kF64;
  if (!floats || !out.contiguous() || out.numel() != (row_end - row_begin) * row_size) {
    return InvalidArgument(where + ": the destination must be f32 or f64, contiguous, and hold " +
                           std::to_string((row_end - row_begin) * row_size) + " elements");
  }
  if (Status s = Read(*tensor, row_begin, row_end, out); !s.ok()) return s.WithContext(where);
  const int64_t bad = FirstNonFinite(out);
  if (bad == out.numel()) return OkStatus();
  return DataLoss(where + ": not a finite number at element " +
                  std::to_string(row_begin * row_size + bad) + " of shape " +
                  ShapeText(tensor->shape) + " (a damaged or diverged model)");
}

Result<std::string> SourceBase::Fingerprint() const {
  const std::lock_guard lock(fingerprint_mutex_);
  if (fingerprint_) return *fingerprint_;
  Hasher hasher;
  for (const std::string& file : files()) {
    RETORT_ASSIGN_OR_RETURN(const io::FileDigest digest, io::HashFile(file));
    hasher.UpdateSized(is_gguf() ? "" : digest.name);  // a GGUF may be renamed
    hasher.UpdateSized(digest.hash);
  }
  fingerprint_ = hasher.Hex();
  return *fingerprint_;
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (int64_t d : shape) out.append(out.size() > 1 ? ", " : "").append(std::to_string(d));
  return out + "]";
}

}  // namespace retort::model
