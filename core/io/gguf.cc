// SPDX-License-Identifier: Apache-2.0
#include "core/io/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <unordered_set>

#include "core/base/checked.h"

namespace retort::io {
namespace {

constexpr uint64_t kMaxKey = 65535, kMaxTensorName = 64, kMaxAlignment = uint64_t{1} << 20;
constexpr uint64_t kMinKvBytes = 8 + 4 + 1;          // empty key, type, the smallest value
constexpr uint64_t kMinTensorBytes = 8 + 4 + 4 + 8;  // empty name, no dims, type, offset

// Bytes of a value of fixed size; 0: string or array.
uint64_t FixedSize(GgufType type) {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kI8:
    case GgufType::kBool: return 1;
    case GgufType::kU16:
    case GgufType::kI16: return 2;
    case GgufType::kU32:
    case GgufType::kI32:
    case GgufType::kF32: return 4;
    case GgufType::kU64:
    case GgufType::kI64:
    case GgufType::kF64: return 8;
    case GgufType::kString:
    case GgufType::kArray: return 0;
  }
  return 0;
}

template <class T>
T Load(const char* p) {
  T value{};
  std::memcpy(&value, p, sizeof value);
  return value;
}

// Walks the head of the file; never reads past its end. The first failure stays.
class Cursor {
 public:
  Cursor(std::string_view file, std::string_view what) : file_(file), what_(what) {}

  uint64_t offset() const { return at_; }
  uint64_t remaining() const { return file_.size() - at_; }

  Status Refuse(std::string_view item, std::string_view rule) const {
    std::string message = what_ + ": offset " + std::to_string(at_) + ": ";
    return DataLoss(message.append(item).append(": ").append(rule));
  }

  Result<std::string_view> Take(uint64_t n, std::string_view item) {
    if (n > remaining()) {
      return Refuse(item, "needs " + std::to_string(n) + " bytes, the file has " +
                              std::to_string(remaining()) + " more (truncated?)");
    }
    const std::string_view bytes = file_.substr(at_, n);
    at_ += n;
    return bytes;
  }

  template <class T>
  Result<T> Read(std::string_view item) {
    RETORT_ASSIGN_OR_RETURN(const std::string_view bytes, Take(sizeof(T), item));
    return Load<T>(bytes.data());
  }

  Result<std::string_view> ReadString(std::string_view item, uint64_t limit) {
    RETORT_ASSIGN_OR_RETURN(const uint64_t length, Read<uint64_t>(item));
    if (length > limit && length <= remaining()) {
      return Refuse(item, "is " + std::to_string(length) + " bytes long; the limit is " +
                              std::to_string(limit));
    }
    return Take(length, item);
  }

 private:
  std::string_view file_;
  std::string what_;
  uint64_t at_ = 0;
};

class HeadReader {
 public:
  HeadReader(std::string_view file, std::string_view what) : cursor_(file, what), file_(file) {}

  Result<GgufHead> Read() {
    RETORT_RETURN_IF_ERROR(Counts());
    RETORT_RETURN_IF_ERROR(KeyValues());
    RETORT_RETURN_IF_ERROR(Alignment());
    RETORT_RETURN_IF_ERROR(Tensors());
    RETORT_RETURN_IF_ERROR(Offsets());
    return std::move(head_);
  }

 private:
  Status Counts() {
    RETORT_ASSIGN_OR_RETURN(const std::string_view magic, cursor_.Take(4, "magic"));
    if (magic != "GGUF") return cursor_.Refuse("magic", "not a GGUF file");
    RETORT_ASSIGN_OR_RETURN(const uint32_t version, cursor_.Read<uint32_t>("version"));
    if (version == __builtin_bswap32(3))
      return cursor_.Refuse("version", "a big-endian file; only little-endian is read");
    if (version != 3) {
      return cursor_.Refuse("version",
                            "GGUF version " + std::to_string(version) + "; only version 3 is read");
    }
    RETORT_ASSIGN_OR_RETURN(n_tensors_, cursor_.Read<uint64_t>("tensor count"));
    RETORT_ASSIGN_OR_RETURN(n_kvs_, cursor_.Read<uint64_t>("key-value count"));
    if (n_kvs_ > cursor_.remaining() / kMinKvBytes) {
      return cursor_.Refuse("key-value count", std::to_string(n_kvs_) + " don't fit into the file");
    }
    if (n_tensors_ > cursor_.remaining() / kMinTensorBytes) {
      return cursor_.Refuse("tensor count",
                            std::to_string(n_tensors_) + " don't fit into the file");
    }
    return OkStatus();
  }

  Status KeyValues() {
    std::unordered_set<std::string_view> seen;
    for (uint64_t i = 0; i < n_kvs_; ++i) {
      GgufKv kv;
      RETORT_ASSIGN_OR_RETURN(kv.key, cursor_.ReadString("key " + std::to_string(i), kMaxKey));
      const std::string item = "key \"" + std::string(kv.key) + "\"";
      if (kv.key.empty()) return cursor_.Refuse(item, "is empty");
      if (!seen.insert(kv.key).second) return cursor_.Refuse(item, "occurs twice");
      RETORT_ASSIGN_OR_RETURN(kv.type, ReadType(item));
      RETORT_RETURN_IF_ERROR(Value(item, &kv));
      head_.kvs.push_back(kv);
    }
    return OkStatus();
  }

  Result<GgufType> ReadType(const std::string& item) {
    RETORT_ASSIGN_OR_RETURN(const uint32_t type, cursor_.Read<uint32_t>(item));
    if (type > static_cast<uint32_t>(GgufType::kF64)) {
      return cursor_.Refuse(item, "unknown value type " + std::to_string(type));
    }
    return static_cast<GgufType>(type);
  }

  Status Value(const std::string& item, GgufKv* kv) {
    if (kv->type != GgufType::kArray) return Elements(item, kv->type, 1, &kv->bytes);
    RETORT_ASSIGN_OR_RETURN(kv->element, ReadType(item));
    if (kv->element == GgufType::kArray) return cursor_.Refuse(item, "an array of arrays");
    RETORT_ASSIGN_OR_RETURN(kv->count, cursor_.Read<uint64_t>(item));
    return Elements(item, kv->element, kv->count, &kv->bytes);
  }

  Status Elements(const std::string& item, GgufType type, uint64_t n, std::string_view* bytes) {
    const uint64_t start = cursor_.offset(), size = std::max<uint64_t>(FixedSize(type), 1);
    // A string takes 8 bytes at least.
    const uint64_t least = type == GgufType::kString ? 8 : size;
    if (n > cursor_.remaining() / least) {
      return cursor_.Refuse(item, std::to_string(n) + " elements don't fit into the file");
    }
    if (type == GgufType::kString) {
      for (uint64_t i = 0; i < n; ++i) {
        RETORT_RETURN_IF_ERROR(cursor_.ReadString(item, UINT64_MAX).status());
      }
      *bytes = file_.substr(start, cursor_.offset() - start);
      return OkStatus();
    }
    RETORT_ASSIGN_OR_RETURN(*bytes, cursor_.Take(n * size, item));
    const bool bad_bool =
        type == GgufType::kBool &&
        std::any_of(bytes->begin(), bytes->end(), [](char c) { return c != 0 && c != 1; });
    return bad_bool ? cursor_.Refuse(item, "a boolean that is neither 0 nor 1") : OkStatus();
  }

  Status Alignment() {
    for (const GgufKv& kv : head_.kvs) {
      if (kv.key != "general.alignment") continue;
      if (kv.type != GgufType::kU32) return cursor_.Refuse("general.alignment", "must be a u32");
      head_.alignment = Load<uint32_t>(kv.bytes.data());
      if (!std::has_single_bit(head_.alignment) || head_.alignment > kMaxAlignment) {
        return cursor_.Refuse("general.alignment", std::to_string(head_.alignment) +
                                                       " is not a power of two up to " +
                                                       std::to_string(kMaxAlignment));
      }
    }
    return OkStatus();
  }

  Status Tensors() {
    std::unordered_set<std::string_view> seen;
    for (uint64_t i = 0; i < n_tensors_; ++i) {
      GgufTensor tensor;
      RETORT_ASSIGN_OR_RETURN(
          tensor.name, cursor_.ReadString("name of tensor " + std::to_string(i), kMaxTensorName));
      const std::string item = "tensor \"" + std::string(tensor.name) + "\"";
      if (tensor.name.empty()) return cursor_.Refuse(item, "has no name");
      if (!seen.insert(tensor.name).second) return cursor_.Refuse(item, "occurs twice");
      RETORT_RETURN_IF_ERROR(Tensor(item, &tensor));
      head_.tensors.push_back(std::move(tensor));
    }
    return OkStatus();
  }

  Status Tensor(const std::string& item, GgufTensor* tensor) {
    RETORT_ASSIGN_OR_RETURN(const uint32_t n_dims, cursor_.Read<uint32_t>(item));
    if (n_dims > 4)
      return cursor_.Refuse(item, std::to_string(n_dims) + " dimensions; at most 4 are allowed");
    for (uint32_t d = 0; d < n_dims; ++d) {
      RETORT_ASSIGN_OR_RETURN(const uint64_t dim, cursor_.Read<uint64_t>(item));
      if (dim > INT64_MAX)
        return cursor_.Refuse(item,
                              "dimension " + std::to_string(dim) + " is negative or too large");
      tensor->shape.insert(tensor->shape.begin(), static_cast<int64_t>(dim));
    }
    RETORT_ASSIGN_OR_RETURN(const uint32_t type, cursor_.Read<uint32_t>(item));
    const GgmlTypeInfo* info = FindGgmlType(type);
    if (info == nullptr) {
      return cursor_.Refuse(item, "stored as " + GgmlTypeName(type) + "; read are " +
                                      std::string(AllGgmlTypeNames()));
    }
    tensor->type = info->type;
    int64_t numel = 0;
    const int64_t row = tensor->shape.empty() ? 1 : tensor->shape.back();
    if (!CheckedNumel(tensor->shape, &numel))
      return cursor_.Refuse(item, "the product of its shape overflows");
    if (row % info->block_weights != 0) {
      return cursor_.Refuse(item, "rows of " + std::to_string(row) + " are not whole blocks of " +
                                      std::to_string(info->block_weights) + " (" +
                                      std::string(info->name) + ")");
    }
    if (!CheckedMul(static_cast<uint64_t>(numel) / info->block_weights, uint64_t{info->block_bytes},
                    &tensor->bytes)) {
      return cursor_.Refuse(item, "its size overflows");
    }
    RETORT_ASSIGN_OR_RETURN(tensor->offset, cursor_.Read<uint64_t>(item));
    return OkStatus();
  }

  // Offsets in the file count from the data part, which begins at the next aligned place; the
  // tensors follow each other in order, each padded to the alignment.
  Status Offsets() {
    const auto pad = [this](uint64_t n) {
      return (n + head_.alignment - 1) & ~(head_.alignment - 1);
    };
    head_.data_offset = pad(cursor_.offset());
    uint64_t expected = 0;
    for (GgufTensor& tensor : head_.tensors) {
      const std::string item = "tensor \"" + std::string(tensor.name) + "\"";
      if (tensor.offset % head_.alignment != 0) {
        return cursor_.Refuse(item, "offset " + std::to_string(tensor.offset) +
                                        " is not aligned to " + std::to_string(head_.alignment));
      }
      if (tensor.offset != expected) {
        return cursor_.Refuse(item, "offset " + std::to_string(tensor.offset) +
                                        ", but the tensor before ends at " +
                                        std::to_string(expected));
      }
      const uint64_t data_bytes =
          file_.size() - std::min<uint64_t>(head_.data_offset, file_.size());
      if (!RangeFits(tensor.offset, tensor.bytes, data_bytes)) {
        return cursor_.Refuse(item, "needs " + std::to_string(tensor.bytes) + " bytes at " +
                                        std::to_string(tensor.offset) + " of the data, which has " +
                                        std::to_string(data_bytes) + " (truncated?)");
      }
      expected = pad(tensor.offset + tensor.bytes);
      tensor.offset += head_.data_offset;
    }
    return OkStatus();
  }

  Cursor cursor_;
  std::string_view file_;
  uint64_t n_tensors_ = 0, n_kvs_ = 0;
  GgufHead head_;
};

// One number of fixed size, widened.
std::optional<int64_t> IntAt(GgufType type, const char* p) {
  switch (type) {
    case GgufType::kU8: return Load<uint8_t>(p);
    case GgufType::kI8: return Load<int8_t>(p);
    case GgufType::kU16: return Load<uint16_t>(p);
    case GgufType::kI16: return Load<int16_t>(p);
    case GgufType::kU32: return Load<uint32_t>(p);
    case GgufType::kI32: return Load<int32_t>(p);
    case GgufType::kI64: return Load<int64_t>(p);
    case GgufType::kU64: {
      const auto value = Load<uint64_t>(p);
      return value <= INT64_MAX ? std::optional(static_cast<int64_t>(value)) : std::nullopt;
    }
    default: return std::nullopt;
  }
}

std::optional<double> DoubleAt(GgufType type, const char* p) {
  if (type == GgufType::kF32) return Load<float>(p);
  if (type == GgufType::kF64) return Load<double>(p);
  if (type == GgufType::kU64) return static_cast<double>(Load<uint64_t>(p));
  const std::optional<int64_t> value = IntAt(type, p);
  return value ? std::optional(static_cast<double>(*value)) : std::nullopt;
}

template <class T, class At>
std::optional<std::vector<T>> ArrayOf(const GgufKv* kv, At at) {
  if (kv == nullptr || kv->type != GgufType::kArray) return std::nullopt;
  std::vector<T> out;
  out.reserve(kv->count);
  for (uint64_t i = 0; i < kv->count; ++i) {
    const std::optional<T> value = at(kv->element, kv->bytes.data() + i * FixedSize(kv->element));
    if (!value) return std::nullopt;
    out.push_back(*value);
  }
  return out;
}

}  // namespace

Result<GgufHead> ParseGguf(std::string_view file, std::string_view what) {
  return HeadReader(file, what).Read();
}

Result<Gguf> Gguf::Open(const std::string& path) {
  Gguf gguf;
  RETORT_ASSIGN_OR_RETURN(gguf.file_, MappedFile::Open(path));
  RETORT_ASSIGN_OR_RETURN(gguf.head_, ParseGguf(gguf.file_.bytes(), path));
  return gguf;
}

const GgufKv* Gguf::Find(std::string_view key) const {
  for (const GgufKv& kv : head_.kvs) {
    if (kv.key == key) return &kv;
  }
  return nullptr;
}

std::optional<int64_t> Gguf::Int(std::string_view key) const {
  const GgufKv* kv = Find(key);
  return kv ? IntAt(kv->type, kv->bytes.data()) : std::nullopt;
}

std::optional<double> Gguf::Double(std::string_view key) const {
  const GgufKv* kv = Find(key);
  return kv ? DoubleAt(kv->type, kv->bytes.data()) : std::nullopt;
}

std::optional<bool> Gguf::Bool(std::string_view key) const {
  const GgufKv* kv = Find(key);
  if (kv == nullptr || kv->type != GgufType::kBool) return std::nullopt;
  return kv->bytes[0] != 0;
}

std::optional<std::string_view> Gguf::String(std::string_view key) const {
  const GgufKv* kv = Find(key);
  if (kv == nullptr || kv->type != GgufType::kString) return std::nullopt;
  return kv->bytes.substr(8);
}

std::optional<std::vector<std::string_view>> Gguf::Strings(std::string_view key) const {
  const GgufKv* kv = Find(key);
  if (kv == nullptr || kv->type != GgufType::kArray || kv->element != GgufType::kString) {
    return std::nullopt;
  }
  std::vector<std::string_view> out;
  out.reserve(kv->count);
  for (size_t at = 0; out.size() < kv->count;) {
    const auto length = Load<uint64_t>(kv->bytes.data() + at);
    out.push_back(kv->bytes.substr(at + 8, length));
    at += 8 + length;
  }
  return out;
}

std::optional<std::vector<int64_t>> Gguf::Ints(std::string_view key) const {
  return ArrayOf<int64_t>(Find(key), IntAt);
}

std::optional<std::vector<double>> Gguf::Doubles(std::string_view key) const {
  return ArrayOf<double>(Find(key), DoubleAt);
}

}  // namespace retort::io
