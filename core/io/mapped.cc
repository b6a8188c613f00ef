// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "core/io/filesystem.h"
#include "core/io/posix.h"

namespace retort::io {

Result<MappedFile> MappedFile::Open(const std::string& path) {
  const Fd fd(Uninterrupted([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC); }));
  if (!fd.ok()) return SystemError("open", path, errno);
  struct stat s {};
  if (::fstat(fd.get(), &s) != 0) return SystemError("look up", path, errno);
  if (!S_ISREG(s.st_mode)) return FailedPrecondition(path + ": not a regular file");
  MappedFile file;
  file.path_ = path;
  file.size_ = static_cast<size_t>(s.st_size);
  if (file.size_ == 0) return file;
  void* data = ::mmap(nullptr, file.size_, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (data == MAP_FAILED) {
    file.size_ = 0;
    return SystemError("map", path, errno);
  }
  file.data_ = static_cast<const char*>(data);
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<char*>(data_), size_);
}

// To both sides up to the borders of the window that one page fault maps (64 KiB by default), so
// that of readers of neighbouring parts the last one leaves nothing.
void MappedFile::Release(std::string_view part) const {
  if (part.empty()) return;
  constexpr size_t kWindow = size_t{64} << 10;
  const auto offset = static_cast<size_t>(part.data() - data_);
  const size_t begin = offset / kWindow * kWindow;
  const size_t end = std::min((offset + part.size() + kWindow - 1) / kWindow * kWindow, size_);
  (void)::madvise(const_cast<char*>(data_) + begin, end - begin, MADV_DONTNEED);
}

}  // namespace retort::io
