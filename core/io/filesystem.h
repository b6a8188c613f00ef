// Files: an interface (tests put faults behind it), the real one, and the one way to publish a
// file: temporary name, write, fsync, rename, fsync of the folder. Errors name the path, the
// operation, the system's reason and, where it helps, the byte counts.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/hash.h"
#include "core/base/status.h"

namespace retort::io {

enum class FileKind : uint8_t { kFile, kFolder, kOther };

struct FileInfo {
  FileKind kind = FileKind::kFile;
  uint64_t bytes = 0;
  int64_t modified_ns = 0;  // since 1970
};

class WritableFile {
 public:
  virtual ~WritableFile() = default;  // closes, without fsync
  virtual Status Append(std::string_view bytes) = 0;
  // A failed Sync is final: the bytes may be gone although a second fsync would succeed.
  virtual Status Sync() = 0;
  virtual Status Close() = 0;
};

// Thread-safe as the system's calls are. Paths are bytes; no look-up relative to anything but
// the current folder.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual Result<FileInfo> Stat(const std::string& path) = 0;  // NOT_FOUND if there is nothing
  // The whole file; RESOURCE_EXHAUSTED, before reading, if it is larger.
  virtual Result<std::string> Read(const std::string& path, uint64_t max_bytes) = 0;
  virtual Result<std::vector<std::string>> List(const std::string& folder) = 0;  // names, sorted
  virtual Status MakeFolders(const std::string& folder) = 0;  // with parents; fine if there
  // Truncates what is there, unless `exclusive`: then ALREADY_EXISTS.
  virtual Result<std::unique_ptr<WritableFile>> Create(const std::string& path, bool exclusive) = 0;
  virtual Result<std::unique_ptr<WritableFile>> OpenAppend(const std::string& path) = 0;
  virtual Status Truncate(const std::string& path, uint64_t bytes) = 0;  // and fsync
  virtual Status Rename(const std::string& from, const std::string& to) = 0;
  virtual Status SyncFolder(const std::string& folder) = 0;
  virtual Status Remove(const std::string& path) = 0;     // a file or an empty folder
  virtual Status RemoveAll(const std::string& path) = 0;  // follows no link; fine if not there

  bool Exists(const std::string& path) { return Stat(path).ok(); }
  bool IsFolder(const std::string& path);
};

FileSystem& RealFileSystem();

// Whether the system failed to do what was asked (no space, too many open files, a device that
// fails, no permission), which says nothing about the bytes of a file: they may be read another
// time. A caller that takes what can't be read for spoiled must not do so then.
bool IsOfTheSystem(const Status& failure);

// As Exists, for those to whom absence means something: not being able to look is no absence.
Result<bool> IsThere(FileSystem& fs, const std::string& path);

// "a/b" + "c" -> "a/b/c"; "" + "c" -> "c". Parent("c") is ".", BaseName("a/b/") is "b".
std::string Join(std::string_view folder, std::string_view name);
std::string Parent(std::string_view path);
std::string BaseName(std::string_view path);
// Absolute and without "." and ".." (by text); relative paths start at the current folder.
std::string Absolute(std::string_view path);

// What a manifest says of a file.
struct FileDigest {
  std::string name;  // relative to the folder it was written into
  uint64_t bytes = 0;
  std::string hash;  // XXH3-128, hex
};

// A file that appears whole or not at all: bytes go to a temporary name beside it and are hashed
// on the way. Destroyed unpublished, it removes the temporary file.
class DurableFile {
 public:
  static Result<DurableFile> Create(FileSystem& fs, const std::string& path);
  DurableFile(DurableFile&&) noexcept = default;
  DurableFile& operator=(DurableFile&&) = delete;
  ~DurableFile();
  Status Append(std::string_view bytes);
  Status Append(const void* data, uint64_t n);
  // fsync, rename, fsync of the folder.
  Result<FileDigest> Publish();

 private:
  DurableFile(FileSystem& fs, std::string path, std::string temporary,
              std::unique_ptr<WritableFile> file)
      : fs_(&fs),
        path_(std::move(path)),
        temporary_(std::move(temporary)),
        file_(std::move(file)) {}
  FileSystem* fs_;
  std::string path_, temporary_;
  std::unique_ptr<WritableFile> file_;
  Hasher hasher_;
  uint64_t bytes_ = 0;
};

// The whole of it in one call.
Result<FileDigest> DurableWrite(FileSystem& fs, const std::string& path, std::string_view bytes);
inline Status DurableWrite(const std::string& path, std::string_view bytes) {
  return DurableWrite(RealFileSystem(), path, bytes).status();
}

// Renames `path` to `trash`/<its name>[.n] (making `trash`); the caller empties the trash later.
// Gives the new path. Nothing there: OK and "".
Result<std::string> MoveToTrash(FileSystem& fs, const std::string& path, const std::string& trash);

// XXH3-128 and size of a file (mapped, not copied).
Result<FileDigest> HashFile(const std::string& path);

// A file mapped read-only. Whoever truncates it meanwhile gets this process a SIGBUS: model files
// are not edited in place. An empty file is an empty view.
class MappedFile {
 public:
  static Result<MappedFile> Open(const std::string& path);
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();
  std::string_view bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }
  // Gives the pages of a part of bytes() back to the system: they were read for good, and come
  // from the file again if anybody looks.
  void Release(std::string_view part) const;

 private:
  std::string path_;
  const char* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace retort::io
