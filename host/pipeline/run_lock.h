// One host at a time in a run folder: run.lock names its owner. An owner of this machine that is
// dead is taken over; a live one, or one of another machine, is an error that says who.
//
// Method: the file is made with O_EXCL. A dead owner's file is first renamed to a name made of
// its nonce, so that of several hosts that find it, one takes it and the others look again; what
// was renamed is read once more, and put back if it is not the dead owner's. Process ids come
// round again, so the owner's start time counts too, and a boot makes all before it dead.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "core/base/status.h"
#include "core/io/filesystem.h"

namespace retort::host {

struct LockOwner {
  std::string host = {}, boot_id = {}, nonce = {};
  int64_t pid = 0;
  int64_t start_time = 0;  // of the process, in ticks since boot

  static LockOwner Self();
  std::string ToJson() const;
};

class RunLock {
 public:
  // FAILED_PRECONDITION: somebody else runs in this folder.
  static Result<RunLock> Acquire(io::FileSystem& fs, const std::string& folder,
                                 const LockOwner& self = LockOwner::Self());
  RunLock(RunLock&& other) noexcept;
  RunLock& operator=(RunLock&&) = delete;
  ~RunLock();  // gives it back

 private:
  RunLock(io::FileSystem& fs, std::string path) : fs_(&fs), path_(std::move(path)) {}
  io::FileSystem* fs_;
  std::string path_ = {};
};

}  // namespace retort::host
