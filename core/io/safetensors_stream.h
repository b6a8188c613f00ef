// Writing a safetensors file tensor by tensor: the layout is decided first, so that the header is
// known before any data. Order, padding and metadata as WriteSafetensors, which goes through this.
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

namespace retort::io {

struct SafetensorsSpec {
  std::string name;
  std::vector<int64_t> shape;
  DType stored = DType::kF32;  // no block type
};

class SafetensorsWriter {
 public:
  // Refuses names given twice or not allowed, and sizes that overflow, before a byte is written.
  static Result<SafetensorsWriter> Create(FileSystem& fs, const std::string& path,
                                          std::vector<SafetensorsSpec> specs,
                                          const std::map<std::string, std::string>& metadata = {
                                              {"format", "pt"}});
  // In the order in which their bytes are wanted: element size descending, then name.
  std::span<const SafetensorsSpec> specs() const { return specs_; }
  // The next bytes of the file.
  Status Append(std::string_view bytes);
  // Publishes. INTERNAL if there were too few or too many bytes.
  Result<FileDigest> Finish();

 private:
  SafetensorsWriter(DurableFile file, std::string path, std::vector<SafetensorsSpec> specs,
                    uint64_t bytes)
      : file_(std::move(file)), path_(std::move(path)), specs_(std::move(specs)), bytes_(bytes) {}
  DurableFile file_;
  std::string path_;
  std::vector<SafetensorsSpec> specs_;
  uint64_t bytes_ = 0, done_ = 0;
};

}  // namespace retort::io
