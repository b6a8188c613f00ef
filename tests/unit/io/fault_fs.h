// A file system whose n-th call fails, once or from then on: with no space, too many open files or
// a device that fails, each where that can happen. A write that fails has written half of its
// bytes. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/io/filesystem.h"
#include "core/io/posix.h"

namespace retort::io {

struct Fault {
  int at = 0;  // the call that fails, counted from 1 over those that can fail so; 0: none
  int error = EIO;
  bool sticky = false;  // all later ones too
};

class FaultFs final : public FileSystem {
 public:
  explicit FaultFs(Fault fault) : fault_(fault) {}
  int operations() const { return n_; }

  Result<FileInfo> Stat(const std::string& p) override {
    if (Fails(kLook)) return Failure("look up", p);
    return real_.Stat(p);
  }
  Result<std::string> Read(const std::string& p, uint64_t n) override {
    if (Fails(kOpen)) return Failure("open", p);
    return real_.Read(p, n);
  }
  Result<std::vector<std::string>> List(const std::string& p) override {
    if (Fails(kOpen)) return Failure("list", p);
    return real_.List(p);
  }
  Status MakeFolders(const std::string& p) override {
    if (real_.IsFolder(p)) return OkStatus();
    return Fails(kSpace) ? Failure("make the folder", p) : real_.MakeFolders(p);
  }
  Result<std::unique_ptr<WritableFile>> Create(const std::string& p, bool exclusive) override {
    if (Fails(kSpace | kOpen)) return Failure("open for writing", p);
    return Wrapped(p, real_.Create(p, exclusive));
  }
  Result<std::unique_ptr<WritableFile>> OpenAppend(const std::string& p) override {
    if (Fails(kSpace | kOpen)) return Failure("open for writing", p);
    return Wrapped(p, real_.OpenAppend(p));
  }
  Status Truncate(const std::string& p, uint64_t n) override {
    return Fails(kOpen) ? Failure("truncate", p) : real_.Truncate(p, n);
  }
  Status Rename(const std::string& a, const std::string& b) override {
    return Fails(kSpace) ? Failure("rename", a + " to " + b) : real_.Rename(a, b);
  }
  Status SyncFolder(const std::string& p) override {
    return Fails(kOpen) ? Failure("fsync the folder", p) : real_.SyncFolder(p);
  }
  Status Remove(const std::string& p) override {
    return Fails(kLook) ? Failure("remove", p) : real_.Remove(p);
  }
  Status RemoveAll(const std::string& p) override {
    return Fails(kLook) ? Failure("remove", p) : real_.RemoveAll(p);
  }

 private:
  // What a call needs; a device that fails fails them all.
  enum Needs : unsigned { kLook = 0, kSpace = 1, kOpen = 2 };

  class File final : public WritableFile {
   public:
    File(FaultFs* fs, std::string path, std::unique_ptr<WritableFile> file)
        : fs_(fs), path_(std::move(path)), file_(std::move(file)) {}
    Status Append(std::string_view bytes) override {
      if (!fs_->Fails(kSpace)) return file_->Append(bytes);
      (void)file_->Append(bytes.substr(0, bytes.size() / 2));
      return fs_->Failure("write", path_);
    }
    Status Sync() override {
      return fs_->Fails(kSpace) ? fs_->Failure("fsync", path_) : file_->Sync();
    }
    Status Close() override {
      return fs_->Fails(kSpace) ? fs_->Failure("close", path_) : file_->Close();
    }

   private:
    FaultFs* fs_;
    std::string path_;
    std::unique_ptr<WritableFile> file_;
  };

  bool Fails(unsigned needs) {
    const bool space = fault_.error == ENOSPC || fault_.error == EDQUOT;
    const bool open = fault_.error == EMFILE;
    if ((space && (needs & kSpace) == 0) || (open && (needs & kOpen) == 0)) return false;
    ++n_;
    return fault_.at > 0 && (n_ == fault_.at || (fault_.sticky && n_ > fault_.at));
  }
  Status Failure(const char* operation, const std::string& path) const {
    return SystemError(operation, path, fault_.error);
  }
  Result<std::unique_ptr<WritableFile>> Wrapped(const std::string& path,
                                                Result<std::unique_ptr<WritableFile>> file) {
    if (!file.ok()) return file;
    return std::unique_ptr<WritableFile>(
        std::make_unique<File>(this, path, std::move(file).value()));
  }

  FileSystem& real_ = RealFileSystem();
  const Fault fault_;
  int n_ = 0;
};

}  // namespace retort::io
