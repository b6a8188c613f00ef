// Sources in a worker: each record once and in order, also when the worker dies on the way.
// SPDX-License-Identifier: Apache-2.0
#include "retort/abi/draft/source.h"
#include "worker_fixture.h"

namespace retort::host {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class WorkerSource : public WorkerTest {
 protected:
  struct Read {
    Status status;
    std::vector<int> uids;
    int32_t end = 0;
  };
  const retort_source_v1& Table(const PluginInstance& source) {
    return *static_cast<const retort_source_v1*>(source.interface(RETORT_SOURCE_INTERFACE));
  }
  Read Next(const PluginInstance& source, uint64_t n) {
    Read read;
    PluginCall call(source.name(), Sinks());
    const auto on = [](void* ctx, const retort_record* record) {
      static_cast<std::vector<int>*>(ctx)->push_back(static_cast<int>(record->uid));
    };
    read.status = call.End(
        Table(source).next(source.get(), call.Begin(), n, &read.uids, on, &read.end), "next");
    return read;
  }
  std::string Save(const PluginInstance& source) {
    std::string state;
    const retort_sink sink = {&state, [](void* ctx, const void* data, uint64_t n) -> int64_t {
                                static_cast<std::string*>(ctx)->append(
                                    static_cast<const char*>(data), n);
                                return static_cast<int64_t>(n);
                              }};
    PluginCall call(source.name());
    EXPECT_EQ(Table(source).save(source.get(), call.Begin(), &sink), RETORT_OK);
    return state;
  }
  retort_status Load(const PluginInstance& source, std::string_view state) {
    const retort_reader reader = {&state, [](void* ctx, void* data, uint64_t n) -> int64_t {
                                    auto& bytes = *static_cast<std::string_view*>(ctx);
                                    const size_t given = bytes.copy(static_cast<char*>(data), n);
                                    bytes.remove_prefix(given);
                                    return static_cast<int64_t>(given);
                                  }};
    PluginCall call(source.name());
    return Table(source).load(source.get(), call.Begin(), &reader);
  }
};

TEST_F(WorkerSource, RecordsComeInOrderToTheEnd) {
  const PluginInstance source = Make("source", "counter");
  EXPECT_THAT(Next(source, 4).uids, ElementsAre(100, 101, 102, 103));
  const Read rest = Next(source, 100);
  EXPECT_THAT(rest.uids, ElementsAre(104, 105, 106, 107, 108, 109));
  EXPECT_EQ(rest.end, 1);
}

TEST_F(WorkerSource, ADeathOnTheWayLosesAndRepeatsNothing) {
  const std::string marker = Fresh("source");
  const PluginInstance source =
      Make("source", "counter", Options(), R"({"deed": "once:)" + marker + "\"}");
  EXPECT_THAT(Next(source, 4).uids, ElementsAre(100, 101, 102, 103));
  const Read second = Next(source, 3);
  ASSERT_TRUE(second.status.ok()) << second.status.ToString();
  EXPECT_THAT(second.uids, ElementsAre(104, 105, 106));
  EXPECT_TRUE(std::filesystem::exists(marker)) << "it did crash";
  std::filesystem::remove(marker);
}

TEST_F(WorkerSource, ARecordThatAlwaysKillsEndsTheReading) {
  const PluginInstance source = Make("source", "counter", Options(), R"({"deed": "crash"})");
  EXPECT_TRUE(Next(source, 5).status.ok());
  const Read second = Next(source, 3);
  EXPECT_EQ(second.status.code(), Code::kUnavailable);
  EXPECT_THAT(second.status.message(), HasSubstr("signal 11"));
  EXPECT_TRUE(second.uids.empty()) << "a call is given whole or not at all";
}

TEST_F(WorkerSource, PositionsAreSavedAndLoaded) {
  const PluginInstance one = Make("source", "counter"), two = Make("source", "counter");
  EXPECT_EQ(Save(one), std::string(8, '\0'));
  Next(one, 7);
  ASSERT_EQ(Load(two, Save(one)), RETORT_OK);
  EXPECT_THAT(Next(two, 2).uids, ElementsAre(107, 108));
  EXPECT_EQ(Load(two, "cut"), RETORT_DATA_LOSS);
}

}  // namespace
}  // namespace retort::host
