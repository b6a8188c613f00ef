// Loading plugins: what is fine, and one distinct message for each thing that isn't.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <xmmintrin.h>

#include <cstdio>
#include <filesystem>
#include <set>
#include <string>

#include "core/base/status.h"
#include "core/io/filesystem.h"
#include "host/plugin/registry.h"
#include "retort/abi/reward.h"

namespace retort::host {
namespace {

using testing::HasSubstr;

std::string Bad(const std::string& name) {
  return std::string(RETORT_BAD_PLUGIN_DIR) + "/" + name + ".so";
}

// Loading `path` fails with that code and a text that names the file and has `part`.
void ExpectRefused(const std::string& path, Code code, const std::string& part) {
  PluginRegistry registry;
  const Status status = registry.LoadFile(path);
  EXPECT_EQ(status.code(), code) << status.ToString();
  EXPECT_THAT(status.message(), HasSubstr(part));
  EXPECT_THAT(status.message(), HasSubstr(path));
  EXPECT_TRUE(registry.List().empty());
}

class TemporaryFile {
 public:
  TemporaryFile(const std::string& name, const std::string& bytes)
      : path_(io::Join(testing::TempDir(), name)) {
    EXPECT_TRUE(io::DurableWrite(path_, bytes).ok());
  }
  ~TemporaryFile() { std::remove(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::string BytesOf(const std::string& path) {
  return io::RealFileSystem().Read(path, uint64_t{1} << 26).value();
}

TEST(LoadFile, GoodPluginIsListedWithItsHash) {
  PluginRegistry registry;
  ASSERT_TRUE(registry.LoadFile(Bad("good")).ok());
  ASSERT_TRUE(registry.LoadFile(Bad("good")).ok()) << "twice is no error";
  ASSERT_EQ(registry.List().size(), 1u);
  const PluginInfo& info = *registry.List().front();
  EXPECT_EQ(info.kind, "reward");
  EXPECT_EQ(info.id, "good");
  EXPECT_EQ(info.library, "bad");
  EXPECT_EQ(info.hash, io::HashFile(Bad("good")).value().hash);
  EXPECT_FALSE(info.builtin);
}

TEST(LoadFile, MissingFile) { ExpectRefused("/nowhere/x.so", Code::kNotFound, "No such file"); }
TEST(LoadFile, Folder) {
  ExpectRefused(RETORT_BAD_PLUGIN_DIR, Code::kInvalidArgument, "not a regular file");
}
TEST(LoadFile, EmptyPath) {
  EXPECT_THAT(PluginRegistry().LoadFile("").message(), HasSubstr("the path is empty"));
}
TEST(LoadFile, NotElf) {
  const TemporaryFile file("text.so", "#!/bin/sh\necho hello\n");
  ExpectRefused(file.path(), Code::kInvalidArgument, "not an ELF file");
}
TEST(LoadFile, EmptyFile) {
  const TemporaryFile file("empty.so", "");
  ExpectRefused(file.path(), Code::kInvalidArgument, "not an ELF file");
}
TEST(LoadFile, OtherMachine) {
  std::string bytes = BytesOf(Bad("good"));
  bytes[18] = 8;  // e_machine: MIPS
  const TemporaryFile file("mips.so", bytes);
  ExpectRefused(file.path(), Code::kInvalidArgument, "built for another machine");
}
TEST(LoadFile, ObjectFileIsNoLibrary) {
  std::string bytes = BytesOf(Bad("good"));
  bytes[16] = 1;  // e_type: relocatable
  const TemporaryFile file("object.so", bytes);
  ExpectRefused(file.path(), Code::kInvalidArgument, "no shared library");
}
TEST(LoadFile, WorldWritable) {
  const TemporaryFile file("open.so", BytesOf(Bad("good")));
  ASSERT_EQ(chmod(file.path().c_str(), 0666), 0);
  ExpectRefused(file.path(), Code::kPermissionDenied, "chmod o-w");
}
TEST(LoadFile, NoSymbol) {
  ExpectRefused(Bad("no_symbol"), Code::kInvalidArgument, "does not export retort_plugin_entry_v1");
}
TEST(LoadFile, OtherMajorVersion) {
  ExpectRefused(Bad("major"), Code::kFailedPrecondition, "it exports retort_plugin_entry_v2");
}
TEST(LoadFile, MoreExports) {
  ExpectRefused(Bad("exports"), Code::kInvalidArgument, "retort_test_extra");
}
TEST(LoadFile, UnresolvedSymbolKeepsTheSystemsText) {
  ExpectRefused(Bad("unresolved"), Code::kInvalidArgument, "retort_test_function_that_nobody_has");
}
TEST(LoadFile, NullEntry) { ExpectRefused(Bad("null_entry"), Code::kInvalidArgument, "gave NULL"); }
TEST(LoadFile, EntryTooSmall) {
  ExpectRefused(Bad("entry_size"), Code::kInvalidArgument, "struct_size 0");
}
TEST(LoadFile, NewerMinor) {
  ExpectRefused(Bad("minor"), Code::kFailedPrecondition, "needs ABI 1.1, this retort has 1.0");
}
TEST(LoadFile, NullMember) {
  ExpectRefused(Bad("null_member"), Code::kInvalidArgument, "member create");
}
TEST(LoadFile, InitFails) {
  ExpectRefused(Bad("init"), Code::kFailedPrecondition, "init failed with status 14");
}
TEST(LoadFile, InitThrows) { ExpectRefused(Bad("throws_init"), Code::kInternal, "thrown by init"); }
TEST(LoadFile, NothingInside) {
  ExpectRefused(Bad("count"), Code::kInvalidArgument, "holds 0 plugins");
}
TEST(LoadFile, UnknownKind) {
  ExpectRefused(Bad("kind"), Code::kUnimplemented, "\"teapot\" is not known");
}
TEST(LoadFile, BadId) { ExpectRefused(Bad("id"), Code::kInvalidArgument, "\"Bad Id\""); }
TEST(LoadFile, BadSchema) { ExpectRefused(Bad("schema"), Code::kInvalidArgument, "pattern"); }

TEST(LoadFile, SecondPluginOfAnIdNamesBothFiles) {
  PluginRegistry registry;
  ASSERT_TRUE(registry.LoadFile(Bad("good")).ok());
  const Status status = registry.LoadFile(Bad("duplicate"));
  EXPECT_EQ(status.code(), Code::kAlreadyExists);
  EXPECT_THAT(status.message(), HasSubstr(Bad("good")));
  EXPECT_THAT(status.message(), HasSubstr(Bad("duplicate")));
  EXPECT_EQ(registry.List().size(), 1u);
}

// Every cut of a good library is refused or loads as a whole; none crashes the process.
TEST(LoadFile, CutFilesAreRefused) {
  const std::string bytes = BytesOf(Bad("good"));
  for (size_t n = 0; n < bytes.size(); n += 1 + bytes.size() / 97) {
    const TemporaryFile file("cut.so", bytes.substr(0, n));
    PluginRegistry registry;
    EXPECT_FALSE(registry.LoadFile(file.path()).ok()) << n;
  }
}

TEST(LoadFile, FloatingPointModeIsKept) {
  const unsigned before = _mm_getcsr();
  PluginRegistry registry;
  ASSERT_TRUE(registry.LoadFile(Bad("fast_math")).ok());
  EXPECT_EQ(_mm_getcsr(), before);
}

TEST(LoadBuiltins, AllKindsAreThere) {
  PluginRegistry registry;
  const Status status = registry.LoadBuiltins(RETORT_PLUGIN_DIR);
  ASSERT_TRUE(status.ok()) << status.ToString();
  std::set<std::string> names;
  for (const PluginInfo* info : registry.List()) {
    names.insert(info->kind + "/" + info->id);
    EXPECT_TRUE(info->builtin);
  }
  for (const char* name : {"family/llama", "family/qwen2", "family/qwen3", "family/mistral",
                           "family/olmo2", "family/gemma2", "family/phi3", "family/gemma3_text",
                           "family/qwen2_moe", "family/qwen3_moe", "family/mixtral",
                           "filter/length", "filter/reward_threshold", "filter/self_vote",
                           "loss/sft", "optimizer/adamw", "reward/format", "reward/number_match"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }
}

TEST(LoadBuiltins, MissingFolder) {
  EXPECT_THAT(PluginRegistry().LoadBuiltins("/nowhere").message(), HasSubstr("/nowhere"));
}

TEST(Find, UnknownIdGetsTheNearest) {
  PluginRegistry registry;
  ASSERT_TRUE(registry.LoadBuiltins(RETORT_PLUGIN_DIR).ok());
  const auto found = registry.Find("reward", "number_macth");
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.status().code(), Code::kNotFound);
  EXPECT_THAT(found.status().message(), HasSubstr("did you mean \"number_match\""));
}

// Create `id` of the library `name` fails with that code and text.
void ExpectNotCreated(const std::string& name, const std::string& config, Code code,
                      const std::string& text) {
  PluginRegistry registry;
  ASSERT_TRUE(registry.LoadFile(Bad(name)).ok());
  const std::string id = registry.List().front()->id;
  const auto instance = registry.Create("reward", id, config, {});
  ASSERT_FALSE(instance.ok());
  EXPECT_EQ(instance.status().code(), code) << instance.status().ToString();
  EXPECT_THAT(instance.status().message(), HasSubstr(text));
}

TEST(Create, ConfigIsCheckedAgainstTheSchema) {
  ExpectNotCreated("good", R"({"x": "one"})", Code::kInvalidArgument, "/x");
  ExpectNotCreated("good", R"({"y": 1})", Code::kInvalidArgument, "/y");
  ExpectNotCreated("good", "[1]", Code::kInvalidArgument, "object");
}
TEST(Create, PluginsOwnConfigErrorBeginsWithThePointer) {
  PluginRegistry registry;
  ASSERT_TRUE(registry.LoadFile(Bad("create")).ok());
  const auto instance = registry.Create("reward", "create", "", {});
  ASSERT_FALSE(instance.ok());
  EXPECT_EQ(instance.status().message(), "/x: this plugin never likes its config");
}
TEST(Create, SilentFailureStillHasAText) {
  ExpectNotCreated("create_silent", "", Code::kUnavailable, "gave no reason");
}
TEST(Create, NoInstance) {
  ExpectNotCreated("create_null", "", Code::kInternal, "without an instance");
}
TEST(Create, Throws) {
  ExpectNotCreated("throws_create", "", Code::kInternal, "threw an exception across the C edge");
}
TEST(Create, NoInterface) {
  ExpectNotCreated("no_interface", "", Code::kFailedPrecondition, RETORT_REWARD_INTERFACE);
}
TEST(Create, TableTooSmall) {
  ExpectNotCreated("table_size", "", Code::kInvalidArgument, "struct_size 4");
}

}  // namespace
}  // namespace retort::host
