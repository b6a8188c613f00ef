// GGUF v3 files, read through a memory map (docs/formats.md §9). Key-values and tensor infos are
// wholly checked when the file is opened; strings and arrays stay in the map.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/io/dequant.h"
#include "core/io/filesystem.h"

namespace retort::io {

enum class GgufType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

struct GgufKv {
  std::string_view key;
  GgufType type = GgufType::kU8;
  GgufType element = GgufType::kU8;  // of an array
  uint64_t count = 1;                // of an array
  std::string_view bytes;            // the value as in the file (an array without type and count)
};

struct GgufTensor {
  std::string_view name;
  std::vector<int64_t> shape;  // torch order: the file's dims reversed
  GgmlType type = GgmlType::kF32;
  uint64_t offset = 0;  // in the file
  uint64_t bytes = 0;
};

// What a file's head says; views point into the file's bytes.
struct GgufHead {
  std::vector<GgufKv> kvs;          // in file order
  std::vector<GgufTensor> tensors;  // in file order
  uint64_t alignment = 32;
  uint64_t data_offset = 0;
};
// `file`: the whole file; `what` names it in errors.
Result<GgufHead> ParseGguf(std::string_view file, std::string_view what);

class Gguf {
 public:
  static Result<Gguf> Open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  std::span<const GgufKv> kvs() const { return head_.kvs; }
  std::span<const GgufTensor> tensors() const { return head_.tensors; }
  const GgufKv* Find(std::string_view key) const;  // NULL: none
  std::string_view bytes(const GgufTensor& tensor) const {
    return file_.bytes().substr(tensor.offset, tensor.bytes);
  }
  std::string_view file_bytes() const { return file_.bytes(); }
  // See MappedFile.
  void Release(std::string_view part) const { file_.Release(part); }

  // Readings; absent if the key is absent or of a type that can't be read so. Integers of any
  // width read as Int (unsigned above 2^63: absent), any number as Double.
  std::optional<int64_t> Int(std::string_view key) const;
  std::optional<double> Double(std::string_view key) const;
  std::optional<bool> Bool(std::string_view key) const;
  std::optional<std::string_view> String(std::string_view key) const;
  std::optional<std::vector<std::string_view>> Strings(std::string_view key) const;
  std::optional<std::vector<int64_t>> Ints(std::string_view key) const;
  std::optional<std::vector<double>> Doubles(std::string_view key) const;

 private:
  MappedFile file_;
  GgufHead head_;
};

}  // namespace retort::io
