// Writing GGUF v3 files: first the head, whole, then the tensors' bytes, one tensor after another
// in the order of their list, through one DurableFile: the file appears when all of it is there.
// What can't be right (a name twice or too long, rows that are no whole blocks, sizes that
// overflow, too few or too many bytes) is refused by tensor and rule.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/io/dequant.h"
#include "core/io/filesystem.h"
#include "core/io/gguf.h"

namespace retort::io {

// Key-values in the order given. A key given twice is refused by GgufWriter::Create.
class GgufKvs {
 public:
  GgufKvs& U32(std::string_view key, uint32_t value);
  GgufKvs& F32(std::string_view key, float value);
  GgufKvs& Bool(std::string_view key, bool value);
  GgufKvs& String(std::string_view key, std::string_view value);
  GgufKvs& Strings(std::string_view key, std::span<const std::string> values);
  GgufKvs& I32s(std::string_view key, std::span<const int32_t> values);
  GgufKvs& F32s(std::string_view key, std::span<const float> values);
  GgufKvs& Bools(std::string_view key, std::span<const uint8_t> values);  // 0 or 1
  GgufKvs& Copy(const GgufKv& kv);                                        // as another file has it

  std::span<const std::string> keys() const { return keys_; }
  const std::string& bytes() const { return bytes_; }  // as in a file

 private:
  void Begin(std::string_view key, GgufType type);
  void BeginArray(std::string_view key, GgufType element, uint64_t count);
  template <class T>
  void Raw(const T& value);
  void Text(std::string_view text);
  std::vector<std::string> keys_;
  std::string bytes_;
};

struct GgufItem {
  std::string name;            // at most 64 bytes
  std::vector<int64_t> shape;  // torch order; at most 4 dimensions
  GgmlType type = GgmlType::kF32;
};
// Bytes of the item's data; the rules of shapes and blocks. `what` names the file in errors.
Result<uint64_t> GgufItemBytes(const GgufItem& item, std::string_view what);

class GgufWriter {
 public:
  static constexpr uint64_t kAlignment = 32;
  // Nothing is written if keys or items are wrong.
  static Result<GgufWriter> Create(FileSystem& fs, const std::string& path, const GgufKvs& kvs,
                                   std::vector<GgufItem> items);
  // The next bytes of item `index`: items in order, each wholly before the next.
  Status Append(size_t index, std::string_view bytes);
  // Publishes. FAILED_PRECONDITION: data are missing.
  Result<FileDigest> Finish();

 private:
  GgufWriter(DurableFile file, std::string path, std::vector<GgufItem> items,
             std::vector<uint64_t> sizes)
      : file_(std::move(file)),
        path_(std::move(path)),
        items_(std::move(items)),
        sizes_(std::move(sizes)) {}
  Status Wrong(size_t index, const std::string& rule) const;
  Status Pad(uint64_t bytes);
  DurableFile file_;
  std::string path_;
  std::vector<GgufItem> items_;
  std::vector<uint64_t> sizes_;
  size_t at_ = 0;      // item whose bytes come next
  uint64_t done_ = 0;  // of its bytes
};

}  // namespace retort::io
