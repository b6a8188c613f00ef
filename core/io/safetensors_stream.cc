// SPDX-License-Identifier: Apache-2.0
#include "core/io/safetensors_stream.h"

#include <algorithm>
#include <set>

#include "core/base/checked.h"
#include "core/json/json.h"

namespace retort::io {
namespace {

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

// Bytes of all tensors, the rules checked.
Result<int64_t> CheckSpecs(const std::string& path, const std::vector<SafetensorsSpec>& specs) {
  std::set<std::string_view> seen;
  int64_t total = 0;
  for (const SafetensorsSpec& spec : specs) {
    const std::string where = path + ": tensor \"" + spec.name + "\"";
    if (!seen.insert(spec.name).second) return InvalidArgument(where + " is given twice");
    if (spec.name.empty() || spec.name == "__metadata__") {
      return InvalidArgument(where + ": not a name that a tensor can have");
    }
    if (StoredName(spec.stored).empty()) {
      return InvalidArgument(where + ": " + std::string(DTypeName(spec.stored)) +
                             " has no place in a safetensors file");
    }
    int64_t bytes = 0;
    const bool fits = CheckedNumel(spec.shape, &bytes) &&
                      CheckedMul(bytes, DTypeSize(spec.stored), &bytes) &&
                      CheckedAdd(total, bytes, &total);
    if (!fits) return InvalidArgument(where + ": the sizes overflow");
  }
  return total;
}

std::string HeaderOf(const std::vector<SafetensorsSpec>& specs,
                     const std::map<std::string, std::string>& metadata) {
  json::Writer w;
  w.BeginObject();
  if (!metadata.empty()) {
    w.Key("__metadata__").BeginObject();
    for (const auto& [key, value] : metadata) w.Field(key, value);
    w.EndObject();
  }
  int64_t at = 0;
  for (const SafetensorsSpec& spec : specs) {
    w.Key(spec.name).BeginObject().Key("dtype").String(StoredName(spec.stored));
    w.Key("shape").BeginArray();
    int64_t bytes = DTypeSize(spec.stored);
    for (const int64_t d : spec.shape) {
      w.Int(d);
      bytes *= d;
    }
    w.EndArray().Key("data_offsets").BeginArray().Int(at).Int(at + bytes).EndArray().EndObject();
    at += bytes;
  }
  std::string text = w.EndObject().Take();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

}  // namespace

Result<SafetensorsWriter> SafetensorsWriter::Create(
    FileSystem& fs, const std::string& path, std::vector<SafetensorsSpec> specs,
    const std::map<std::string, std::string>& metadata) {
  std::sort(specs.begin(), specs.end(), [](const auto& a, const auto& b) {
    const int64_t x = DTypeSize(a.stored), y = DTypeSize(b.stored);
    return x != y ? x > y : a.name < b.name;
  });
  RETORT_ASSIGN_OR_RETURN(const int64_t bytes, CheckSpecs(path, specs));
  RETORT_ASSIGN_OR_RETURN(DurableFile file, DurableFile::Create(fs, path));
  const std::string header = HeaderOf(specs, metadata);
  const uint64_t length = header.size();
  RETORT_RETURN_IF_ERROR(file.Append(&length, sizeof length));
  RETORT_RETURN_IF_ERROR(file.Append(header));
  return SafetensorsWriter(std::move(file), path, std::move(specs), static_cast<uint64_t>(bytes));
}

Status SafetensorsWriter::Append(std::string_view bytes) {
  done_ += bytes.size();
  if (done_ > bytes_) return Internal(path_ + ": more bytes than the header says");
  return file_.Append(bytes);
}

Result<FileDigest> SafetensorsWriter::Finish() {
  if (done_ != bytes_) {
    return Internal(path_ + ": " + std::to_string(done_) + " bytes of " + std::to_string(bytes_));
  }
  return file_.Publish();
}

}  // namespace retort::io
