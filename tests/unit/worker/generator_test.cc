// Generators in a worker: events travel, and what died with a worker is reported as lost.
// SPDX-License-Identifier: Apache-2.0
#include <map>

#include "retort/abi/draft/generator.h"
#include "worker_fixture.h"

namespace retort::host {
namespace {

using testing::HasSubstr;

class WorkerGenerator : public WorkerTest {
 protected:
  struct Event {
    uint32_t kind = 0;
    std::string text;
    retort_status status = 0;
    std::vector<int32_t> ids;
    std::vector<float> logp;
  };
  const retort_generator_v1& Table() {
    return *static_cast<const retort_generator_v1*>(
        generator_.interface(RETORT_GENERATOR_INTERFACE));
  }
  uint64_t Submit(const std::vector<std::string>& texts) {
    std::vector<retort_request> requests(texts.size());
    for (size_t i = 0; i < texts.size(); ++i) {
      requests[i].uid = ++last_uid_;
      requests[i].messages_json = ToStr(texts[i]);
      requests[i].params_json = ToStr("{}");
      requests[i].n_samples = 1;
    }
    uint64_t n_taken = 0;
    PluginCall call("generator mirror", Sinks());
    EXPECT_EQ(Table().submit(generator_.get(), call.Begin(), requests.data(),
                             sizeof(retort_request), requests.size(), &n_taken),
              RETORT_OK);
    return n_taken;
  }
  Status Poll() {
    PluginCall call("generator mirror", Sinks());
    const auto on = [](void* ctx, const retort_event* e) {
      Event& event = static_cast<WorkerGenerator*>(ctx)->events_[e->uid];
      event.kind = e->kind;
      event.text = ToView(e->text);
      event.status = e->status;
      if (e->ids != nullptr) event.ids.assign(e->ids, e->ids + e->n_ids);
      if (e->logp != nullptr) event.logp.assign(e->logp, e->logp + e->n_ids);
    };
    return call.End(Table().poll(generator_.get(), call.Begin(), this, on), "poll");
  }

  PluginInstance generator_ = Make("generator", "mirror");
  std::map<uint64_t, Event> events_;
  uint64_t last_uid_ = 0;
};

TEST_F(WorkerGenerator, EventsTravelWithIds) {
  EXPECT_EQ(Submit({"a", "b"}), 2u);
  ASSERT_TRUE(Poll().ok());
  ASSERT_TRUE(Poll().ok());
  ASSERT_EQ(events_.size(), 2u);
  EXPECT_EQ(events_[1].text, "echo");
  EXPECT_EQ(events_[1].ids, (std::vector<int32_t>{4, 5}));
  EXPECT_EQ(events_[1].logp, (std::vector<float>{-0.5f, -0.25f}));
}

TEST_F(WorkerGenerator, ItsQueueMayBeShorterThanWhatIsSubmitted) {
  EXPECT_EQ(Submit(std::vector<std::string>(70, "a")), 64u);
}

TEST_F(WorkerGenerator, WhatDiesWithTheWorkerIsLostAndMayComeAgain) {
  Submit({"a", "b", "crash"});
  ASSERT_TRUE(Poll().ok());
  ASSERT_EQ(events_.size(), 3u);
  for (const auto& [uid, event] : events_) {
    EXPECT_EQ(event.kind, RETORT_EVENT_ERROR);
    EXPECT_EQ(event.status, RETORT_UNAVAILABLE);
    EXPECT_THAT(event.text, HasSubstr("signal 11"));
  }
  events_.clear();
  Submit({"again"});
  ASSERT_TRUE(Poll().ok());
  EXPECT_EQ(events_[4].kind, RETORT_EVENT_DONE);
}

TEST_F(WorkerGenerator, ACancelledRequestHasNoEvents) {
  Submit({"a", "b"});
  PluginCall call("generator mirror");
  EXPECT_EQ(Table().cancel(generator_.get(), call.Begin(), 2), RETORT_OK);
  EXPECT_EQ(Table().cancel(generator_.get(), call.Begin(), 77), RETORT_OK);
  ASSERT_TRUE(Poll().ok());
  ASSERT_TRUE(Poll().ok());
  EXPECT_EQ(events_.size(), 1u);
}

TEST_F(WorkerGenerator, APluginThatAlwaysDiesIsOut) {
  for (int i = 0; i < 3; ++i) {
    Submit({"crash"});
    ASSERT_TRUE(Poll().ok());
  }
  EXPECT_EQ(events_.size(), 3u);
  EXPECT_THAT(Poll().message(), HasSubstr("is out"));
}

}  // namespace
}  // namespace retort::host
