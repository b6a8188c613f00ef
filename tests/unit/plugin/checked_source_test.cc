// The checked wrapper around sources.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/unit/plugin/table_fixture.h"

namespace retort::host {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

using On = std::function<void(uint64_t uid, const std::string& json, retort_status status,
                              const std::string& origin)>;
// What the plugin's next does: gives records through `on` and returns the end.
std::function<int32_t(const On& on)> the_next;

retort_status Next(retort_instance*, const retort_call*, uint64_t, void* ctx,
                   void (*on)(void*, const retort_record*), int32_t* end) {
  *end = the_next(
      [&](uint64_t uid, const std::string& json, retort_status status, const std::string& origin) {
        const retort_record record = {sizeof(record), status, uid, ToStr(json), ToStr(origin)};
        on(ctx, &record);
      });
  return RETORT_OK;
}

class Source {
 public:
  Source() {
    table_.struct_size = sizeof(table_);
    table_.next = Next;
    table_.save = [](retort_instance*, const retort_call*, const retort_sink*) {
      return retort_status{RETORT_OK};
    };
    table_.load = [](retort_instance*, const retort_call*, const retort_reader*) {
      return retort_status{RETORT_OK};
    };
    source_ = WrapOne(RETORT_SOURCE_INTERFACE, &table_, "source").value();
  }

  // Records come as "uid/status/json/origin".
  Status Ask(uint64_t max_n, std::function<int32_t(const On&)> next) {
    the_next = std::move(next);
    got.clear();
    const auto on = [](void* ctx, const retort_record* r) {
      static_cast<Source*>(ctx)->got.push_back(
          std::to_string(r->uid) + "/" + std::to_string(r->status) + "/" +
          std::string(ToView(r->json)) + "/" + std::string(ToView(r->origin)));
    };
    return call_.End(
        source_->out.source.next(source_->handle(), call_.Begin(), max_n, this, on, &end), "next");
  }
  void Load() {
    const retort_reader reader = {nullptr, [](void*, void*, uint64_t) { return int64_t{0}; }};
    EXPECT_EQ(source_->out.source.load(source_->handle(), call_.Begin(), &reader), RETORT_OK);
  }

  std::vector<std::string> got;
  int32_t end = -1;

 private:
  retort_source_v1 table_{};
  std::unique_ptr<CheckedInstance> source_;
  PluginCall call_{"source x"};
};

TEST(CheckedSource, GoodRecordsPass) {
  Source source;
  const Status status = source.Ask(3, [](const On& on) {
    on(1, R"({"a": 1})", RETORT_OK, "f:1");
    on(2, "not json", RETORT_DATA_LOSS, "f:2: bad");
    return 0;
  });
  ASSERT_TRUE(status.ok()) << status.ToString();
  EXPECT_THAT(source.got, ElementsAre(R"(1/0/{"a": 1}/f:1)", "2/15/not json/f:2: bad"));
  EXPECT_EQ(source.end, 0);
  EXPECT_TRUE(source.Ask(3, [](const On&) { return 1; }).ok());
  EXPECT_EQ(source.end, 1);
  EXPECT_TRUE(source.Ask(3, [](const On&) { return 1; }).ok());
}

TEST(CheckedSource, BadRecordsArePassedOnAsFailed) {
  Source source;
  const Status status = source.Ask(9, [](const On& on) {
    on(1, "[1]", RETORT_OK, "f:1");
    on(2, R"({"a": )", RETORT_OK, "f:2");
    on(3, R"({"a": 1, "a": 2})", RETORT_OK, "f:3");
    on(4, "{}", 99, "f:4");
    return 0;
  });
  ASSERT_TRUE(status.ok()) << status.ToString();
  EXPECT_THAT(source.got, ElementsAre(AllOf(HasSubstr("1/3/"), HasSubstr("not a JSON object")),
                                      AllOf(HasSubstr("2/3/"), HasSubstr("f:2: record")),
                                      AllOf(HasSubstr("3/3/"), HasSubstr("\"a\"")),
                                      AllOf(HasSubstr("4/2/"), HasSubstr("status 99"))));
}

TEST(CheckedSource, MoreThanAskedForFails) {
  Source source;
  const Status status = source.Ask(1, [](const On& on) {
    on(1, "{}", RETORT_OK, "");
    on(2, "{}", RETORT_OK, "");
    return 0;
  });
  EXPECT_THAT(status.message(), HasSubstr("more records came than the 1"));
  EXPECT_EQ(source.got.size(), 1U);
}

TEST(CheckedSource, RepeatedUidFailsUntilAPositionIsLoaded) {
  Source source;
  const auto one = [](const On& on) {
    on(7, "{}", RETORT_OK, "f:9");
    return 0;
  };
  EXPECT_TRUE(source.Ask(1, one).ok());
  EXPECT_THAT(source.Ask(1, one).message(), AllOf(HasSubstr("uid 7 came twice"), HasSubstr("f:9")));
  source.Load();
  EXPECT_TRUE(source.Ask(1, one).ok());
}

TEST(CheckedSource, UidsFarApartAreForgotten) {
  Source source;
  uint64_t uid = 0;
  const auto many = [&uid](const On& on) {
    for (int i = 0; i < 70'000; ++i) on(uid++, "{}", RETORT_OK, "");
    return 0;
  };
  ASSERT_TRUE(source.Ask(70'000, many).ok());
  EXPECT_FALSE(source
                   .Ask(1,
                        [](const On& on) {
                          on(69'000, "{}", RETORT_OK, "");
                          return 0;
                        })
                   .ok());
}

TEST(CheckedSource, EndMustBeTrue) {
  Source source;
  EXPECT_THAT(source.Ask(1, [](const On&) { return 0; }).message(), HasSubstr("neither"));
  EXPECT_THAT(source.Ask(1, [](const On&) { return 2; }).message(), HasSubstr("0 or 1"));
  EXPECT_TRUE(source.Ask(1, [](const On&) { return 1; }).ok());
  EXPECT_THAT(source
                  .Ask(1,
                       [](const On& on) {
                         on(1, "{}", RETORT_OK, "");
                         return 1;
                       })
                  .message(),
              HasSubstr("after the end"));
  EXPECT_THAT(source.Ask(1, [](const On&) { return 0; }).message(), HasSubstr("there is more"));
}

TEST(CheckedSource, SmallRecordFails) {
  Source source;
  the_next = nullptr;
  retort_source_v1 table{};
  table.struct_size = sizeof(table);
  table.next = [](retort_instance*, const retort_call*, uint64_t, void* ctx,
                  void (*on)(void*, const retort_record*), int32_t*) {
    const retort_record record = {8, RETORT_OK, 1, {"{}", 2}, {nullptr, 0}};
    on(ctx, &record);
    return retort_status{RETORT_OK};
  };
  table.save = [](retort_instance*, const retort_call*, const retort_sink*) {
    return retort_status{RETORT_OK};
  };
  table.load = [](retort_instance*, const retort_call*, const retort_reader*) {
    return retort_status{RETORT_OK};
  };
  const auto wrapped = WrapOne(RETORT_SOURCE_INTERFACE, &table, "source").value();
  int32_t end = 0;
  PluginCall call("source x");
  const Status status = call.End(
      wrapped->out.source.next(
          wrapped->handle(), call.Begin(), 1, nullptr, [](void*, const retort_record*) {}, &end),
      "next");
  EXPECT_THAT(status.message(), HasSubstr("struct_size 8"));
}

}  // namespace
}  // namespace retort::host
