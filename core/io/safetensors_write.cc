// Writing: the layout is decided first, so that the header is known before any data; tensors then
// stream through one small buffer.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <set>

#include "core/base/checked.h"
#include "core/io/dequant.h"
#include "core/io/safetensors.h"

namespace retort::io {
namespace {

constexpr int64_t kBufferBytes = int64_t{1} << 20;

std::string_view StoredName(DType dtype) {
  switch (dtype) {
    case DType::kF32: return "F32";
    case DType::kF64: return "F64";
    case DType::kF16: return "F16";
    case DType::kBF16: return "BF16";
    case DType::kI64: return "I64";
    case DType::kI32: return "I32";
    case DType::kI16: return "I16";
    case DType::kI8: return "I8";
    case DType::kU8: return "U8";
    case DType::kBool: return "BOOL";
    default: return "";  // the format has no blocks
  }
}

bool Convertible(DType from, DType to) {
  return (from == to && !IsBlockType(from)) ||
         (from == DType::kF32 && (to == DType::kBF16 || to == DType::kF16));
}

Status CheckItems(const std::string& path, const std::vector<SafetensorsItem>& items) {
  std::set<std::string_view> seen;
  for (const SafetensorsItem& item : items) {
    const std::string where = path + ": tensor \"" + item.name + "\"";
    if (!seen.insert(item.name).second) return InvalidArgument(where + " is given twice");
    if (item.name.empty() || item.name == "__metadata__") {
      return InvalidArgument(where + ": not a name that a tensor can have");
    }
    if (!Convertible(item.view.dtype, item.stored)) {
      return InvalidArgument(where + ": " + std::string(DTypeName(item.view.dtype)) +
                             " can't be stored as " + std::string(DTypeName(item.stored)));
    }
  }
  return OkStatus();
}

std::string HeaderOf(const std::vector<SafetensorsItem>& items,
                     const std::map<std::string, std::string>& metadata) {
  json::Writer w;
  w.BeginObject();
  if (!metadata.empty()) {
    w.Key("__metadata__").BeginObject();
    for (const auto& [key, value] : metadata) w.Field(key, value);
    w.EndObject();
  }
  int64_t at = 0;
  for (const SafetensorsItem& item : items) {
    const int64_t bytes = item.view.numel() * DTypeSize(item.stored);
    w.Key(item.name).BeginObject().Key("dtype").String(StoredName(item.stored));
    w.Key("shape").BeginArray();
    for (int i = 0; i < item.view.ndim; ++i) w.Int(item.view.shape[static_cast<size_t>(i)]);
    w.EndArray().Key("data_offsets").BeginArray().Int(at).Int(at + bytes).EndArray().EndObject();
    at += bytes;
  }
  std::string text = w.EndObject().Take();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

// A run of `n` elements, `stride` apart, into `out` as `stored`.
void Gather(const char* src, int64_t n, int64_t stride, DType from, DType stored, char* out) {
  const int64_t size = DTypeSize(from);
  if (from == stored) {
    if (stride == 1) {
      std::memcpy(out, src, static_cast<size_t>(n * size));
      return;
    }
    for (int64_t i = 0; i < n; ++i) {
      std::memcpy(out + i * size, src + i * stride * size, static_cast<size_t>(size));
    }
    return;
  }
  for (int64_t i = 0; i < n; ++i) {
    float value = 0;
    std::memcpy(&value, src + i * stride * size, sizeof value);
    const uint16_t half = stored == DType::kBF16 ? F32ToBF16(value) : F32ToF16(value);
    std::memcpy(out + i * 2, &half, sizeof half);
  }
}

// One view, element by element in row-major order, through the buffer.
Status AppendView(const SafetensorsItem& item, std::string* buffer, DurableFile* file) {
  const TensorView& v = item.view;
  const int64_t total = v.numel(), stored_size = DTypeSize(item.stored);
  const bool flat = v.contiguous();
  if (flat && v.dtype == item.stored) {
    return file->Append(v.data, static_cast<uint64_t>(total * stored_size));
  }
  const auto last = static_cast<size_t>(std::max(v.ndim - 1, 0));
  const int64_t run = flat ? total : v.shape[last], stride = flat ? 1 : v.strides[last];
  for (int64_t first = 0; first < total; first += run) {
    int64_t offset = 0, rest = first / run;  // of the run, by the outer dimensions
    for (size_t d = flat ? 0 : last; d-- > 0; rest /= v.shape[d])
      offset += rest % v.shape[d] * v.strides[d];
    for (int64_t at = 0; at < run;) {
      const int64_t n = std::min(run - at, kBufferBytes / stored_size);
      const size_t old = buffer->size();
      buffer->resize(old + static_cast<size_t>(n * stored_size));
      Gather(static_cast<const char*>(v.data) + (offset + at * stride) * DTypeSize(v.dtype), n,
             stride, v.dtype, item.stored, buffer->data() + old);
      at += n;
      if (buffer->size() < static_cast<size_t>(kBufferBytes)) continue;
      RETORT_RETURN_IF_ERROR(file->Append(*buffer));
      buffer->clear();
    }
  }
  RETORT_RETURN_IF_ERROR(file->Append(*buffer));
  buffer->clear();
  return OkStatus();
}

}  // namespace

Result<FileDigest> WriteSafetensors(FileSystem& fs, const std::string& path,
                                    std::vector<SafetensorsItem> items,
                                    const std::map<std::string, std::string>& metadata) {
  std::sort(items.begin(), items.end(), [](const auto& a, const auto& b) {
    const int64_t x = DTypeSize(a.stored), y = DTypeSize(b.stored);
    return x != y ? x > y : a.name < b.name;
  });
  RETORT_RETURN_IF_ERROR(CheckItems(path, items));
  RETORT_ASSIGN_OR_RETURN(DurableFile file, DurableFile::Create(fs, path));
  const std::string header = HeaderOf(items, metadata);
  const uint64_t length = header.size();
  RETORT_RETURN_IF_ERROR(file.Append(&length, sizeof length));
  RETORT_RETURN_IF_ERROR(file.Append(header));
  std::string buffer;
  for (const SafetensorsItem& item : items)
    RETORT_RETURN_IF_ERROR(AppendView(item, &buffer, &file));
  return file.Publish();
}

Status CastFloats(std::string_view dtype, const char* bytes, int64_t n, DType out_dtype,
                  void* out) {
  const uint64_t size = SafetensorsDtypeSize(dtype);
  const bool known = dtype == "F64" || dtype == "F32" || dtype == "F16" || dtype == "BF16";
  if (!known) {
    return Unimplemented("dtype " + std::string(dtype) +
                         " is not read as weights (F32, BF16, F16, F64 are)");
  }
  const auto same = out_dtype == DType::kF32 ? "F32" : "F64";
  if (dtype == same) {
    std::memcpy(out, bytes, static_cast<size_t>(n) * size);
    return OkStatus();
  }
  if (out_dtype == DType::kF32 && dtype == "F16") {
    F16ToF32(bytes, n, static_cast<float*>(out));
    return OkStatus();
  }
  if (out_dtype == DType::kF32 && dtype == "BF16") {
    BF16ToF32(bytes, n, static_cast<float*>(out));
    return OkStatus();
  }
  for (int64_t i = 0; i < n; ++i) {
    double value = 0;
    float single = 0;
    const char* at = bytes + static_cast<uint64_t>(i) * size;
    if (dtype == "F64") {
      std::memcpy(&value, at, sizeof value);
      static_cast<float*>(out)[i] = static_cast<float>(value);
      continue;
    }
    if (dtype == "F32") std::memcpy(&single, at, sizeof single);
    if (dtype == "F16") F16ToF32(at, 1, &single);
    if (dtype == "BF16") BF16ToF32(at, 1, &single);
    static_cast<double*>(out)[i] = single;
  }
  return OkStatus();
}

}  // namespace retort::io
