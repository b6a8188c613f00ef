// SPDX-License-Identifier: Apache-2.0
#include "core/io/gguf_write.h"

#include <unordered_set>

#include "core/base/checked.h"

namespace retort::io {
namespace {

constexpr size_t kMaxName = 64, kMaxKey = 65535, kMaxDims = 4;
constexpr uint32_t kVersion = 3;

uint64_t Padding(uint64_t bytes) {
  return (GgufWriter::kAlignment - bytes % GgufWriter::kAlignment) % GgufWriter::kAlignment;
}

template <class T>
void Put(std::string* out, const T& value) {
  out->append(reinterpret_cast<const char*>(&value), sizeof value);
}
void PutText(std::string* out, std::string_view text) {
  Put(out, static_cast<uint64_t>(text.size()));
  out->append(text);
}

std::string Where(std::string_view what, const GgufItem& item) {
  return std::string(what) + ": tensor \"" + item.name + "\"";
}

Status CheckKeys(const std::string& path, std::span<const std::string> keys) {
  std::unordered_set<std::string_view> seen;
  for (const std::string& key : keys) {
    const std::string where = path + ": key \"" + key.substr(0, 80) + "\"";
    if (key.empty() || key.size() > kMaxKey) {
      return InvalidArgument(where + ": must have 1 to " + std::to_string(kMaxKey) +
                             " bytes, not " + std::to_string(key.size()));
    }
    if (!seen.insert(key).second) return InvalidArgument(where + " is given twice");
  }
  return OkStatus();
}

// The sizes of the items, all rules checked.
Result<std::vector<uint64_t>> CheckItems(const std::string& path,
                                         const std::vector<GgufItem>& items) {
  std::unordered_set<std::string_view> seen;
  std::vector<uint64_t> sizes;
  uint64_t total = 0;
  for (const GgufItem& item : items) {
    RETORT_ASSIGN_OR_RETURN(const uint64_t bytes, GgufItemBytes(item, path));
    if (!seen.insert(item.name).second) {
      return InvalidArgument(Where(path, item) + " is given twice");
    }
    if (!CheckedAdd(total, bytes, &total) || !CheckedAdd(total, Padding(bytes), &total)) {
      return InvalidArgument(Where(path, item) + ": the sizes of all tensors together overflow");
    }
    sizes.push_back(bytes);
  }
  return sizes;
}

std::string HeadOf(const GgufKvs& kvs, const std::vector<GgufItem>& items,
                   const std::vector<uint64_t>& sizes) {
  std::string out = "GGUF";
  Put(&out, kVersion);
  Put(&out, static_cast<uint64_t>(items.size()));
  Put(&out, static_cast<uint64_t>(kvs.keys().size()));
  out += kvs.bytes();
  uint64_t offset = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    const GgufItem& item = items[i];
    PutText(&out, item.name);
    Put(&out, static_cast<uint32_t>(item.shape.size()));
    for (size_t d = item.shape.size(); d-- > 0;) Put(&out, static_cast<uint64_t>(item.shape[d]));
    Put(&out, static_cast<uint32_t>(item.type));
    Put(&out, offset);
    offset += sizes[i] + Padding(sizes[i]);
  }
  out.append(Padding(out.size()), '\0');
  return out;
}

}  // namespace

template <class T>
void GgufKvs::Raw(const T& value) {
  Put(&bytes_, value);
}
void GgufKvs::Text(std::string_view text) { PutText(&bytes_, text); }
void GgufKvs::Begin(std::string_view key, GgufType type) {
  keys_.emplace_back(key);
  Text(key);
  Raw(static_cast<uint32_t>(type));
}
void GgufKvs::BeginArray(std::string_view key, GgufType element, uint64_t count) {
  Begin(key, GgufType::kArray);
  Raw(static_cast<uint32_t>(element));
  Raw(count);
}

GgufKvs& GgufKvs::U32(std::string_view key, uint32_t value) {
  Begin(key, GgufType::kU32);
  Raw(value);
  return *this;
}
GgufKvs& GgufKvs::F32(std::string_view key, float value) {
  Begin(key, GgufType::kF32);
  Raw(value);
  return *this;
}
GgufKvs& GgufKvs::Bool(std::string_view key, bool value) {
  Begin(key, GgufType::kBool);
  Raw(static_cast<uint8_t>(value));
  return *this;
}
GgufKvs& GgufKvs::String(std::string_view key, std::string_view value) {
  Begin(key, GgufType::kString);
  Text(value);
  return *this;
}
GgufKvs& GgufKvs::Strings(std::string_view key, std::span<const std::string> values) {
  BeginArray(key, GgufType::kString, values.size());
  for (const std::string& value : values) Text(value);
  return *this;
}
GgufKvs& GgufKvs::I32s(std::string_view key, std::span<const int32_t> values) {
  BeginArray(key, GgufType::kI32, values.size());
  for (const int32_t value : values) Raw(value);
  return *this;
}
GgufKvs& GgufKvs::F32s(std::string_view key, std::span<const float> values) {
  BeginArray(key, GgufType::kF32, values.size());
  for (const float value : values) Raw(value);
  return *this;
}
GgufKvs& GgufKvs::Bools(std::string_view key, std::span<const uint8_t> values) {
  BeginArray(key, GgufType::kBool, values.size());
  for (const uint8_t value : values) Raw(static_cast<uint8_t>(value != 0));
  return *this;
}
GgufKvs& GgufKvs::Copy(const GgufKv& kv) {
  kv.type == GgufType::kArray ? BeginArray(kv.key, kv.element, kv.count) : Begin(kv.key, kv.type);
  bytes_.append(kv.bytes);
  return *this;
}

Result<uint64_t> GgufItemBytes(const GgufItem& item, std::string_view what) {
  const std::string where = Where(what, item);
  if (item.name.empty() || item.name.size() > kMaxName) {
    return InvalidArgument(where + ": a name must have 1 to " + std::to_string(kMaxName) +
                           " bytes, this has " + std::to_string(item.name.size()));
  }
  if (item.shape.size() > kMaxDims) {
    return InvalidArgument(where + ": " + std::to_string(item.shape.size()) +
                           " dimensions; GGUF allows " + std::to_string(kMaxDims));
  }
  const GgmlTypeInfo* info = FindGgmlType(static_cast<uint32_t>(item.type));
  if (info == nullptr) {
    return InvalidArgument(where + ": type " + std::to_string(static_cast<uint32_t>(item.type)) +
                           " can't be written; these can: " + std::string(AllGgmlTypeNames()));
  }
  int64_t numel = 0;
  if (!CheckedNumel(item.shape, &numel)) {
    return InvalidArgument(where + ": a dimension is negative, or their product overflows");
  }
  const int64_t row = item.shape.empty() ? 1 : item.shape.back();
  if (row % info->block_weights != 0) {
    return InvalidArgument(where + ": rows of " + std::to_string(row) +
                           " are not whole blocks of " + std::to_string(info->block_weights) +
                           " (" + std::string(info->name) + ")");
  }
  uint64_t bytes = 0;
  if (!CheckedMul(static_cast<uint64_t>(numel) / info->block_weights, uint64_t{info->block_bytes},
                  &bytes)) {
    return InvalidArgument(where + ": its size overflows");
  }
  return bytes;
}

Result<GgufWriter> GgufWriter::Create(FileSystem& fs, const std::string& path, const GgufKvs& kvs,
                                      std::vector<GgufItem> items) {
  RETORT_RETURN_IF_ERROR(CheckKeys(path, kvs.keys()));
  RETORT_ASSIGN_OR_RETURN(std::vector<uint64_t> sizes, CheckItems(path, items));
  RETORT_ASSIGN_OR_RETURN(DurableFile file, DurableFile::Create(fs, path));
  RETORT_RETURN_IF_ERROR(file.Append(HeadOf(kvs, items, sizes)));
  return GgufWriter(std::move(file), path, std::move(items), std::move(sizes));
}

Status GgufWriter::Wrong(size_t index, const std::string& rule) const {
  const std::string name = index < items_.size() ? items_[index].name : "(none)";
  return FailedPrecondition(path_ + ": tensor \"" + name + "\": " + rule);
}

Status GgufWriter::Pad(uint64_t bytes) { return file_.Append(std::string(Padding(bytes), '\0')); }

Status GgufWriter::Append(size_t index, std::string_view bytes) {
  // Items without elements need no call.
  while (at_ < index && at_ < items_.size() && done_ == sizes_[at_]) {
    RETORT_RETURN_IF_ERROR(Pad(sizes_[at_]));
    ++at_;
    done_ = 0;
  }
  if (index != at_ || index >= items_.size()) {
    return Wrong(index, "out of turn: next come " +
                            std::to_string(at_ < items_.size() ? sizes_[at_] - done_ : 0) +
                            " bytes of item " + std::to_string(at_));
  }
  if (bytes.size() > sizes_[index] - done_) {
    return Wrong(index, std::to_string(done_ + bytes.size()) + " bytes given for " +
                            std::to_string(sizes_[index]));
  }
  done_ += bytes.size();
  return file_.Append(bytes);
}

Result<FileDigest> GgufWriter::Finish() {
  for (; at_ < items_.size(); ++at_, done_ = 0) {
    if (done_ != sizes_[at_]) {
      return Wrong(at_, "only " + std::to_string(done_) + " of " + std::to_string(sizes_[at_]) +
                            " bytes were given");
    }
    RETORT_RETURN_IF_ERROR(Pad(sizes_[at_]));
  }
  return file_.Publish();
}

}  // namespace retort::io
