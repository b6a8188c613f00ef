// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/run_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

namespace retort::host {
namespace {

using testing::HasSubstr;

class RunLockTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/lock_" +
              testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void WriteOwner(const LockOwner& owner) {
    ASSERT_TRUE(io::DurableWrite(folder_ + "/run.lock", owner.ToJson()).ok());
  }
  bool Locked() const { return std::filesystem::exists(folder_ + "/run.lock"); }

  io::FileSystem& fs_ = io::RealFileSystem();
  std::string folder_;
};

TEST_F(RunLockTest, IsGivenBackAtTheEnd) {
  {
    const Result<RunLock> lock = RunLock::Acquire(fs_, folder_);
    ASSERT_TRUE(lock.ok()) << lock.status().ToString();
    EXPECT_TRUE(Locked());
  }
  EXPECT_FALSE(Locked());
}

TEST_F(RunLockTest, SecondHostIsRefusedAndToldWho) {
  const Result<RunLock> first = RunLock::Acquire(fs_, folder_);
  const Result<RunLock> second = RunLock::Acquire(fs_, folder_);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), Code::kFailedPrecondition);
  EXPECT_THAT(second.status().message(), HasSubstr("process " + std::to_string(getpid())));
  EXPECT_TRUE(Locked());
}

TEST_F(RunLockTest, DeadOwnerIsTakenOver) {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  int state = 0;
  ASSERT_EQ(waitpid(child, &state, 0), child);
  LockOwner dead = LockOwner::Self();
  dead.pid = child;
  dead.nonce = "feedfeedfeedfeed";
  WriteOwner(dead);
  const Result<RunLock> lock = RunLock::Acquire(fs_, folder_);
  EXPECT_TRUE(lock.ok()) << lock.status().ToString();
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/run.lock.dead-" + dead.nonce));
}

TEST_F(RunLockTest, ReusedProcessIdIsNotTheOwner) {
  LockOwner earlier = LockOwner::Self();
  earlier.start_time -= 1000;
  earlier.nonce = "0123456789abcdef";
  WriteOwner(earlier);
  EXPECT_TRUE(RunLock::Acquire(fs_, folder_).ok());
}

TEST_F(RunLockTest, OwnerBeforeTheLastBootIsDead) {
  LockOwner before = LockOwner::Self();
  before.boot_id = "another boot";
  WriteOwner(before);
  EXPECT_TRUE(RunLock::Acquire(fs_, folder_).ok());
}

TEST_F(RunLockTest, OwnerOnAnotherMachineIsNeverTakenOver) {
  LockOwner far = LockOwner::Self();
  far.host = "elsewhere";
  far.pid = 1;
  far.boot_id = "another boot";
  WriteOwner(far);
  const Result<RunLock> lock = RunLock::Acquire(fs_, folder_);
  ASSERT_FALSE(lock.ok());
  EXPECT_THAT(lock.status().message(), HasSubstr("elsewhere"));
  EXPECT_TRUE(Locked());
}

// A process that was killed before its lock had its name.
TEST_F(RunLockTest, DraftsLockNobodyOutAndAreRemoved) {
  const std::string draft = folder_ + "/run.lock.new-0123456789abcdef";
  ASSERT_TRUE(io::DurableWrite(draft, "").ok());
  const Result<RunLock> lock = RunLock::Acquire(fs_, folder_);
  ASSERT_TRUE(lock.ok()) << lock.status().message();
  EXPECT_TRUE(Locked());
  EXPECT_FALSE(std::filesystem::exists(draft));
  EXPECT_FALSE(RunLock::Acquire(fs_, folder_).ok()) << "it is held";
  const std::filesystem::directory_iterator files(folder_);
  EXPECT_EQ(std::distance(begin(files), end(files)), 1) << "the lock alone";
}

TEST_F(RunLockTest, UnreadableFileIsRefused) {
  ASSERT_TRUE(io::DurableWrite(folder_ + "/run.lock", "{\"host\":").ok());
  EXPECT_FALSE(RunLock::Acquire(fs_, folder_).ok());
  EXPECT_TRUE(Locked());
}

}  // namespace
}  // namespace retort::host
