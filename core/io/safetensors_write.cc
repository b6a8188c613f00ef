// Writing views: they stream through one small buffer.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <map>

#include "core/io/dequant.h"
#include "core/io/safetensors.h"
#include "core/io/safetensors_stream.h"

namespace retort::io {
namespace {

constexpr int64_t kBufferBytes = int64_t{1} << 20;

bool Convertible(DType from, DType to) {
  return (from == to && !IsBlockType(from)) ||
         (from == DType::kF32 && (to == DType::kBF16 || to == DType::kF16));
}

Status CheckItems(const std::string& path, const std::vector<SafetensorsItem>& items) {
  for (const SafetensorsItem& item : items) {
    if (Convertible(item.view.dtype, item.stored)) continue;
    return InvalidArgument(path + ": tensor \"" + item.name +
                           "\": " + std::string(DTypeName(item.view.dtype)) +
                           " can't be stored as " + std::string(DTypeName(item.stored)));
  }
  return OkStatus();
}

SafetensorsSpec SpecOf(const SafetensorsItem& item) {
  const auto* shape = item.view.shape.data();
  return {.name = item.name, .shape = {shape, shape + item.view.ndim}, .stored = item.stored};
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
Status AppendView(const SafetensorsItem& item, std::string* buffer, SafetensorsWriter* file) {
  const TensorView& v = item.view;
  const int64_t total = v.numel(), stored_size = DTypeSize(item.stored);
  const bool flat = v.contiguous();
  if (flat && v.dtype == item.stored) {
    return file->Append(
        {static_cast<const char*>(v.data), static_cast<size_t>(total * stored_size)});
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
  RETORT_RETURN_IF_ERROR(CheckItems(path, items));
  std::vector<SafetensorsSpec> specs;
  for (const SafetensorsItem& item : items) specs.push_back(SpecOf(item));
  RETORT_ASSIGN_OR_RETURN(SafetensorsWriter file,
                          SafetensorsWriter::Create(fs, path, std::move(specs), metadata));
  std::map<std::string_view, const SafetensorsItem*> by_name;
  for (const SafetensorsItem& item : items) by_name[item.name] = &item;
  std::string buffer;
  for (const SafetensorsSpec& spec : file.specs())
    RETORT_RETURN_IF_ERROR(AppendView(*by_name.at(spec.name), &buffer, &file));
  return file.Finish();
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
