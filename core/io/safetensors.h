// safetensors files, read through a memory map and written deterministically (docs/formats.md
// §2). A header is wholly checked before any tensor is handed out.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/io/filesystem.h"
#include "core/json/json.h"

namespace retort::io {

struct SafetensorsEntry {
  std::string name;
  std::string dtype;  // "F32", "BF16" … as in the file
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;  // in the data part
  uint32_t shard = 0;           // of Safetensors
};

// What a header says, checked against the file's size.
struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // sorted by name
  std::map<std::string, std::string> metadata;
  uint64_t data_offset = 0;  // of the data part in the file
};
// `file`: the whole file; `what` names it in errors, which name the offset or tensor and the rule.
Result<SafetensorsHeader> ParseSafetensors(std::string_view file, std::string_view what);

// Bytes per element; 0: unknown name.
uint64_t SafetensorsDtypeSize(std::string_view dtype);

// One file, or all shards of a folder's model.safetensors(.index.json), as one set of tensors.
class Safetensors {
 public:
  static Result<Safetensors> Open(const std::string& file);
  static Result<Safetensors> OpenFolder(const std::string& folder);

  std::span<const SafetensorsEntry> entries() const { return entries_; }  // sorted by name
  const SafetensorsEntry* Find(std::string_view name) const;              // NULL: none
  std::string_view bytes(const SafetensorsEntry& entry) const;            // entry of entries()
  // `part` of bytes(entry); see MappedFile.
  void Release(const SafetensorsEntry& entry, std::string_view part) const {
    shards_[entry.shard].Release(part);
  }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  std::vector<std::string> files() const;  // paths

 private:
  Status AddShard(MappedFile file);
  Status Sort();
  Status CheckIndex(const json::Value& weight_map, const std::string& what) const;
  std::vector<MappedFile> shards_;
  std::vector<uint64_t> data_offsets_;  // per shard
  std::vector<SafetensorsEntry> entries_;
  std::map<std::string, std::string> metadata_;
};

// A tensor to be written: any strides (rows are gathered), stored as `stored` (F32 may be stored
// as BF16 or F16, rounded to nearest even; otherwise `stored` must be the view's own type).
struct SafetensorsItem {
  std::string name;
  TensorView view;
  DType stored = DType::kF32;
};

// Order: element size descending, then name; header padded with spaces to 8; metadata as given
// (HF wants {"format":"pt"}). Equal input gives equal bytes. Published durably.
Result<FileDigest> WriteSafetensors(FileSystem& fs, const std::string& path,
                                    std::vector<SafetensorsItem> items,
                                    const std::map<std::string, std::string>& metadata = {
                                        {"format", "pt"}});

// `n` stored elements as floating point: F64, F32, F16, BF16; others are UNIMPLEMENTED. `out` is
// f32 or f64 and holds n.
Status CastFloats(std::string_view dtype, const char* bytes, int64_t n, DType out_dtype, void* out);

}  // namespace retort::io
