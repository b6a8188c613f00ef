// Publishing files. Method: the bytes are written under a temporary name in the same folder,
// fsynced, renamed over the target and the folder is fsynced; whoever reads the target sees the
// old file or the new one, also after a crash. Writing in place, or renaming without fsync, was
// measured to tear files (docs/reliability.md).
// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include "core/base/fault.h"
#include "core/io/filesystem.h"

namespace retort::io {

Result<DurableFile> DurableFile::Create(FileSystem& fs, const std::string& path) {
  const std::string stem = path + ".tmp-" + std::to_string(::getpid()) + "-";
  constexpr int kTries = 1000;  // left-overs of killed processes with this id
  for (int i = 0; i < kTries; ++i) {
    std::string temporary = stem + std::to_string(i);
    Result<std::unique_ptr<WritableFile>> file = fs.Create(temporary, /*exclusive=*/true);
    if (file.ok()) return DurableFile(fs, path, std::move(temporary), std::move(file).value());
    if (file.status().code() != Code::kAlreadyExists) return file.status();
  }
  return AlreadyExists(stem + "*: too many left-over temporary files; remove them");
}

DurableFile::~DurableFile() {
  if (file_ == nullptr) return;
  file_.reset();
  (void)fs_->Remove(temporary_);  // best effort: nobody reads temporary files
}

Status DurableFile::Append(std::string_view bytes) {
  RETORT_RETURN_IF_ERROR(file_->Append(bytes));
  hasher_.Update(bytes);
  bytes_ += bytes.size();
  return OkStatus();
}

Status DurableFile::Append(const void* data, uint64_t n) {
  return Append(std::string_view(static_cast<const char*>(data), n));
}

Result<FileDigest> DurableFile::Publish() {
  FaultPoint("file.written");
  RETORT_RETURN_IF_ERROR(file_->Sync());
  RETORT_RETURN_IF_ERROR(file_->Close());
  FaultPoint("file.synced");
  RETORT_RETURN_IF_ERROR(fs_->Rename(temporary_, path_));
  FaultPoint("file.renamed");
  file_.reset();
  RETORT_RETURN_IF_ERROR(fs_->SyncFolder(Parent(path_)));
  return FileDigest{.name = BaseName(path_), .bytes = bytes_, .hash = hasher_.Hex()};
}

Result<FileDigest> DurableWrite(FileSystem& fs, const std::string& path, std::string_view bytes) {
  RETORT_ASSIGN_OR_RETURN(DurableFile file, DurableFile::Create(fs, path));
  RETORT_RETURN_IF_ERROR(file.Append(bytes));
  return file.Publish();
}

Result<std::string> MoveToTrash(FileSystem& fs, const std::string& path, const std::string& trash) {
  RETORT_ASSIGN_OR_RETURN(const bool there, IsThere(fs, path));
  if (!there) return std::string();
  RETORT_RETURN_IF_ERROR(fs.MakeFolders(trash));
  const std::string stem = Join(trash, BaseName(path));
  std::string target = stem;
  for (int i = 1; fs.Exists(target); ++i) target = stem + "." + std::to_string(i);
  RETORT_RETURN_IF_ERROR(fs.Rename(path, target));
  FaultPoint("trash.renamed");
  RETORT_RETURN_IF_ERROR(fs.SyncFolder(Parent(path)));
  return target;
}

Result<FileDigest> HashFile(const std::string& path) {
  RETORT_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  return FileDigest{
      .name = BaseName(path), .bytes = file.bytes().size(), .hash = HashHex(file.bytes())};
}

}  // namespace retort::io
