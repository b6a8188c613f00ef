// SPDX-License-Identifier: Apache-2.0
#include "core/io/jsonl.h"

#include <gmock/gmock.h>

#include "tests/unit/io/temp_folder.h"

namespace retort::io {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(JsonlAppend, ContinuesBehindTheLastWholeLine) {
  const TempFolder dir;
  const std::string path = dir.Write("log", "{\"a\":1}\n{\"a\":2}\n{\"torn");
  JsonlAppender log = JsonlAppender::Open(RealFileSystem(), path).value();
  EXPECT_EQ(log.offset(), 16u);
  ASSERT_TRUE(log.Append("{\"a\":3}").ok());
  EXPECT_EQ(log.offset(), 24u);
  EXPECT_EQ(ReadAll(path), "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n");
}

TEST(JsonlAppend, CutsAtTheRecordedOffset) {
  const TempFolder dir;
  const std::string path = dir.Write("log", "1\n2\n3\n");
  JsonlAppender log = JsonlAppender::Open(RealFileSystem(), path, {.resume_offset = 2}).value();
  ASSERT_TRUE(log.Append("4").ok() && log.Sync().ok());
  EXPECT_EQ(ReadAll(path), "1\n4\n");
  const auto beyond = JsonlAppender::Open(RealFileSystem(), path, {.resume_offset = 5});
  EXPECT_EQ(beyond.status().code(), Code::kDataLoss);
  EXPECT_THAT(beyond.status().message(), HasSubstr("has 4 bytes, but 5 were recorded"));
}

TEST(JsonlAppend, MakesTheFileAndDropsALineWithoutEnd) {
  const TempFolder dir;
  EXPECT_EQ(JsonlAppender::Open(RealFileSystem(), dir / "new").value().offset(), 0u);
  const std::string torn = dir.Write("torn", std::string(700'000, 'x'));
  EXPECT_EQ(JsonlAppender::Open(RealFileSystem(), torn).value().offset(), 0u);
  EXPECT_EQ(ReadAll(torn), "");
}

TEST(JsonlRead, BomCrlfEmptyLinesAndNoFinalNewline) {
  const TempFolder dir;
  JsonlReader reader =
      JsonlReader::Open(dir.Write("f", "\xEF\xBB\xBF{\"a\":1}\r\n\r\n  \n{\"a\":2}\n\n{\"a\":3}"))
          .value();
  std::vector<std::pair<int64_t, int64_t>> got;  // line, a
  for (;;) {
    const auto doc = reader.Next().value();
    if (!doc) break;
    got.emplace_back(reader.line(), doc->root()["a"].AsInt().value());
  }
  EXPECT_EQ(got, (std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {4, 2}, {6, 3}}));
  EXPECT_FALSE(reader.Next().value().has_value());
  EXPECT_EQ(reader.bytes_read(), ReadAll(dir / "f").size());
}

TEST(JsonlRead, ABadLineIsNamedAndTheNextOneIsRead) {
  const TempFolder dir;
  const std::string path = dir.Write("f", "{\"a\":1}\n{\"a\":\n\"\xFF\"\n{\"a\":4}\n");
  JsonlReader reader = JsonlReader::Open(path).value();
  EXPECT_TRUE(reader.Next().ok());
  EXPECT_THAT(reader.Next().status().message(), StartsWith(path + ":2:"));
  EXPECT_EQ(reader.text(), "{\"a\":");
  EXPECT_THAT(reader.Next().status().message(), StartsWith(path + ":3:"));
  EXPECT_EQ(reader.Next().value()->root()["a"].AsInt().value(), 4);
  EXPECT_FALSE(reader.broken());
}

TEST(JsonlRead, LongLinesAreRefusedWithoutHoldingThem) {
  const TempFolder dir;
  const std::string ok = "\"" + std::string(kMaxLineBytes - 2, 'x') + "\"";
  const std::string path =
      dir.Write("f", ok + "\n" + std::string(kMaxLineBytes * 2, 'y') + "\n{\"a\":3}\n");
  JsonlReader reader = JsonlReader::Open(path).value();
  EXPECT_EQ(reader.Next().value()->root().AsString().value().size(), kMaxLineBytes - 2);
  EXPECT_THAT(reader.Next().status().message(), StartsWith(path + ":2: line longer than"));
  EXPECT_EQ(reader.Next().value()->root()["a"].AsInt().value(), 3);
  EXPECT_EQ(reader.line(), 3);
}

TEST(JsonlRead, ManyLinesOverBufferEdges) {
  const TempFolder dir;
  std::string text;
  for (int i = 0; i < 50'000; ++i) {
    text += "{\"i\":" + std::to_string(i) + ",\"s\":\"" +
            std::string(static_cast<size_t>(i % 37), 'z') + "\"}\n";
  }
  JsonlReader reader = JsonlReader::Open(dir.Write("f", text)).value();
  for (int i = 0; i < 50'000; ++i) {
    ASSERT_EQ(reader.Next().value()->root()["i"].AsInt().value(), i);
    ASSERT_EQ(reader.line(), i + 1);
  }
  EXPECT_FALSE(reader.Next().value().has_value());
}

TEST(JsonlRead, MissingFileAndFolder) {
  const TempFolder dir;
  EXPECT_EQ(JsonlReader::Open(dir / "none").status().code(), Code::kNotFound);
  EXPECT_FALSE(JsonlReader::Open(dir.path()).ok());
}

}  // namespace
}  // namespace retort::io
