// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/run_lock.h"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>
#include <sstream>
#include <utility>

#include "core/base/clock.h"
#include "core/base/fault.h"
#include "core/base/hash.h"
#include "core/io/link_new.h"
#include "core/json/json.h"

namespace retort::host {
namespace {

constexpr uint64_t kMaxBytes = 4096;
constexpr int kAttempts = 5;

// Files of /proc have no size, so they are read as a stream.
std::string ProcText(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// Field 22 of /proc/PID/stat; the command's name in field 2 may hold spaces and brackets.
int64_t StartTime(int64_t pid) {
  const std::string text = ProcText("/proc/" + std::to_string(pid) + "/stat");
  const size_t bracket = text.rfind(')');
  if (bracket == std::string::npos) return 0;
  std::istringstream fields(text.substr(bracket + 1));
  std::string field;
  for (int i = 3; i <= 22; ++i) fields >> field;
  return fields ? std::atoll(field.c_str()) : 0;
}

bool IsAlive(const LockOwner& owner) {
  if (kill(static_cast<pid_t>(owner.pid), 0) != 0 && errno == ESRCH) return false;
  const int64_t start = StartTime(owner.pid);
  return start == 0 || start == owner.start_time;
}

Result<LockOwner> ReadOwner(io::FileSystem& fs, const std::string& path) {
  RETORT_ASSIGN_OR_RETURN(const std::string text, fs.Read(path, kMaxBytes));
  RETORT_ASSIGN_OR_RETURN(const json::Document document, json::Document::Parse(text, path));
  const json::Value root = document.root();
  return LockOwner{.host = std::string(root["host"].StringOr("")),
                   .boot_id = std::string(root["boot_id"].StringOr("")),
                   .nonce = std::string(root["nonce"].StringOr("")),
                   .pid = root["pid"].IntOr(0),
                   .start_time = root["start_time"].IntOr(0)};
}

constexpr const char* kDraft = ".new-";  // behind the lock's name: one that is being written

Status WriteDraft(io::FileSystem& fs, const std::string& path, const LockOwner& owner) {
  RETORT_ASSIGN_OR_RETURN(const std::unique_ptr<io::WritableFile> file, fs.Create(path, true));
  RETORT_RETURN_IF_ERROR(file->Append(owner.ToJson() + "\n"));
  RETORT_RETURN_IF_ERROR(file->Sync());
  return file->Close();
}

// Written whole before it has its name: whoever is killed meanwhile locks nobody out.
Status WriteLock(io::FileSystem& fs, const std::string& path, const LockOwner& owner) {
  const std::string draft = path + kDraft + owner.nonce;
  Status written = WriteDraft(fs, draft, owner);
  FaultPoint("lock.drafted");
  if (written.ok()) written = io::LinkNew(draft, path);
  (void)fs.Remove(draft);
  return written;
}

// Those of processes that were killed. One that starts just now writes its own again.
void RemoveDrafts(io::FileSystem& fs, const std::string& folder, const std::string& lock) {
  const Result<std::vector<std::string>> names = fs.List(folder);
  if (!names.ok()) return;
  for (const std::string& name : *names) {
    if (name.starts_with(lock + kDraft)) (void)fs.Remove(io::Join(folder, name));
  }
}

Status Refuse(const std::string& path, const LockOwner& owner) {
  return FailedPrecondition(path + ": process " + std::to_string(owner.pid) + " on " + owner.host +
                            " is running in this folder; wait for it, or choose another output "
                            "(if you know that it is dead, delete the file)");
}

// True: the dead owner's file is out of the way. False: look again.
Result<bool> TakeOver(io::FileSystem& fs, const std::string& path, const LockOwner& dead) {
  const std::string aside = path + ".dead-" + (dead.nonce.empty() ? "unknown" : dead.nonce);
  const Status renamed = fs.Rename(path, aside);
  if (!renamed.ok()) {
    if (renamed.code() == Code::kNotFound) return false;
    return renamed;
  }
  const Result<LockOwner> moved = ReadOwner(fs, aside);
  if (moved.ok() && moved->nonce != dead.nonce) {
    RETORT_RETURN_IF_ERROR(fs.Rename(aside, path));
    return false;
  }
  RETORT_RETURN_IF_ERROR(fs.Remove(aside));
  return true;
}

}  // namespace

LockOwner LockOwner::Self() {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  std::string boot = ProcText("/proc/sys/kernel/random/boot_id");
  while (!boot.empty() && boot.back() == '\n') boot.pop_back();
  LockOwner self = {.host = host.data(),
                    .boot_id = std::move(boot),
                    .nonce = {},
                    .pid = getpid(),
                    .start_time = StartTime(getpid())};
  self.nonce = HashHex(self.ToJson() + std::to_string(RealClock().MonotonicNs())).substr(0, 16);
  return self;
}

std::string LockOwner::ToJson() const {
  json::Writer writer;
  writer.BeginObject().Field("host", host).Field("boot_id", boot_id).Field("pid", pid);
  writer.Field("start_time", start_time).Field("nonce", nonce).EndObject();
  return writer.Take();
}

Result<RunLock> RunLock::Acquire(io::FileSystem& fs, const std::string& folder,
                                 const LockOwner& self) {
  const std::string path = io::Join(folder, "run.lock");
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const Status written = WriteLock(fs, path, self);
    if (written.ok()) {
      RemoveDrafts(fs, folder, io::BaseName(path));
      return RunLock(fs, path);
    }
    // One that starts beside this one may have removed the draft; a folder that is missing stays
    // so.
    if (written.code() == Code::kNotFound && attempt == 0) continue;
    if (written.code() != Code::kAlreadyExists) return written;
    const Result<LockOwner> owner = ReadOwner(fs, path);
    if (!owner.ok()) {
      if (owner.status().code() == Code::kNotFound) continue;  // given back meanwhile
      if (io::IsOfTheSystem(owner.status())) return owner.status();
      return FailedPrecondition(path +
                                ": this is no lock that was written here; if nothing is running "
                                "in this folder, delete it");
    }
    if (owner->host != self.host) return Refuse(path, *owner);
    if (owner->boot_id == self.boot_id && IsAlive(*owner)) return Refuse(path, *owner);
    RETORT_RETURN_IF_ERROR(TakeOver(fs, path, *owner).status());
  }
  return FailedPrecondition(path + ": other hosts keep taking this folder");
}

RunLock::RunLock(RunLock&& other) noexcept
    : fs_(other.fs_), path_(std::exchange(other.path_, {})) {}

RunLock::~RunLock() {
  if (!path_.empty()) (void)fs_->Remove(path_);  // a left-over file names a dead owner
}

}  // namespace retort::host
