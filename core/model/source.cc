// SPDX-License-Identifier: Apache-2.0
#include "core/model/source.h"

#include <algorithm>
#include <bit>
#include <optional>

#include "core/io/filesystem.h"
#include "core/model/files.h"
#include "core/model/row_writer.h"

namespace retort::model {
namespace {

constexpr uint64_t kExponent64 = 0x7ff0000000000000;

// Index of the first element that is not finite; numel: all are.
int64_t FirstNonFinite(const TensorView& view) {
  if (view.dtype == DType::kF32) return FirstNonFiniteStored(DType::kF32, view.data, view.numel());
  const double* values = view.as<double>();
  const double* bad = std::find_if(values, values + view.numel(), [](double value) {
    return (std::bit_cast<uint64_t>(value) & kExponent64) == kExponent64;
  });
  return bad - values;
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

const TensorInfo* SourceBase::Find(std::string_view name) const {
  const auto it = std::lower_bound(
      tensors_.begin(), tensors_.end(), name,
      [](const TensorInfo& info, std::string_view wanted) { return info.name < wanted; });
  return it != tensors_.end() && it->name == name ? &*it : nullptr;
}

Result<const TensorInfo*> SourceBase::FindRows(std::string_view name, int64_t begin,
                                               int64_t end) const {
  const TensorInfo* tensor = Find(name);
  if (tensor == nullptr) return NotFound(Where(name) + " is not there");
  const int64_t rows = RowCount(tensor->shape);
  if (begin >= 0 && begin <= end && end <= rows) return tensor;
  return OutOfRange(Where(name) + ": rows " + std::to_string(begin) + " to " + std::to_string(end) +
                    " of " + std::to_string(rows));
}

Status SourceBase::NotFinite(const TensorInfo& tensor, int64_t element) const {
  return DataLoss(Where(tensor.name) + ": not a finite number at element " +
                  std::to_string(element) + " of shape " + ShapeText(tensor.shape) +
                  " (a damaged or diverged model)");
}

Status SourceBase::ReadRows(std::string_view name, int64_t row_begin, int64_t row_end,
                            const TensorView& out) const {
  RETORT_ASSIGN_OR_RETURN(const TensorInfo* tensor, FindRows(name, row_begin, row_end));
  const int64_t cols = AsMatrix(tensor->shape).cols;
  const bool floats = out.dtype == DType::kF32 || out.dtype == DType::kF64;
  if (!floats || !out.contiguous() || out.numel() != (row_end - row_begin) * cols) {
    return InvalidArgument(Where(name) +
                           ": the destination must be f32 or f64, contiguous, and hold " +
                           std::to_string((row_end - row_begin) * cols) + " elements");
  }
  if (Status s = Read(*tensor, row_begin, row_end, out); !s.ok()) return s.WithContext(Where(name));
  const int64_t bad = FirstNonFinite(out);
  return bad == out.numel() ? OkStatus() : NotFinite(*tensor, row_begin * cols + bad);
}

Status SourceBase::ReadStored(std::string_view name, int64_t row_begin, int64_t row_end,
                              void* out) const {
  RETORT_ASSIGN_OR_RETURN(const TensorInfo* tensor, FindRows(name, row_begin, row_end));
  const std::optional<DType> dtype = StoredType(*tensor);
  if (!dtype) {
    return Unimplemented(Where(name) + ": " + tensor->storage + " can't be kept as it is stored");
  }
  ReadBytes(*tensor, row_begin, row_end, static_cast<char*>(out));
  const int64_t cols = AsMatrix(tensor->shape).cols, n = (row_end - row_begin) * cols;
  const int64_t bad = FirstNonFiniteStored(*dtype, out, n);
  return bad == n ? OkStatus() : NotFinite(*tensor, row_begin * cols + bad);
}

void SourceBase::Release(std::string_view name, int64_t row_begin, int64_t row_end) const {
  const Result<const TensorInfo*> tensor = FindRows(name, row_begin, row_end);
  if (tensor.ok()) ReleaseBytes(**tensor, row_begin, row_end);
}

std::string SourceBase::Where(std::string_view tensor) const {
  return path_ + ": tensor \"" + std::string(tensor) + "\"";
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
