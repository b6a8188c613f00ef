// SPDX-License-Identifier: Apache-2.0
#include "host/plugin/library_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "core/base/hash.h"
#include "core/io/filesystem.h"
#include "host/plugin/sha256.h"

#ifndef MFD_NOEXEC_SEAL  // Linux 6.3; older kernels answer EINVAL
#define MFD_NOEXEC_SEAL 8U
#endif
#ifndef MFD_EXEC
#define MFD_EXEC 16U
#endif

namespace retort::host {
namespace {

using io::Fd;
using io::Uninterrupted;

constexpr uint64_t kMaxBytes = uint64_t{1} << 30;
constexpr size_t kChunk = size_t{1} << 20;

Status MissingFile(const std::string& path, int error) {
  return NotFound("plugin " + path + ": " + std::strerror(error) +
                  "; check the path (relative ones start at the current folder, in a pipeline "
                  "file at its folder)");
}

Status Refuse(const std::string& path, const std::string& why) {
  return {Code::kPermissionDenied, "plugin " + path + ": " + why};
}

bool IsOursOrRoots(const struct stat& info) { return info.st_uid == 0 || info.st_uid == geteuid(); }

// Whoever may write to `folder` may exchange what lies in it. `entry`: what the path goes on with.
Status CheckFolder(const std::string& path, const std::string& folder, const struct stat& info,
                   const struct stat& entry) {
  if ((info.st_mode & S_IWOTH) == 0) return OkStatus();
  if ((info.st_mode & S_ISVTX) == 0) {
    return Refuse(path, "anybody on this machine may write to the folder " + folder +
                            ", so nothing below it is loaded; run chmod o-w on that folder, or " +
                            "move the library");
  }
  if (IsOursOrRoots(entry)) return OkStatus();
  return Refuse(path, "anybody may put files into " + folder + ", and what lies there belongs to " +
                          "user " + std::to_string(entry.st_uid) +
                          ", neither to you nor to root; move the library to a folder of yours");
}

Status CheckFile(const std::string& path, const struct stat& info) {
  if (!S_ISREG(info.st_mode)) {
    return InvalidArgument("plugin " + path + ": not a regular file; name the .so itself");
  }
  if ((info.st_mode & S_IWOTH) != 0) {
    return Refuse(path,
                  "anybody on this machine may write to it, so it is not loaded; run chmod "
                  "o-w on it");
  }
  if (static_cast<uint64_t>(info.st_size) > kMaxBytes) {
    return InvalidArgument("plugin " + path + ": has " + std::to_string(info.st_size) +
                           " bytes, at most " + std::to_string(kMaxBytes) + " are loaded");
  }
  return OkStatus();
}

// Goes down from the root, each step from the descriptor of the one before: what was checked is
// what is used.
class Descent {
 public:
  Descent(const std::string& path, Folders folders) : path_(path), folders_(folders) {}

  Result<Fd> Open(const std::string& real_path) {
    Fd folder(Uninterrupted([] { return ::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC); }));
    std::string above = "/";
    if (real_path == above) return InvalidArgument("plugin " + path_ + ": not a regular file");
    for (size_t begin = 1; begin < real_path.size();) {
      const size_t end = std::min(real_path.find('/', begin), real_path.size());
      const std::string name = real_path.substr(begin, end - begin);
      RETORT_ASSIGN_OR_RETURN(folder, Step(folder, above, name, end == real_path.size()));
      above = real_path.substr(0, end);
      begin = end + 1;
    }
    return folder;
  }

 private:
  Result<Fd> Step(const Fd& folder, const std::string& above, const std::string& name, bool last) {
    constexpr int kFile = O_RDONLY | O_NONBLOCK | O_NOCTTY, kFolder = O_PATH | O_DIRECTORY;
    Fd next(Uninterrupted([&] {
      return ::openat(folder.get(), name.c_str(),
                      (last ? kFile : kFolder) | O_NOFOLLOW | O_CLOEXEC);
    }));
    if (!next.ok()) return MissingFile(path_, errno);
    struct stat outer {
    }, inner{};
    if (fstat(folder.get(), &outer) != 0 || fstat(next.get(), &inner) != 0) {
      return MissingFile(path_, errno);
    }
    if (last) RETORT_RETURN_IF_ERROR(CheckFile(path_, inner));
    if (folders_ == Folders::kCheck) {
      RETORT_RETURN_IF_ERROR(CheckFolder(path_, above, outer, inner));
    }
    return next;
  }

  const std::string& path_;
  Folders folders_;
};

Result<Fd> MakeMemory(const std::string& path) {
  const std::string name = "retort:" + io::BaseName(path).substr(0, 200);
  for (const unsigned flags : {MFD_EXEC, 0U, MFD_NOEXEC_SEAL}) {
    Fd memory(memfd_create(name.c_str(), flags | MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (memory.ok()) return memory;
  }
  return io::SystemError("make a copy in memory of", path, errno);
}

Status WriteAll(const Fd& to, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t n = Uninterrupted([&] { return ::write(to.get(), bytes.data(), bytes.size()); });
    if (n < 0) return io::SystemError("copy to memory", path, errno);
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return OkStatus();
}

Status CopyAndHash(const Fd& from, LibraryFile* file) {
  Hasher fast;
  Sha256 strong;
  std::vector<char> chunk(kChunk);
  while (true) {
    const ssize_t n = Uninterrupted([&] { return ::read(from.get(), chunk.data(), kChunk); });
    if (n < 0) return io::SystemError("read", file->path, errno);
    if (n == 0) break;
    const std::string_view bytes(chunk.data(), static_cast<size_t>(n));
    file->bytes += bytes.size();
    if (file->bytes > kMaxBytes) return DataLoss("plugin " + file->path + ": grew while read");
    fast.Update(bytes);
    strong.Update(bytes);
    RETORT_RETURN_IF_ERROR(WriteAll(file->copy, bytes, file->path));
  }
  file->hash = fast.Hex();
  file->sha256 = strong.Hex();
  if (fcntl(file->copy.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
    return io::SystemError("seal the copy of", file->path, errno);
  }
  return OkStatus();
}

// A read-only view of a descriptor's bytes.
class View {
 public:
  View(const Fd& fd, size_t n)
      : n_(n), data_(n == 0 ? nullptr : mmap(nullptr, n, PROT_READ, MAP_PRIVATE, fd.get(), 0)) {}
  ~View() {
    if (ok() && n_ > 0) munmap(data_, n_);
  }
  View(const View&) = delete;
  View& operator=(const View&) = delete;
  bool ok() const { return data_ != MAP_FAILED; }
  std::string_view bytes() const { return {static_cast<const char*>(data_), n_}; }

 private:
  size_t n_;
  void* data_;
};

// The folder for copies, with nobody but this user in it.
Result<std::string> PrivateFolder() {
  const char* cache = secure_getenv("XDG_CACHE_HOME");
  const char* home = secure_getenv("HOME");
  const bool has_cache = cache != nullptr && cache[0] == '/';
  if (!has_cache && (home == nullptr || home[0] != '/')) {
    return FailedPrecondition(
        "code can't run from memory here, and neither XDG_CACHE_HOME nor "
        "HOME names a folder for copies of plugins; set one");
  }
  const std::string above = io::Join(has_cache ? cache : io::Join(home, ".cache"), "retort");
  RETORT_RETURN_IF_ERROR(io::RealFileSystem().MakeFolders(above));
  std::string folder = io::Join(above, "plugins");
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return io::SystemError("make the folder", folder, errno);
  }
  struct stat info {};
  if (lstat(folder.c_str(), &info) != 0) return io::SystemError("look up", folder, errno);
  if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid() || (info.st_mode & 077) != 0) {
    return FailedPrecondition("the folder for copies of plugins, " + folder +
                              ", must be yours and closed to others; run chmod 700 on it");
  }
  return folder;
}

}  // namespace

Result<LibraryFile> ReadLibraryFile(const std::string& path, Folders folders) {
  LibraryFile file;
  file.path = path;
  const std::unique_ptr<char, decltype(&std::free)> real(realpath(path.c_str(), nullptr),
                                                         &std::free);
  if (real == nullptr) return MissingFile(path, errno);
  file.real_path = real.get();
  RETORT_ASSIGN_OR_RETURN(const Fd from, Descent(path, folders).Open(file.real_path));
  RETORT_ASSIGN_OR_RETURN(file.copy, MakeMemory(path));
  RETORT_RETURN_IF_ERROR(CopyAndHash(from, &file));
  const View view(file.copy, file.bytes);
  if (!view.ok()) return io::SystemError("map the copy of", path, errno);
  RETORT_ASSIGN_OR_RETURN(file.elf, ReadElf(view.bytes(), path));
  return file;
}

bool CanExecute(const Fd& copy) {
  void* page = mmap(nullptr, 1, PROT_READ | PROT_EXEC, MAP_PRIVATE, copy.get(), 0);
  if (page == MAP_FAILED) return false;
  munmap(page, 1);
  const std::string name = "/proc/self/fd/" + std::to_string(copy.get());
  return access(name.c_str(), R_OK) == 0;  // no: /proc is not mounted
}

Result<std::string> PlaceCopy(const LibraryFile& file) {
  RETORT_ASSIGN_OR_RETURN(const std::string folder, PrivateFolder());
  std::string place = io::Join(folder, file.sha256 + ".so");
  const View view(file.copy, file.bytes);
  if (!view.ok()) return io::SystemError("map the copy of", file.path, errno);
  const Result<io::MappedFile> there = io::MappedFile::Open(place);
  if (there.ok() && there->bytes() == view.bytes()) return place;
  RETORT_RETURN_IF_ERROR(io::DurableWrite(place, view.bytes()));
  return place;
}

}  // namespace retort::host
