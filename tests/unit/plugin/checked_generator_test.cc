// The checked wrapper around generators.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "retort/abi/reward.h"
#include "tests/unit/plugin/table_fixture.h"

namespace retort::host {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using On = std::function<void(const retort_event&)>;
std::function<void(const On&)> the_poll;
uint64_t the_taken = 0;

retort_event Event(uint32_t kind, uint64_t uid, uint32_t sample, std::string_view text) {
  retort_event e{};
  e.struct_size = sizeof(e);
  e.kind = kind;
  e.uid = uid;
  e.sample = sample;
  e.text = ToStr(text);
  return e;
}

class Generator {
 public:
  Generator() {
    table_.struct_size = sizeof(table_);
    table_.submit = [](retort_instance*, const retort_call*, const retort_request*, uint64_t,
                       uint64_t, uint64_t* taken) {
      *taken = the_taken;
      return retort_status{RETORT_OK};
    };
    table_.poll = [](retort_instance*, const retort_call*, void* ctx,
                     void (*on)(void*, const retort_event*)) {
      the_poll([&](const retort_event& e) { on(ctx, &e); });
      return retort_status{RETORT_OK};
    };
    table_.cancel = [](retort_instance*, const retort_call*, uint64_t) {
      return retort_status{RETORT_OK};
    };
    generator_ = WrapOne(RETORT_GENERATOR_INTERFACE, &table_, "generator").value();
  }

  // Requests of these uids with `n_samples` each; the plugin says that it took `taken`.
  Status Submit(const std::vector<uint64_t>& uids, uint32_t n_samples, uint64_t taken) {
    the_taken = taken;
    std::vector<retort_request> requests;
    for (const uint64_t uid : uids) {
      requests.push_back({uid, {"[]", 2}, {"{}", 2}, nullptr, 0, n_samples});
    }
    return call_.End(
        generator_->out.generator.submit(generator_->handle(), call_.Begin(), requests.data(),
                                         sizeof(retort_request), requests.size(), &n_taken),
        "submit");
  }
  Status Poll(std::function<void(const On&)> poll) {
    the_poll = std::move(poll);
    got.clear();
    const auto on = [](void* ctx, const retort_event* e) {
      static_cast<Generator*>(ctx)->got.push_back(std::to_string(e->uid) + "." +
                                                  std::to_string(e->sample) + ":" +
                                                  std::string(ToView(e->text)));
    };
    return call_.End(generator_->out.generator.poll(generator_->handle(), call_.Begin(), this, on),
                     "poll");
  }
  Status PollOne(const retort_event& event) {
    return Poll([&](const On& on) { on(event); });
  }
  void Cancel(uint64_t uid) {
    EXPECT_EQ(generator_->out.generator.cancel(generator_->handle(), call_.Begin(), uid),
              RETORT_OK);
  }

  uint64_t n_taken = 99;
  std::vector<std::string> got;

 private:
  retort_generator_v1 table_{};
  std::unique_ptr<CheckedInstance> generator_;
  PluginCall call_{"generator x"};
};

// The complaint about one event of a fresh request 5 with 2 samples.
std::string ErrorOf(const retort_event& event) {
  Generator g;
  EXPECT_TRUE(g.Submit({5}, 2, 1).ok());
  const Status status = g.PollOne(event);
  EXPECT_FALSE(status.ok());
  EXPECT_TRUE(g.got.empty());
  return status.message();
}

TEST(CheckedGenerator, WholeLifePasses) {
  Generator g;
  ASSERT_TRUE(g.Submit({5, 6}, 2, 1).ok());
  EXPECT_EQ(g.n_taken, 1U);
  const Status status = g.Poll([](const On& on) {
    on(Event(RETORT_EVENT_DELTA, 5, 1, "he"));
    on(Event(RETORT_EVENT_DELTA, 5, 1, "l"));
    on(Event(RETORT_EVENT_DONE, 5, 1, "hello"));
    on(Event(RETORT_EVENT_DONE, 5, 0, ""));
  });
  ASSERT_TRUE(status.ok()) << status.ToString();
  EXPECT_THAT(g.got, ElementsAre("5.1:he", "5.1:l", "5.1:hello", "5.0:"));
  // Ended, so the uid may come again, and events of it before that are wrong.
  EXPECT_THAT(g.PollOne(Event(RETORT_EVENT_DONE, 5, 0, "")).message(), HasSubstr("under way"));
  EXPECT_TRUE(g.Submit({5}, 1, 1).ok());
}

TEST(CheckedGenerator, ErrorEndsTheRequest) {
  Generator g;
  ASSERT_TRUE(g.Submit({5}, 2, 1).ok());
  retort_event error = Event(RETORT_EVENT_ERROR, 5, 0, "quota");
  error.status = RETORT_RESOURCE_EXHAUSTED;
  EXPECT_TRUE(g.PollOne(error).ok());
  EXPECT_FALSE(g.PollOne(Event(RETORT_EVENT_DONE, 5, 0, "")).ok());
}

TEST(CheckedGenerator, EventsOfNobody) {
  EXPECT_THAT(ErrorOf(Event(RETORT_EVENT_DONE, 4, 0, "")), HasSubstr("request 4, sample 0"));
  EXPECT_THAT(ErrorOf(Event(RETORT_EVENT_DONE, 5, 2, "")), HasSubstr("has 2 samples"));
  EXPECT_THAT(ErrorOf(Event(3, 5, 0, "")), HasSubstr("kind 3"));
  Generator g;
  ASSERT_TRUE(g.Submit({5}, 1, 1).ok());
  g.Cancel(5);
  EXPECT_FALSE(g.PollOne(Event(RETORT_EVENT_DONE, 5, 0, "")).ok());
}

TEST(CheckedGenerator, DoneTwice) {
  Generator g;
  ASSERT_TRUE(g.Submit({5}, 2, 1).ok());
  EXPECT_TRUE(g.PollOne(Event(RETORT_EVENT_DONE, 5, 0, "a")).ok());
  EXPECT_THAT(g.PollOne(Event(RETORT_EVENT_DONE, 5, 0, "a")).message(), HasSubstr("done already"));
}

TEST(CheckedGenerator, TextsMustContinue) {
  Generator g;
  ASSERT_TRUE(g.Submit({5}, 2, 1).ok());
  const Status status = g.Poll([](const On& on) {
    on(Event(RETORT_EVENT_DELTA, 5, 0, "ab"));
    on(Event(RETORT_EVENT_DONE, 5, 0, "axx"));
  });
  EXPECT_THAT(status.message(), HasSubstr("doesn't begin with"));
  ASSERT_TRUE(g.Submit({5}, 1, 1).ok());  // the failed poll ended it
  EXPECT_THAT(g.Poll([](const On& on) {
                 on(Event(RETORT_EVENT_DELTA, 5, 0, "ab"));
                 on(Event(RETORT_EVENT_DONE, 5, 0, "a"));
               }).message(),
              HasSubstr("doesn't begin with"));
}

TEST(CheckedGenerator, MembersThatDoNotFit) {
  retort_event e = Event(RETORT_EVENT_DONE, 5, 0, "a");
  e.finish = 4;
  EXPECT_THAT(ErrorOf(e), HasSubstr("finish 4"));
  e = Event(RETORT_EVENT_DONE, 5, 0, "a");
  e.n_ids = 3;
  EXPECT_THAT(ErrorOf(e), HasSubstr("n_ids without ids"));
  e = Event(RETORT_EVENT_DONE, 5, 0, "a");
  e.info = ToStr("[1]");
  EXPECT_THAT(ErrorOf(e), HasSubstr("not a JSON object"));
  e = Event(RETORT_EVENT_ERROR, 5, 0, "a");
  EXPECT_THAT(ErrorOf(e), HasSubstr("status 0"));
  e.status = RETORT_UNAVAILABLE;
  e.retry_after_ns = -1;
  EXPECT_THAT(ErrorOf(e), HasSubstr("retry_after_ns"));
  e = Event(RETORT_EVENT_DONE, 5, 0, "a");
  e.struct_size = 8;
  EXPECT_THAT(ErrorOf(e), HasSubstr("struct_size 8"));
}

TEST(CheckedGenerator, IdsAndLogp) {
  const int32_t ids[] = {3, 4};
  float logp[] = {-1, 0};
  retort_event e = Event(RETORT_EVENT_DONE, 5, 0, "a");
  e.logp = logp;
  EXPECT_THAT(ErrorOf(e), HasSubstr("logp without ids"));
  e.ids = ids;
  e.n_ids = 2;
  Generator g;
  ASSERT_TRUE(g.Submit({5}, 2, 1).ok());
  EXPECT_TRUE(g.PollOne(e).ok());
  logp[1] = 0.5F;
  EXPECT_THAT(ErrorOf(e), HasSubstr("logp 1 is 0.5"));
  logp[1] = -INFINITY;
  EXPECT_THAT(ErrorOf(e), HasSubstr("logp 1 is -inf"));
  logp[1] = 0;
  e.top_k = 2;
  EXPECT_THAT(ErrorOf(e), HasSubstr("together or not at all"));
  const int32_t negative[] = {3, -4};
  e.top_k = 0;
  e.ids = negative;
  EXPECT_THAT(ErrorOf(e), HasSubstr("id 1 is negative"));
}

TEST(CheckedGenerator, SubmitTakesWhatThereIs) {
  Generator g;
  EXPECT_THAT(g.Submit({5, 6}, 1, 3).message(), HasSubstr("took 3 of 2"));
  EXPECT_THAT(g.Submit({5, 6}, 1, 0).message(), HasSubstr("no request though none"));
  EXPECT_EQ(g.n_taken, 0U);
  EXPECT_TRUE(g.Submit({5, 6}, 1, 1).ok());
  EXPECT_TRUE(g.Submit({6}, 1, 0).ok()) << "full";
  EXPECT_EQ(g.Submit({5}, 1, 1).code(), Code::kAlreadyExists);
  EXPECT_EQ(g.Submit({8, 8}, 1, 2).code(), Code::kAlreadyExists);
  EXPECT_EQ(g.Submit({9}, 0, 1).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace retort::host
