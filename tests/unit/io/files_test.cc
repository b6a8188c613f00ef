// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "tests/unit/io/fault_fs.h"
#include "tests/unit/io/temp_folder.h"

namespace retort::io {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(DurableWrite, PublishesAndHashes) {
  const TempFolder dir;
  const FileDigest digest = DurableWrite(RealFileSystem(), dir / "a", "hello").value();
  EXPECT_EQ(ReadAll(dir / "a"), "hello");
  EXPECT_EQ(digest.name, "a");
  EXPECT_EQ(digest.bytes, 5u);
  EXPECT_EQ(digest.hash, HashHex("hello"));
  EXPECT_EQ(HashFile(dir / "a").value().hash, digest.hash);
  EXPECT_THAT(RealFileSystem().List(dir.path()).value(), ElementsAre("a"));
}

// Every operation fails once: the file is then wholly old or wholly new, and nothing is left over.
TEST(DurableWrite, AFailureLeavesOldOrNewAndNoTemporary) {
  FaultFs counter({});
  const TempFolder dir;
  ASSERT_TRUE(DurableWrite(counter, dir / "f", "new").ok());
  ASSERT_GE(counter.operations(), 6);  // create, append, sync, close, rename, sync folder
  for (int fail_at = 1; fail_at <= counter.operations(); ++fail_at) {
    (void)dir.Write("f", "old");
    FaultFs fs({.at = fail_at});
    EXPECT_FALSE(DurableWrite(fs, dir / "f", "new").ok()) << fail_at;
    const bool renamed = fail_at == counter.operations();
    EXPECT_EQ(ReadAll(dir / "f"), renamed ? "new" : "old") << fail_at;
    EXPECT_THAT(RealFileSystem().List(dir.path()).value(), ElementsAre("f")) << fail_at;
  }
}

TEST(DurableFile, UnpublishedIsGone) {
  const TempFolder dir;
  {
    DurableFile file = DurableFile::Create(RealFileSystem(), dir / "f").value();
    ASSERT_TRUE(file.Append("abc").ok());
    const DurableFile moved = std::move(file);
    EXPECT_EQ(RealFileSystem().List(dir.path()).value().size(), 1u);
  }
  EXPECT_TRUE(RealFileSystem().List(dir.path()).value().empty());
}

TEST(FileSystem, FoldersListsAndTrash) {
  const TempFolder dir;
  FileSystem& fs = RealFileSystem();
  ASSERT_TRUE(fs.MakeFolders(dir / "a/b/c").ok());
  ASSERT_TRUE(fs.MakeFolders(dir / "a/b/c").ok());
  EXPECT_TRUE(fs.IsFolder(dir / "a/b"));
  for (int i = 0; i < 2; ++i) {
    (void)dir.Write("x", "1");
    EXPECT_TRUE(MoveToTrash(fs, dir / "x", dir / ".trash").ok());
  }
  EXPECT_THAT(fs.List(dir / ".trash").value(), ElementsAre("x", "x.1"));
  EXPECT_EQ(MoveToTrash(fs, dir / "x", dir / ".trash").value(), "");
  ASSERT_TRUE(fs.RemoveAll(dir / "a").ok());
  EXPECT_FALSE(fs.Exists(dir / "a"));
  EXPECT_TRUE(fs.RemoveAll(dir / "a").ok());
}

TEST(FileSystem, ErrorsNameOperationPathAndReason) {
  const TempFolder dir;
  FileSystem& fs = RealFileSystem();
  const Status missing = fs.Read(dir / "none", 10).status();
  EXPECT_EQ(missing.code(), Code::kNotFound);
  EXPECT_THAT(missing.message(), HasSubstr("cannot open " + (dir / "none")));
  EXPECT_THAT(fs.Read(dir.path(), 10).status().message(), HasSubstr("directory"));
  (void)dir.Write("f", "0123456789A");
  EXPECT_THAT(fs.Read(dir / "f", 10).status().message(),
              HasSubstr("11 bytes; the limit here is 10"));
  EXPECT_EQ(fs.Create(dir / "f", true).status().code(), Code::kAlreadyExists);
  EXPECT_THAT(fs.MakeFolders(dir / "f/g").message(), HasSubstr("make the folder " + (dir / "f")));
  const Status full = fs.Create("/dev/full", false).value()->Append("x");
  EXPECT_EQ(full.code(), Code::kResourceExhausted);
  EXPECT_THAT(full.message(), HasSubstr("cannot write /dev/full"));
  EXPECT_THAT(full.message(), HasSubstr("make room"));
}

TEST(FileSystem, NotBeingAbleToLookIsNoAbsence) {
  const TempFolder dir;
  (void)dir.Write("f", "x");
  EXPECT_TRUE(IsThere(RealFileSystem(), dir / "f").value());
  EXPECT_FALSE(IsThere(RealFileSystem(), dir / "g").value());
  for (const char* name : {"f", "g"}) {
    FaultFs broken({.at = 1});
    EXPECT_EQ(IsThere(broken, dir / name).status().code(), Code::kUnavailable) << name;
  }
}

// Only the system's failures leave open whether a file is whole.
TEST(FileSystem, FailuresOfTheSystemAreToldFromThoseOfBytes) {
  for (const int error : {ENOSPC, EDQUOT, EFBIG, EMFILE, EIO, EACCES}) {
    EXPECT_TRUE(IsOfTheSystem(SystemError("read", "f", error))) << error;
  }
  EXPECT_FALSE(IsOfTheSystem(SystemError("read", "f", ENOENT)));
  EXPECT_FALSE(IsOfTheSystem(DataLoss("f: is not what was saved")));
}

TEST(MappedFile, EmptyMissingAndFolder) {
  const TempFolder dir;
  EXPECT_EQ(MappedFile::Open(dir.Write("empty", "")).value().bytes(), "");
  EXPECT_EQ(MappedFile::Open(dir / "none").status().code(), Code::kNotFound);
  EXPECT_THAT(MappedFile::Open(dir.path()).status().message(), HasSubstr("not a regular file"));
  MappedFile a = MappedFile::Open(dir.Write("a", "abc")).value();
  const MappedFile b = std::move(a);
  EXPECT_EQ(b.bytes(), "abc");
}

TEST(Paths, AreTakenApartByText) {
  EXPECT_EQ(Join("a/", "b"), "a/b");
  EXPECT_EQ(Join("", "b"), "b");
  EXPECT_EQ(Parent("a/b/"), "a");
  EXPECT_EQ(Parent("/a"), "/");
  EXPECT_EQ(Parent("a"), ".");
  EXPECT_EQ(BaseName("/a/b/"), "b");
  EXPECT_EQ(Absolute("/a/./b/../c//"), "/a/c");
  EXPECT_EQ(Absolute("/.."), "/");
  EXPECT_TRUE(Absolute("x").ends_with("/x"));
}

}  // namespace
}  // namespace retort::io
