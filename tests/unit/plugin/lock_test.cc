// plugins.lock: written, read back, asked before anything of a library runs; a thousand flipped
// bytes, of which none gets past it, nor through the reader of ELF files without being seen.
// SPDX-License-Identifier: Apache-2.0
#include "host/plugin/lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "core/base/rng.h"
#include "core/io/filesystem.h"
#include "core/json/json.h"
#include "host/plugin/description.h"
#include "host/plugin/elf_file.h"
#include "host/plugin/loader.h"
#include "host/plugin/registry.h"
#include "host/plugin/sha256.h"

namespace retort::host {
namespace {

using testing::HasSubstr;

std::string Bad(const std::string& name) {
  return std::string(RETORT_BAD_PLUGIN_DIR) + "/" + name + ".so";
}
std::string BytesOf(const std::string& path) {
  return io::RealFileSystem().Read(path, uint64_t{1} << 26).value();
}

class LockTest : public testing::Test {
 protected:
  LockTest() : folder_(io::Join(testing::TempDir(), "lock" + std::to_string(getpid()))) {
    std::filesystem::remove_all(folder_);
    EXPECT_TRUE(io::RealFileSystem().MakeFolders(folder_).ok());
  }
  ~LockTest() override { std::filesystem::remove_all(folder_); }

  std::string Place(const std::string& name) const { return io::Join(folder_, name); }
  void Copy(const std::string& from, const std::string& to) const {
    ASSERT_TRUE(io::DurableWrite(Place(to), BytesOf(Bad(from))).ok());
  }
  std::string Lock(const std::vector<std::string>& names) const {
    std::vector<LibraryDescription> libraries;
    for (const std::string& name : names) {
      libraries.push_back(DescribeLibrary(Place(name)).value());
    }
    EXPECT_TRUE(
        io::DurableWrite(Place("plugins.lock"), MakeLock(libraries, Place("plugins.lock"))).ok());
    return Place("plugins.lock");
  }
  Status Load(const std::string& name, const std::string& lock) const {
    PluginRegistry registry;
    registry.SetPolicy({.lock_file = lock});
    return registry.LoadFile(Place(name));
  }
  std::string MessageOfLock(const std::string& text) const {
    EXPECT_TRUE(io::DurableWrite(Place("plugins.lock"), text).ok());
    const Result<LockFile> lock = LockFile::Read(Place("plugins.lock"));
    EXPECT_FALSE(lock.ok()) << text;
    return lock.ok() ? "" : lock.status().message();
  }

  std::string folder_;
};

TEST_F(LockTest, WhatIsListedIsLoaded) {
  Copy("good", "a.so");
  const std::string lock = Lock({"a.so"});
  const json::Document document = json::Document::Parse(BytesOf(lock), "lock").value();
  const json::Value entry = document.root()["libraries"][0];
  EXPECT_EQ(entry["path"].StringOr(""), "a.so");
  EXPECT_EQ(entry["library"].StringOr(""), "bad");
  EXPECT_EQ(entry["version"].StringOr(""), "1.0.0");
  EXPECT_EQ(entry["abi"].StringOr(""), "1.0");
  EXPECT_EQ(entry["sha256"].StringOr(""), Sha256::Of(BytesOf(Place("a.so"))));
  EXPECT_EQ(entry["plugins"][0]["id"].StringOr(""), "good");
  const Status loaded = Load("a.so", lock);
  EXPECT_TRUE(loaded.ok()) << loaded.ToString();
}

TEST_F(LockTest, ChangedBytesAreRefusedWithBothHashesAndTheRemedy) {
  Copy("good", "a.so");
  const std::string lock = Lock({"a.so"});
  const std::string expected = Sha256::Of(BytesOf(Place("a.so")));
  Copy("create", "a.so");
  const Status status = Load("a.so", lock);
  EXPECT_EQ(status.code(), Code::kFailedPrecondition);
  EXPECT_THAT(status.message(), HasSubstr(Place("a.so")));
  EXPECT_THAT(status.message(), HasSubstr(expected));
  EXPECT_THAT(status.message(), HasSubstr(Sha256::Of(BytesOf(Place("a.so")))));
  EXPECT_THAT(status.message(), HasSubstr("retort plugin lock --output " + lock));
}

TEST_F(LockTest, UnlistedIsRefusedAndAMovedFolderIsNot) {
  Copy("good", "a.so");
  Copy("create", "b.so");
  const std::string lock = Lock({"a.so"});
  EXPECT_THAT(Load("b.so", lock).message(), HasSubstr("not listed"));
  // The same bytes elsewhere, as after moving the whole folder or a copy.
  Copy("good", "c.so");
  EXPECT_TRUE(Load("c.so", lock).ok());
  // A listed path with another listed library's bytes: somebody exchanged them.
  const std::string both = Lock({"a.so", "b.so"});
  Copy("create", "a.so");
  EXPECT_THAT(Load("a.so", both).message(), HasSubstr("was changed since it was locked"));
}

TEST_F(LockTest, AFilesOwnLockBindsBesideThePolicys) {
  Copy("good", "a.so");
  Copy("create", "b.so");
  const std::string lock = Lock({"a.so"});
  PluginRegistry registry;
  EXPECT_FALSE(registry.LoadFile(Place("b.so"), lock).ok());
  ASSERT_TRUE(registry.LoadFile(Place("b.so")).ok());
  // Known already, but the second one who names it has a lock that doesn't list it.
  EXPECT_FALSE(registry.LoadFile(Place("b.so"), lock).ok());
  EXPECT_TRUE(registry.LoadFile(Place("a.so"), lock).ok());
  EXPECT_EQ(LockBeside(Place("pipeline.json")), lock);
  EXPECT_EQ(LockBeside("/nowhere/pipeline.json"), "");
}

TEST_F(LockTest, BadLockFilesAreRefused) {
  EXPECT_THAT(LockFile::Read(Place("none")).status().message(), HasSubstr("No such file"));
  EXPECT_THAT(MessageOfLock("{"), HasSubstr("plugins.lock"));
  EXPECT_THAT(MessageOfLock("[]"), HasSubstr("not an object"));
  EXPECT_THAT(MessageOfLock(R"({"libraries": []})"), HasSubstr("\"format\" is absent"));
  EXPECT_THAT(MessageOfLock(R"({"format": "retort.plugins.lock/2", "libraries": []})"),
              HasSubstr("retort.plugins.lock/1"));
  const std::string head = R"({"format": "retort.plugins.lock/1", "libraries": )";
  EXPECT_THAT(MessageOfLock(head + "{}}"), HasSubstr("must be a list"));
  EXPECT_THAT(MessageOfLock(head + R"([{"path": "a.so"}]})"), HasSubstr("\"sha256\""));
  EXPECT_THAT(MessageOfLock(head + R"([{"path": "a.so", "sha256": "AB"}]})"), HasSubstr("64"));
  EXPECT_THAT(MessageOfLock(head + R"([{"path": "a.so", "hash": "AB"}]})"),
              HasSubstr("unknown key \"hash\""));
  Copy("good", "a.so");
  const std::string lock = Lock({"a.so"});
  ASSERT_EQ(chmod(lock.c_str(), 0666), 0);
  EXPECT_THAT(LockFile::Read(lock).status().message(), HasSubstr("chmod o-w"));
}

// G7. Seeded: the same thousand every time.
TEST_F(LockTest, AThousandFlippedBytesAreAllRefused) {
  Copy("good", "a.so");
  const std::string lock = Lock({"a.so"});
  const std::string bytes = BytesOf(Place("a.so"));
  int n_refused = 0, n_read = 0;
  for (uint64_t i = 0; i < 1000; ++i) {
    std::string flipped = bytes;
    const uint64_t at = Rng(RootKey(4, "flips"), i).Next64() % bytes.size();
    flipped[at] = static_cast<char>(flipped[at] ^ (1 << (i % 8)));
    std::ofstream(Place("a.so"), std::ios::binary) << flipped;
    n_refused += Load("a.so", lock).ok() ? 0 : 1;
    n_read += ReadElf(flipped, "flipped").ok() ? 1 : 0;  // any answer, no crash
  }
  EXPECT_EQ(n_refused, 1000);
  std::printf("flipped bytes: 1,000 refused by the lock; %d still read as a library\n", n_read);
}

// The reader alone, where no lock protects it: cuts at every length, and noise in the tables.
TEST(ElfFile, SurvivesCutsAndNoise) {
  const std::string bytes = BytesOf(Bad("good"));
  ASSERT_TRUE(ReadElf(bytes, "good").ok());
  for (size_t n = 0; n < bytes.size(); ++n) {
    EXPECT_FALSE(ReadElf(std::string_view(bytes).substr(0, n), "cut").ok()) << n;
  }
  for (uint64_t i = 0; i < 1000; ++i) {
    std::string noise = bytes;
    for (uint64_t k = 0; k < 1 + i % 64; ++k) {
      const uint64_t at = Rng(RootKey(5, "noise"), i * 64 + k).Next64();
      noise[at % std::min<size_t>(noise.size(), 4096)] = static_cast<char>(at >> 32);
    }
    (void)ReadElf(noise, "noise").ok();
  }
}

TEST_F(LockTest, WithoutAnImplicitSearch) {
  Copy("good", "a.so");
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(folder_);
  const PluginRegistry registry;
  EXPECT_TRUE(registry.List().empty()) << "nothing is found in the current folder by itself";
  std::filesystem::current_path(before);
}

TEST_F(LockTest, WritableFoldersAboveAreRefused) {
  ASSERT_TRUE(io::RealFileSystem().MakeFolders(Place("open/deep")).ok());
  Copy("good", "open/deep/a.so");
  PluginRegistry registry;
  ASSERT_EQ(chmod(Place("open").c_str(), 0777), 0);
  const Status status = registry.LoadFile(Place("open/deep/a.so"));
  EXPECT_EQ(status.code(), Code::kPermissionDenied);
  EXPECT_THAT(status.message(), HasSubstr("the folder " + Place("open") + ","));
  // By a link from elsewhere it is the same file.
  ASSERT_EQ(symlink(Place("open/deep/a.so").c_str(), Place("link.so").c_str()), 0);
  EXPECT_EQ(registry.LoadFile(Place("link.so")).code(), Code::kPermissionDenied);
  // The sticky bit keeps others from exchanging what is the user's own.
  ASSERT_EQ(chmod(Place("open").c_str(), 01777), 0);
  const Status sticky = registry.LoadFile(Place("open/deep/a.so"));
  EXPECT_TRUE(sticky.ok()) << sticky.ToString();
  // But not from planting: what lies there must be the user's or root's.
  if (geteuid() == 0) {
    ASSERT_EQ(chown(Place("open/deep").c_str(), 12345, 12345), 0);
    EXPECT_THAT(PluginRegistry().LoadFile(Place("open/deep/a.so")).message(),
                HasSubstr("belongs to user 12345"));
  }
}

TEST_F(LockTest, PolicyOfBuiltinsOnly) {
  PluginRegistry registry;
  registry.SetPolicy({.lock_file = "", .builtins_only = true});
  EXPECT_EQ(registry.LoadFile(Bad("good")).code(), Code::kPermissionDenied);
}

TEST_F(LockTest, TheFileMayGoOnceItIsLoaded) {
  Copy("good", "a.so");
  PluginRegistry registry;
  ASSERT_TRUE(registry.LoadFile(Place("a.so")).ok());
  ASSERT_EQ(truncate(Place("a.so").c_str(), 0), 0);  // mapped from the file, this would be SIGBUS
  EXPECT_TRUE(registry.Create("reward", "good", "", {}).ok());
}

TEST_F(LockTest, OneLibraryForAllRegistriesAndThreads) {
  Copy("good", "a.so");
  std::vector<const retort_entry*> entries(8);
  std::vector<std::thread> threads;
  for (auto& entry : entries) {
    threads.emplace_back([&] { entry = OpenLibrary(Place("a.so")).value().entry; });
  }
  for (std::thread& thread : threads) thread.join();
  for (const retort_entry* entry : entries) EXPECT_EQ(entry, entries[0]);
  // Other bytes at the same path are another library.
  Copy("create", "a.so");
  EXPECT_NE(OpenLibrary(Place("a.so")).value().entry, entries[0]);
}

TEST_F(LockTest, DescribedElsewhereIsOpenedHereOnlyToCreate) {
  Copy("good", "a.so");
  PluginRegistry registry;
  int n_asked = 0;
  registry.SetDescriber([&](const std::string& path) {
    ++n_asked;
    return DescriptionFromJson(DescriptionToJson(DescribeLibrary(path).value()));
  });
  ASSERT_TRUE(registry.LoadFile(Place("a.so")).ok());
  EXPECT_EQ(n_asked, 1);
  Copy("create", "a.so");
  const auto instance = registry.Create("reward", "good", "", {});
  ASSERT_FALSE(instance.ok());
  EXPECT_THAT(instance.status().message(), HasSubstr("changed while it was in use"));
  Copy("good", "a.so");
  EXPECT_TRUE(registry.Create("reward", "good", "", {}).ok());
}

TEST_F(LockTest, DescriptionsThatAWorkerMadeUpAreRefused) {
  Copy("good", "a.so");
  LibraryDescription description = DescribeLibrary(Place("a.so")).value();
  EXPECT_TRUE(DescriptionFromJson(DescriptionToJson(description)).ok());
  EXPECT_EQ(DescriptionFromJson("{\"path\": 1}").status().code(), Code::kDataLoss);
  EXPECT_EQ(DescriptionFromJson("nonsense").status().code(), Code::kDataLoss);
  description.plugins.push_back(description.plugins[0]);
  EXPECT_EQ(DescriptionFromJson(DescriptionToJson(description)).status().code(),
            Code::kAlreadyExists);
  description.plugins.pop_back();
  description.plugins[0].id = "Not An Id";
  EXPECT_FALSE(DescriptionFromJson(DescriptionToJson(description)).ok());
}

TEST_F(LockTest, StaticPluginsAreInitialisedOnceAndCheckedLikeFiles) {
  static int n_inits = 0;
  static const retort_descriptor descriptor = {
      sizeof(retort_descriptor), 0, "reward", "good", "1.0.0", "in the program", nullptr};
  static retort_entry entry = *OpenLibrary(Bad("good")).value().entry;
  entry.init = [](const char*) -> retort_status { return ++n_inits == 1 ? RETORT_OK : 14; };
  entry.describe = [](uint32_t i) { return i == 0 ? &descriptor : nullptr; };
  for (int i = 0; i < 2; ++i) {
    PluginRegistry registry;
    const Status added = registry.AddStatic(&entry, "inside");
    ASSERT_TRUE(added.ok()) << added.ToString();
    EXPECT_EQ(registry.List()[0]->path, "(static) inside");
    EXPECT_FALSE(registry.List()[0]->hash.empty());
    EXPECT_TRUE(registry.Create("reward", "good", "", {}).ok());
  }
  EXPECT_EQ(n_inits, 1);
  static retort_entry broken = entry;
  broken.create = nullptr;
  EXPECT_THAT(PluginRegistry().AddStatic(&broken, "broken").message(),
              HasSubstr("(static) broken: member create"));
}

// Where memory is not executable: a copy in a folder that only this user sees.
TEST_F(LockTest, ThePrivateCopyIsPrivate) {
  const std::string cache = Place("cache");
  ASSERT_EQ(setenv("XDG_CACHE_HOME", cache.c_str(), 1), 0);
  const LibraryFile file = ReadLibraryFile(Bad("good"), Folders::kCheck).value();
  EXPECT_TRUE(CanExecute(file.copy));
  const std::string place = PlaceCopy(file).value();
  EXPECT_EQ(place, cache + "/retort/plugins/" + file.sha256 + ".so");
  EXPECT_EQ(BytesOf(place), BytesOf(Bad("good")));
  struct stat info {};
  ASSERT_EQ(stat(io::Parent(place).c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
  // Damaged meanwhile: written anew. Open to others: refused.
  ASSERT_TRUE(io::DurableWrite(place, "other bytes").ok());
  EXPECT_EQ(BytesOf(PlaceCopy(file).value()), BytesOf(Bad("good")));
  ASSERT_EQ(chmod(io::Parent(place).c_str(), 0755), 0);
  EXPECT_THAT(PlaceCopy(file).status().message(), HasSubstr("chmod 700"));
  ASSERT_EQ(unsetenv("XDG_CACHE_HOME"), 0);
}

TEST(Needed, WhatThePluginNamesItselfIsNotLoaded) {
  const Status beside = PluginRegistry().LoadFile(Bad("needs_beside"));
  EXPECT_EQ(beside.code(), Code::kInvalidArgument);
  EXPECT_THAT(beside.message(), HasSubstr("libzoo_beside.so"));
  EXPECT_THAT(beside.message(), HasSubstr("$ORIGIN"));
  EXPECT_THAT(PluginRegistry().LoadFile(Bad("links_torch")).message(),
              HasSubstr("must not bring LibTorch"));
}

}  // namespace
}  // namespace retort::host
