// Messages: what the ABI's structs hold survives the way, and no byte string makes a reader go
// wrong: cut at every place, and with every byte changed.
// SPDX-License-Identifier: Apache-2.0
#include "host/worker/messages.h"

#include <gtest/gtest.h>

#include <functional>

#include "core/base/plugin_call.h"
#include "core/base/rng.h"
#include "frame_bytes.h"

namespace retort::host {
namespace {

std::vector<retort_sample> TwoSamples() {
  static const int32_t ids[] = {1, 2, 3};
  static const float logp[] = {-1, -2, -3};
  std::vector<retort_sample> samples(2);
  samples[0].prompt = ToStr("question");
  samples[0].completion = ToStr(std::string_view("a\0b", 3));
  samples[0].record = ToStr("{}");
  samples[0].prompt_ids = ids;
  samples[0].n_prompt_ids = 3;
  samples[0].uid = UINT64_MAX;
  samples[0].group = 4;
  samples[1].completion = ToStr("c");
  samples[1].completion_ids = ids;
  samples[1].logp = logp;
  samples[1].n_completion_ids = 3;
  samples[1].group = 5;
  samples[1].index = 2;
  samples[1].finish = RETORT_FINISH_LENGTH;
  return samples;
}

TEST(Messages, SamplesSurvive) {
  const std::vector<retort_sample> samples = TwoSamples();
  FrameWriter out;
  PutSamples({samples.data(), sizeof(retort_sample), 0, 2}, out);
  const AlignedBytes bytes(out.Flatten());
  FrameReader in(bytes.view());
  const std::vector<retort_sample> got = TakeSamples(in);
  ASSERT_TRUE(in.AtEnd());
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(ToView(got[0].prompt), "question");
  EXPECT_EQ(ToView(got[0].completion), std::string_view("a\0b", 3));
  EXPECT_EQ(got[0].gold.ptr, nullptr);
  EXPECT_EQ(got[0].prompt_ids[2], 3);
  EXPECT_EQ(got[0].completion_ids, nullptr);
  EXPECT_EQ(got[0].uid, UINT64_MAX);
  EXPECT_EQ(got[0].group, 0u) << "numbered from the slice's first";
  EXPECT_EQ(got[1].group, 1u);
  EXPECT_EQ(got[1].index, 2u);
  EXPECT_EQ(got[1].logp[1], -2);
  EXPECT_EQ(got[1].finish, RETORT_FINISH_LENGTH);
}

TEST(Messages, AStrideIsWalked) {
  struct Wide {
    retort_sample sample;
    char more[24];
  };
  std::vector<Wide> wide(3);
  for (size_t i = 0; i < 3; ++i) wide[i].sample.uid = i;
  FrameWriter out;
  PutSamples({&wide[0].sample, sizeof(Wide), 1, 2}, out);
  const AlignedBytes bytes(out.Flatten());
  FrameReader in(bytes.view());
  const std::vector<retort_sample> got = TakeSamples(in);
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].uid, 1u);
  EXPECT_EQ(got[1].uid, 2u);
}

// Every reader, over a legal frame of its kind.
struct Reader {
  const char* name;
  std::function<void(FrameWriter&)> put;
  std::function<void(FrameReader&)> take;
};

void PutItems(FrameWriter& out) {
  static const int32_t ids[] = {1, 2, 3};
  PutInfo(1, ToStr("{}"), out);
  PutMetric("name", 1, 2, out);
  retort_decision decision{};
  decision.reason = ToStr("why");
  PutDecision(0, decision, out);
  retort_record record{};
  record.json = ToStr("{\"a\":1}");
  PutRecord(record, out);
  retort_event event{};
  event.ids = ids;
  event.n_ids = 3;
  event.text = ToStr("t");
  PutEvent(event, out);
}

void PutFilter(FrameWriter& out) {
  static const std::vector<retort_sample> samples = TwoSamples();
  static const retort_group groups[] = {{0, 1, 7}, {1, 1, 8}};
  static const char* const names[] = {"first", "second"};
  static const double numbers[] = {1, 2, 3, 4};
  static const uint8_t statuses[] = {0, 1, 2, 3};
  static const int64_t first_equal[] = {0, -1};
  static const retort_str info[4] = {};
  retort_filter_args args{};
  args.sample_stride = sizeof(retort_sample);
  args.group_stride = sizeof(retort_group);
  args.samples = samples.data();
  args.n_samples = 2;
  args.groups = groups;
  args.n_groups = 2;
  args.reward_names = names;
  args.n_rewards = 2;
  args.reward_weights = numbers;
  args.scores = numbers;
  args.score_status = statuses;
  args.first_equal = first_equal;
  args.info = info;
  PutFilterArgs(args, {0, 2}, out);
}

std::vector<Reader> Readers() {
  static const std::vector<retort_sample> samples = TwoSamples();
  static const retort_request request = {3, ToStr("[]"), ToStr("{}"), samples[0].prompt_ids, 3, 1};
  return {
      {"samples",
       [](FrameWriter& out) {
         PutSamples({samples.data(), sizeof(retort_sample), 0, 2}, out);
       },
       [](FrameReader& in) {
         for (const retort_sample& s : TakeSamples(in)) {
           for (uint32_t i = 0; s.logp != nullptr && i < s.n_completion_ids; ++i) {
             EXPECT_TRUE(s.logp[i] <= 0 || s.logp[i] > 0 || s.logp[i] != s.logp[i]);
           }
         }
       }},
      {"filter", PutFilter,
       [](FrameReader& in) {
         FilterArgs args;
         TakeFilterArgs(in, &args);
         if (!in.ok()) return;
         for (const retort_group& group : args.groups) {
           EXPECT_LE(group.first + group.n, args.samples.size());
         }
       }},
      {"requests", [](FrameWriter& out) { PutRequests(&request, sizeof request, 1, out); },
       [](FrameReader& in) { TakeRequests(in); }},
      {"items", PutItems,
       [](FrameReader& in) {
         while (in.ok() && in.remaining() > 0) TakeItem(in);
       }},
      {"create",
       [](FrameWriter& out) {
         PutCreate({.path = "/x",
                    .sha256 = "",
                    .kind = "reward",
                    .id = "y",
                    .config = "{}",
                    .host_name = "",
                    .host_version = ""},
                   out);
       },
       [](FrameReader& in) { TakeCreate(in); }},
      {"facts", [](FrameWriter& out) { PutFacts({}, out); },
       [](FrameReader& in) { TakeFacts(in); }},
      {"call", [](FrameWriter& out) { PutCall({}, out); }, [](FrameReader& in) { TakeCall(in); }},
  };
}

TEST(MessagesHostile, LegalFramesAreReadToTheirEnd) {
  for (const Reader& reader : Readers()) {
    FrameWriter out;
    reader.put(out);
    const AlignedBytes bytes(out.Flatten());
    FrameReader in(bytes.view());
    reader.take(in);
    EXPECT_TRUE(in.AtEnd()) << reader.name;
  }
}

TEST(MessagesHostile, ACutAnywhereIsNoticed) {
  for (const Reader& reader : Readers()) {
    FrameWriter out;
    reader.put(out);
    const std::string whole = out.Flatten();
    for (size_t n = 0; n < whole.size(); n += 8) {
      if (std::string_view(reader.name) == "items") break;  // a shorter list is a list
      const AlignedBytes bytes(whole.substr(0, n));
      FrameReader in(bytes.view());
      reader.take(in);
      EXPECT_FALSE(in.ok()) << reader.name << " cut at " << n;
    }
  }
}

// The sanitizers and the exact copy of the bytes are what fails here.
TEST(MessagesHostile, NoByteMakesAReaderGoWrong) {
  for (const Reader& reader : Readers()) {
    FrameWriter out;
    reader.put(out);
    const std::string whole = out.Flatten();
    for (size_t at = 0; at < whole.size(); ++at) {
      for (const int value : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
        std::string changed = whole;
        changed[at] = static_cast<char>(value);
        const AlignedBytes bytes(changed);
        FrameReader in(bytes.view());
        reader.take(in);
      }
    }
  }
}

TEST(MessagesHostile, RandomBytesAreReadToNoHarm) {
  Rng rng({17, 4});
  for (int round = 0; round < 20'000; ++round) {
    std::string noise(8 * (rng.Below(40)), '\0');
    for (char& c : noise) c = static_cast<char>(rng.Below(4) == 0 ? rng.Below(256) : rng.Below(3));
    for (const Reader& reader : Readers()) {
      const AlignedBytes bytes(noise);
      FrameReader in(bytes.view());
      reader.take(in);
    }
  }
}

}  // namespace
}  // namespace retort::host
