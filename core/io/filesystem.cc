// The real file system, over POSIX calls.
// SPDX-License-Identifier: Apache-2.0
#include "core/io/filesystem.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>

#include "core/io/posix.h"

namespace retort::io {
namespace {

Code CodeOf(int error) {
  switch (error) {
    case ENOENT: return Code::kNotFound;
    case EEXIST: return Code::kAlreadyExists;
    case EACCES:
    case EPERM:
    case EROFS: return Code::kPermissionDenied;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EMFILE:
    case ENFILE:
    case ENOMEM: return Code::kResourceExhausted;
    case ENOTDIR:
    case EISDIR:
    case ENOTEMPTY: return Code::kFailedPrecondition;
    default: return Code::kUnavailable;
  }
}

// What whoever runs the program can do about it.
const char* RemedyOf(int error) {
  switch (error) {
    case ENOSPC: return "; make room on that file system";
    case EDQUOT: return "; make room within the disk quota, or have it raised";
    case EFBIG: return "; raise the limit of file sizes (ulimit -f)";
    case EMFILE: return "; raise the limit of open files (ulimit -n)";
    case ENFILE: return "; the whole machine has too many files open";
    case EROFS: return "; the file system can't be written to";
    case EIO: return "; the device failed, look at the system's log (dmesg)";
    default: return "";
  }
}

class PosixFile final : public WritableFile {
 public:
  PosixFile(Fd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  Status Append(std::string_view bytes) override {
    const size_t wanted = bytes.size();
    while (!bytes.empty()) {
      const ssize_t n =
          Uninterrupted([&] { return ::write(fd_.get(), bytes.data(), bytes.size()); });
      if (n < 0) {
        return SystemError("write", path_, errno)
            .WithContext(std::to_string(wanted - bytes.size()) + " of " + std::to_string(wanted) +
                         " bytes written");
      }
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return OkStatus();
  }

  Status Sync() override {
    if (::fsync(fd_.get()) != 0) return SystemError("fsync", path_, errno);
    return OkStatus();
  }

  Status Close() override {
    if (::close(fd_.Release()) != 0 && errno != EINTR) return SystemError("close", path_, errno);
    return OkStatus();
  }

 private:
  Fd fd_;
  std::string path_;
};

class PosixFileSystem final : public FileSystem {
 public:
  Result<FileInfo> Stat(const std::string& path) override {
    struct stat s {};
    if (::stat(path.c_str(), &s) != 0) return SystemError("look up", path, errno);
    FileInfo info{.bytes = static_cast<uint64_t>(s.st_size)};
    info.kind = S_ISREG(s.st_mode)   ? FileKind::kFile
                : S_ISDIR(s.st_mode) ? FileKind::kFolder
                                     : FileKind::kOther;
    info.modified_ns = int64_t{s.st_mtim.tv_sec} * 1'000'000'000 + s.st_mtim.tv_nsec;
    return info;
  }

  Result<std::string> Read(const std::string& path, uint64_t max_bytes) override {
    const Fd fd(OpenFd(path, O_RDONLY));
    if (!fd.ok()) return SystemError("open", path, errno);
    struct stat s {};
    if (::fstat(fd.get(), &s) != 0) return SystemError("look up", path, errno);
    if (S_ISDIR(s.st_mode)) return SystemError("read", path, EISDIR);
    const auto size = static_cast<uint64_t>(s.st_size);
    if (size > max_bytes) return TooLarge(path, size, max_bytes);
    std::string out(size + 1, '\0');  // one more: a file that grows, or a pipe, is noticed
    size_t n_read = 0;
    for (;;) {
      const ssize_t n =
          Uninterrupted([&] { return ::read(fd.get(), out.data() + n_read, out.size() - n_read); });
      if (n < 0) return SystemError("read", path, errno);
      if (n == 0) break;
      n_read += static_cast<size_t>(n);
      if (n_read > max_bytes) return TooLarge(path, n_read, max_bytes);
      if (n_read == out.size()) out.resize(out.size() + (uint64_t{64} << 10));
    }
    out.resize(n_read);
    return out;
  }

  Result<std::vector<std::string>> List(const std::string& folder) override {
    DIR* dir = ::opendir(folder.c_str());
    if (dir == nullptr) return SystemError("list", folder, errno);
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = ::readdir(dir)) {
      const std::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
    }
    const int error = errno;
    ::closedir(dir);
    if (error != 0) return SystemError("list", folder, error);
    std::sort(names.begin(), names.end());
    return names;
  }

  Status MakeFolders(const std::string& folder) override {
    if (folder.empty() || IsFolder(folder)) return OkStatus();
    const std::string parent = Parent(folder);
    if (parent != folder) RETORT_RETURN_IF_ERROR(MakeFolders(parent));
    if (::mkdir(folder.c_str(), 0777) != 0) {
      if (errno == EEXIST && IsFolder(folder)) return OkStatus();
      return SystemError("make the folder", folder, errno);
    }
    return SyncFolder(parent);
  }

  Result<std::unique_ptr<WritableFile>> Create(const std::string& path, bool exclusive) override {
    return Open(path, O_WRONLY | O_CREAT | (exclusive ? O_EXCL : O_TRUNC));
  }
  Result<std::unique_ptr<WritableFile>> OpenAppend(const std::string& path) override {
    return Open(path, O_WRONLY | O_CREAT | O_APPEND);
  }

  Status Truncate(const std::string& path, uint64_t bytes) override {
    const Fd fd(OpenFd(path, O_WRONLY));
    if (!fd.ok()) return SystemError("open", path, errno);
    const int rc = Uninterrupted([&] { return ::ftruncate(fd.get(), static_cast<off_t>(bytes)); });
    if (rc != 0) return SystemError("truncate", path, errno);
    return ::fsync(fd.get()) == 0 ? OkStatus() : SystemError("fsync", path, errno);
  }

  Status Rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) == 0) return OkStatus();
    return SystemError("rename", from + " to " + to, errno);
  }

  Status SyncFolder(const std::string& folder) override {
    const Fd fd(OpenFd(folder, O_RDONLY | O_DIRECTORY));
    if (!fd.ok()) return SystemError("open the folder", folder, errno);
    // Some network file systems can't fsync a folder and say so.
    if (::fsync(fd.get()) == 0 || errno == EINVAL) return OkStatus();
    return SystemError("fsync the folder", folder, errno);
  }

  Status Remove(const std::string& path) override {
    if (::remove(path.c_str()) == 0) return OkStatus();
    return SystemError("remove", path, errno);
  }

  Status RemoveAll(const std::string& path) override {
    struct stat s {};
    if (::lstat(path.c_str(), &s) != 0) {
      return errno == ENOENT ? OkStatus() : SystemError("look up", path, errno);
    }
    if (S_ISDIR(s.st_mode)) {
      RETORT_ASSIGN_OR_RETURN(const std::vector<std::string> names, List(path));
      for (const std::string& name : names) RETORT_RETURN_IF_ERROR(RemoveAll(Join(path, name)));
    }
    return Remove(path);
  }

 private:
  static int OpenFd(const std::string& path, int flags) {
    return Uninterrupted([&] { return ::open(path.c_str(), flags | O_CLOEXEC, 0666); });
  }
  static Result<std::unique_ptr<WritableFile>> Open(const std::string& path, int flags) {
    Fd fd(OpenFd(path, flags));
    if (!fd.ok()) return SystemError("open for writing", path, errno);
    return std::unique_ptr<WritableFile>(std::make_unique<PosixFile>(std::move(fd), path));
  }
  static Status TooLarge(const std::string& path, uint64_t size, uint64_t limit) {
    return InvalidArgument(path + ": " + std::to_string(size) + " bytes; the limit here is " +
                           std::to_string(limit));
  }
};

}  // namespace

Status SystemError(std::string_view operation, std::string_view path, int error) {
  std::string message = "cannot ";
  message.append(operation).append(" ").append(path).append(": ");
  return {CodeOf(error), message + std::generic_category().message(error) + RemedyOf(error)};
}

Fd& Fd::operator=(Fd&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

Fd::~Fd() {
  if (fd_ >= 0) ::close(fd_);
}

bool IsOfTheSystem(const Status& failure) {
  const Code code = failure.code();
  return code == Code::kResourceExhausted || code == Code::kUnavailable ||
         code == Code::kPermissionDenied;
}

Result<bool> IsThere(FileSystem& fs, const std::string& path) {
  const Status looked = fs.Stat(path).status();
  if (looked.ok()) return true;
  if (looked.code() == Code::kNotFound) return false;
  return looked;
}

FileSystem& RealFileSystem() {
  static PosixFileSystem fs;
  return fs;
}

bool FileSystem::IsFolder(const std::string& path) {
  const Result<FileInfo> info = Stat(path);
  return info.ok() && info->kind == FileKind::kFolder;
}

std::string Join(std::string_view folder, std::string_view name) {
  std::string out(folder);
  if (!out.empty() && out.back() != '/') out.push_back('/');
  return out.append(name);
}

std::string Parent(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  if (slash == path.npos) return ".";
  return std::string(slash == 0 ? "/" : path.substr(0, slash));
}

std::string BaseName(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  return std::string(path.substr(path.rfind('/') + 1));
}

std::string Absolute(std::string_view path) {
  std::string full(path);
  if (path.empty() || path.front() != '/') {
    char cwd[4096];
    full = Join(::getcwd(cwd, sizeof cwd) != nullptr ? cwd : "/", path);
  }
  std::vector<std::string_view> parts;
  const std::string_view all = full;
  for (size_t begin = 0; begin < all.size();) {
    const size_t end = std::min(all.find('/', begin), all.size());
    const std::string_view part = all.substr(begin, end - begin);
    if (part == "..") {
      if (!parts.empty()) parts.pop_back();
    } else if (!part.empty() && part != ".") {
      parts.push_back(part);
    }
    begin = end + 1;
  }
  std::string out;
  for (std::string_view part : parts) out.append("/").append(part);
  return out.empty() ? "/" : out;
}

}  // namespace retort::io
