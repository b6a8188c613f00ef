// source/jsonl: every kind of line end and bad line, uids, and positions that resume exactly.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "retort/abi/draft/source.h"
#include "tests/unit/plugins/harness.h"

namespace retort::host {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

struct Got {
  uint64_t uid;
  retort_status status;
  std::string json, origin;
  bool operator==(const Got&) const = default;
};

// A sink or reader that moves a few bytes at a time.
struct Bytes {
  std::string data;
  size_t at = 0;
  static int64_t Write(void* ctx, const void* data, uint64_t n) {
    const uint64_t take = std::min<uint64_t>(n, 3);
    static_cast<Bytes*>(ctx)->data.append(static_cast<const char*>(data), take);
    return static_cast<int64_t>(take);
  }
  static int64_t Read(void* ctx, void* data, uint64_t n) {
    Bytes& self = *static_cast<Bytes*>(ctx);
    const size_t give = std::min({static_cast<size_t>(n), size_t{3}, self.data.size() - self.at});
    std::copy_n(self.data.data() + self.at, give, static_cast<char*>(data));
    self.at += give;
    return static_cast<int64_t>(give);
  }
};

class Source {
 public:
  explicit Source(const std::string& path, const std::string& more = "")
      : source_(Make("source", "jsonl", R"({"path": ")" + path + "\"" + more + "}")),
        table_(static_cast<const retort_source_v1*>(source_.interface(RETORT_SOURCE_INTERFACE))) {}

  std::vector<Got> Next(uint64_t max_n) {
    std::vector<Got> got;
    const Status status = call_.End(table_->next(
                                        source_.get(), call_.Begin(), max_n, &got,
                                        [](void* ctx, const retort_record* r) {
                                          static_cast<std::vector<Got>*>(ctx)->push_back(
                                              {r->uid, r->status, std::string(ToView(r->json)),
                                               std::string(ToView(r->origin))});
                                        },
                                        &end),
                                    "next");
    EXPECT_TRUE(status.ok()) << status.ToString();
    return got;
  }
  std::vector<Got> All() {
    std::vector<Got> all;
    do {
      for (Got& got : Next(7)) all.push_back(std::move(got));
    } while (end == 0);
    return all;
  }
  std::string Save() {
    Bytes bytes;
    const retort_sink sink = {&bytes, Bytes::Write};
    EXPECT_EQ(table_->save(source_.get(), call_.Begin(), &sink), RETORT_OK);
    return bytes.data;
  }
  Status Load(const std::string& state) {
    Bytes bytes{.data = state};
    const retort_reader reader = {&bytes, Bytes::Read};
    return call_.End(table_->load(source_.get(), call_.Begin(), &reader), "load");
  }

  int32_t end = -1;

 private:
  PluginInstance source_;
  const retort_source_v1* table_;
  PluginCall call_{"source jsonl"};
};

class JsonlTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "jsonl_" +
            testing::UnitTest::GetInstance()->current_test_info()->name() + ".jsonl";
  }
  void TearDown() override { std::filesystem::remove(path_); }
  void Write(const std::string& bytes) { std::ofstream(path_, std::ios::binary) << bytes; }
  std::string path_;
};

TEST_F(JsonlTest, LineEndsBomAndBlankLines) {
  Write("\xEF\xBB\xBF{\"a\": 1}\r\n\n  \r\n{\"a\": 2}\n{\"a\": 3}");
  Source source(path_);
  const std::vector<Got> got = source.All();
  ASSERT_EQ(got.size(), 3U);
  EXPECT_EQ(got[0].json, R"({"a": 1})");
  EXPECT_EQ(got[0].origin, path_ + ":1");
  EXPECT_EQ(got[1].json, R"({"a": 2})");
  EXPECT_EQ(got[1].origin, path_ + ":4");
  EXPECT_EQ(got[2].json, R"({"a": 3})");
  EXPECT_EQ(source.end, 1);
  EXPECT_TRUE(source.Next(1).empty());
  EXPECT_EQ(source.end, 1);
}

TEST_F(JsonlTest, EmptyFile) {
  Write("");
  EXPECT_TRUE(Source(path_).All().empty());
}

TEST_F(JsonlTest, BadLinesAreRecordsWithAStatus) {
  Write("{\"a\": 1}\nnot json\n[1]\n{\"a\": \"\xFF\"}\n" + std::string("{\"a\"\0: 1}\n", 10) +
        "{\"a\": 6}\n");
  const std::vector<Got> got = Source(path_).All();
  ASSERT_EQ(got.size(), 6U);
  for (const size_t i : {1U, 2U, 3U, 4U}) {
    EXPECT_NE(got[i].status, RETORT_OK) << i;
    EXPECT_THAT(got[i].origin, HasSubstr(path_ + ":" + std::to_string(i + 1) + ": "));
  }
  EXPECT_EQ(got[1].json, "not json");
  EXPECT_EQ(got[4].json.size(), 9U) << "the bytes as they were read, NUL included";
  EXPECT_EQ(got[5].status, RETORT_OK);
}

TEST_F(JsonlTest, LinesOverTheLimitArePassedOver) {
  const std::string value(size_t{16} << 20, 'x');
  Write("{\"a\": \"" + value + "\"}\n{\"a\": \"" + value.substr(8) + "\"}\n{\"b\": 2}\n");
  const std::vector<Got> got = Source(path_).All();
  ASSERT_EQ(got.size(), 3U);
  EXPECT_EQ(got[0].status, RETORT_RESOURCE_EXHAUSTED);
  EXPECT_THAT(got[0].origin, AllOf(HasSubstr(":1: "), HasSubstr("16 MiB")));
  EXPECT_TRUE(got[0].json.empty());
  EXPECT_EQ(got[1].status, RETORT_RESOURCE_EXHAUSTED) << "one byte over";
  EXPECT_EQ(got[2].json, R"({"b": 2})");
}

TEST_F(JsonlTest, LineOfExactlyTheLimit) {
  Write("{\"a\": \"" + std::string((size_t{16} << 20) - 9, 'x') + "\"}\r\n{}");
  const std::vector<Got> got = Source(path_).All();
  ASSERT_EQ(got.size(), 2U);
  EXPECT_EQ(got[0].status, RETORT_RESOURCE_EXHAUSTED) << "the CR counts";
  Write("{\"a\": \"" + std::string((size_t{16} << 20) - 9, 'x') + "\"}\n{}");
  EXPECT_EQ(Source(path_).All()[0].status, RETORT_OK);
}

TEST_F(JsonlTest, UidsAreStableAndUnique) {
  std::string text;
  for (int i = 0; i < 3000; ++i) text += "{\"a\": " + std::to_string(i % 2) + "}\n";
  Write(text);
  const std::vector<Got> first = Source(path_).All();
  EXPECT_EQ(first, Source(path_).All());
  std::set<uint64_t> uids;
  for (const Got& got : first) uids.insert(got.uid);
  EXPECT_EQ(uids.size(), 3000U);
}

TEST_F(JsonlTest, FieldsPickMembers) {
  Write("{\"a\": 1, \"b\": {\"c\": [true, null]}, \"d\": \"x\"}\n{\"a\": 1}\n");
  const std::vector<Got> got = Source(path_, R"(, "fields": ["b", "a"])").All();
  ASSERT_EQ(got.size(), 2U);
  EXPECT_EQ(got[0].json, R"({"b": {"c":[true,null]}, "a": 1})");
  EXPECT_EQ(got[1].status, RETORT_NOT_FOUND);
  EXPECT_THAT(got[1].origin, HasSubstr("has no member \"b\""));
}

TEST_F(JsonlTest, EveryPositionResumesExactly) {
  std::string text = "\xEF\xBB\xBF";
  for (int i = 0; i < 40; ++i) {
    text +=
        i % 7 == 3 ? "broken\n" : "{\"i\": " + std::to_string(i) + "}" + (i % 2 ? "\r\n" : "\n\n");
  }
  Write(text);
  const std::vector<Got> whole = Source(path_).All();
  ASSERT_EQ(whole.size(), 40U);
  for (size_t n = 0; n <= whole.size(); ++n) {
    Source before(path_);
    for (size_t i = 0; i < n; ++i) before.Next(1);
    const std::string state = before.Save();
    EXPECT_EQ(state, before.Save());
    Source after(path_);
    after.Next(5);  // a used instance goes there too
    ASSERT_TRUE(after.Load(state).ok()) << state;
    EXPECT_EQ(after.All(),
              std::vector<Got>(whole.begin() + static_cast<std::ptrdiff_t>(n), whole.end()));
    const std::vector<Got> rest = before.All();  // saving moved nothing
    EXPECT_EQ(rest.size(), whole.size() - n);
  }
}

TEST_F(JsonlTest, ChangedFileIsNoticedAndAppendedLinesAreFine) {
  Write("{\"a\": 1}\n{\"a\": 2}\n");
  Source source(path_);
  source.Next(1);
  const std::string state = source.Save();
  Write("{\"a\": 1}\n{\"a\": 2}\n{\"a\": 3}\n");
  Source longer(path_);
  ASSERT_TRUE(longer.Load(state).ok());
  EXPECT_EQ(longer.All().size(), 2U);
  Write("{\"a\": 7}\n{\"a\": 2}\n");
  const Status changed = Source(path_).Load(state);
  EXPECT_EQ(changed.code(), Code::kFailedPrecondition);
  EXPECT_THAT(changed.message(), HasSubstr("changed"));
  Write("{}");
  EXPECT_EQ(Source(path_).Load(state).code(), Code::kFailedPrecondition);
}

TEST_F(JsonlTest, OtherBytesAreNoPosition) {
  Write("{}\n");
  for (const char* bytes :
       {"", "jsonl 1", "jsonl 1 0 0", "jsonl 1 0 0 x", "jsonl 2 0 0 1", "{}", "jsonl 1 -1 0 1",
        "jsonl 1 99999999999999999999 0 1", "jsonl 1 0 0 1 2"}) {
    EXPECT_EQ(Source(path_).Load(bytes).code(), Code::kDataLoss) << bytes;
  }
}

TEST_F(JsonlTest, MissingFileIsAConfigError) {
  const auto instance = Builtins().Create("source", "jsonl", R"({"path": "/nowhere/a.jsonl"})", {});
  ASSERT_FALSE(instance.ok());
  EXPECT_EQ(instance.status().code(), Code::kNotFound);
  EXPECT_THAT(instance.status().message(),
              AllOf(HasSubstr("/path"), HasSubstr("/nowhere/a.jsonl"), HasSubstr("No such file")));
}

}  // namespace
}  // namespace retort::host
