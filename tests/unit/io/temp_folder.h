// A folder of its own for a test, gone afterwards.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "core/io/filesystem.h"

namespace retort::io {

class TempFolder {
 public:
  TempFolder() {
    std::string pattern = ::testing::TempDir() + "retort-XXXXXX";
    path_ = ::mkdtemp(pattern.data());
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() { (void)RealFileSystem().RemoveAll(path_); }

  const std::string& path() const { return path_; }
  std::string operator/(std::string_view name) const { return Join(path_, name); }
  // Writes a file and gives its path.
  std::string Write(std::string_view name, std::string_view bytes) const {
    const std::string path = *this / name;
    EXPECT_TRUE(DurableWrite(path, bytes).ok());
    return path;
  }

 private:
  std::string path_;
};

inline std::string ReadAll(const std::string& path) {
  return RealFileSystem().Read(path, uint64_t{1} << 30).value();
}

}  // namespace retort::io
