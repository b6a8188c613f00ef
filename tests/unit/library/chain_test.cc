// Chains: tables against lines, groups, what is refused.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "tests/unit/library/host_api.h"

namespace retort::host {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kLines =
    "{\"prompt\":\"2+2?\",\"completion\":\"It is 4.\",\"answer\":\"4\"}\n"
    "{\"prompt\":\"3+3?\",\"completion\":\"It is 7.\",\"answer\":\"6\"}\n"
    "{\"prompt\":\"?\",\"completion\":\"No idea\"}\n";

std::vector<retort_sample> SameSamples() {
  return {Sample("2+2?", "It is 4.", R"({"answer": "4"})", 0),
          Sample("3+3?", "It is 7.", R"({"answer": "6"})", 1), Sample("?", "No idea", nullptr, 2)};
}

TEST(RewardHandle, TableAndLinesSayTheSame) {
  const Context context = NewContext();
  const RewardHandle chain =
      NewRewards(context, R"([{"plugin": "number_match", "name": "right", "weight": 2}])");
  const std::vector<retort_sample> samples = SameSamples();
  auto table = Sized<retort_score_table>();
  EXPECT_RETORT_OK(context, retort_reward_chain_score(chain.get(), samples.data(),
                                                      sizeof(retort_sample), 3, &table));
  ASSERT_EQ(table.n_samples, 3u);
  ASSERT_EQ(table.n_rewards, 1u);
  EXPECT_EQ(Text(table.names[0]), "right");
  EXPECT_EQ(table.weights[0], 2);
  EXPECT_THAT(std::vector<uint8_t>(table.status, table.status + 3),
              ElementsAre(RETORT_SCORE_OK, RETORT_SCORE_OK, RETORT_SCORE_NOT_APPLICABLE));
  EXPECT_EQ(table.reward[0], 2);
  EXPECT_EQ(table.reward[1], 0);
  EXPECT_TRUE(std::isnan(table.reward[2]));

  Given in{kLines};
  Collected out;
  const retort_reader reader = in.reader();
  const retort_sink sink = out.sink();
  EXPECT_RETORT_OK(context, retort_reward_chain_score_lines(chain.get(), &reader, &sink));
  const std::vector<std::string> lines = out.Lines();
  ASSERT_EQ(lines.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    const json::Document line = json::Document::Parse(lines[i], "line").value();
    EXPECT_EQ(line.root()["reward"].DoubleOr(-1), i == 2 ? -1 : table.reward[i]) << lines[i];
  }
  EXPECT_RETORT_OK(context, retort_reward_chain_finish(chain.get()));
}

TEST(RewardHandle, GoldStandsForTheRecordsAnswer) {
  const Context context = NewContext();
  const RewardHandle chain = NewRewards(context, "number_match");
  std::vector<retort_sample> samples = {Sample("q", "It is 4.", R"({"answer": "5"})", 0),
                                        Sample("q", "It is 4.", nullptr, 1)};
  for (retort_sample& sample : samples) sample.gold = retort_text("4");
  auto table = Sized<retort_score_table>();
  EXPECT_RETORT_OK(context, retort_reward_chain_score(chain.get(), samples.data(),
                                                      sizeof(retort_sample), 2, &table));
  EXPECT_THAT(std::vector<double>(table.scores, table.scores + 2), ElementsAre(1, 1));
}

TEST(RewardHandle, GroupsAreByRecordOrElseByNumber) {
  const Context context = NewContext();
  const RewardHandle chain = NewRewards(context, "number_match");  // it has answer classes
  std::vector<retort_sample> samples = {
      Sample("q", "It is 4.", nullptr, 0), Sample("q", "It is 5.", nullptr, 0),
      Sample("q", "So 4.", nullptr, 0), Sample("q", "So 4.", nullptr, 1)};
  auto table = Sized<retort_score_table>();
  EXPECT_RETORT_OK(context, retort_reward_chain_score(chain.get(), samples.data(),
                                                      sizeof(retort_sample), 4, &table));
  ASSERT_NE(table.first_equal, nullptr);
  EXPECT_THAT(std::vector<int64_t>(table.first_equal, table.first_equal + 4),
              ElementsAre(0, 1, 0, 0));
}

TEST(RewardHandle, WrongSamplesNameThePlace) {
  const Context context = NewContext();
  const RewardHandle chain = NewRewards(context, "number_match");
  auto table = Sized<retort_score_table>();
  const auto score = [&](retort_sample sample, uint32_t stride = sizeof(retort_sample)) {
    const retort_sample both[] = {Sample("p", "c", nullptr, 0), sample};
    const retort_status status = retort_reward_chain_score(chain.get(), both, stride, 2, &table);
    return std::to_string(status) + " " + ErrorOf(context);
  };
  EXPECT_THAT(score(Sample("p", "c", "[1]", 0)), HasSubstr("3 samples[1].record: must be"));
  EXPECT_THAT(score(Sample("p", "c", "{", 0)), HasSubstr("3 samples[1].record"));
  EXPECT_THAT(score(Sample("p", "\xC3", nullptr, 0)), HasSubstr("samples[1].completion: is not"));
  EXPECT_THAT(score(Sample("p", "c", nullptr, 0), 16), HasSubstr("stride of 16"));
  retort_sample odd = Sample("p", "c", nullptr, 0);
  odd.finish = 9;
  EXPECT_THAT(score(odd), HasSubstr("12 samples[1].finish"));
  odd.finish = 0;
  odd.n_prompt_ids = 4;
  EXPECT_THAT(score(odd), HasSubstr("NULL ids"));
  EXPECT_EQ(retort_reward_chain_score(chain.get(), nullptr, sizeof(retort_sample), 1, &table),
            RETORT_INVALID_ARGUMENT);
  EXPECT_RETORT_OK(context, retort_reward_chain_score(chain.get(), nullptr, 0, 0, &table));
  EXPECT_EQ(table.n_samples, 0u);
}

TEST(RewardHandle, WrongEntriesAreRefused) {
  const Context context = NewContext();
  const auto create = [&](const char* entries) {
    auto options = Sized<retort_chain_options>();
    options.entries = retort_text(entries);
    retort_reward_chain* out = nullptr;
    const retort_status status = retort_reward_chain_create(context.get(), &options, &out);
    EXPECT_EQ(out, nullptr);
    return std::string(retort_status_name(status)) + " " + ErrorOf(context);
  };
  EXPECT_THAT(create(""), HasSubstr("INVALID_ARGUMENT retort_chain_options.entries"));
  EXPECT_THAT(create("[{"), HasSubstr("INVALID_ARGUMENT entries:1:"));
  EXPECT_THAT(create("number_mach"), HasSubstr("NOT_FOUND"));
  EXPECT_THAT(create(R"({"plugin": "number_match", "wieght": 1})"), HasSubstr("weight"));
  EXPECT_THAT(create(R"(number_match:{"nope": 1})"), HasSubstr("nope"));
}

TEST(RewardHandle, ATokenizerOfAnotherContextIsRefused) {
  const Context context = NewContext(), other = NewContext();
  const Model model = OpenModel(other, Fixture("llama"));
  auto options = Sized<retort_chain_options>();
  options.entries = retort_text("number_match");
  options.tokenizer = model.get();
  retort_reward_chain* out = nullptr;
  EXPECT_EQ(retort_reward_chain_create(context.get(), &options, &out), RETORT_INVALID_ARGUMENT);
  EXPECT_THAT(ErrorOf(context), HasSubstr("another context"));
}

TEST(RewardHandle, AFailingSinkOrReaderEndsTheCall) {
  const Context context = NewContext();
  const RewardHandle chain = NewRewards(context, "number_match");
  Given in{kLines};
  Collected out;
  retort_reader reader = in.reader();
  retort_sink sink = out.sink();
  sink.write = [](void*, const void*, uint64_t) -> int64_t { return -1; };
  EXPECT_EQ(retort_reward_chain_score_lines(chain.get(), &reader, &sink), RETORT_ABORTED);
  EXPECT_THAT(ErrorOf(context), HasSubstr("sink"));
  sink = out.sink();
  reader.read = [](void*, void*, uint64_t) -> int64_t { return -1; };
  EXPECT_EQ(retort_reward_chain_score_lines(chain.get(), &reader, &sink), RETORT_UNAVAILABLE);
  EXPECT_THAT(ErrorOf(context), HasSubstr("jsonl can't be read"));
  in = {"{\"prompt\": 1}\n"};
  reader = in.reader();
  EXPECT_EQ(retort_reward_chain_score_lines(chain.get(), &reader, &sink), RETORT_INVALID_ARGUMENT);
  EXPECT_THAT(ErrorOf(context), HasSubstr("jsonl:1"));
  EXPECT_EQ(retort_reward_chain_score_lines(chain.get(), nullptr, &sink), RETORT_INVALID_ARGUMENT);
}

struct Judged {
  uint64_t sample;
  uint32_t action;
  std::string filter, reason, completion;
};
int32_t TakeJudged(void* ctx, const retort_filter_result* r) {
  static_cast<std::vector<Judged>*>(ctx)->push_back(
      {r->sample, r->action, Text(r->filter), Text(r->reason), Text(r->completion)});
  return 0;
}

constexpr const char* kFilters =
    R"([{"plugin": "length", "config": {"max_chars": 8}},
        {"plugin": "reward_threshold", "rewards": ["number_match"], "config": {"min": 1}}])";

TEST(FilterHandle, DecidesForEachSampleInOrder) {
  const Context context = NewContext();
  const FilterHandle chain = NewFilters(context, kFilters);
  const std::vector<retort_sample> samples = SameSamples();
  std::vector<Judged> judged;
  EXPECT_RETORT_OK(context, retort_filter_chain_run(chain.get(), samples.data(),
                                                    sizeof(retort_sample), 2, &judged, TakeJudged));
  ASSERT_EQ(judged.size(), 2u);
  EXPECT_EQ(judged[0].action, RETORT_KEEP);
  EXPECT_EQ(judged[0].completion, "It is 4.");
  EXPECT_EQ(judged[1].action, RETORT_DROP);
  EXPECT_EQ(judged[1].filter, "reward_threshold");
  EXPECT_NE(judged[1].reason, "");
  Collected out;
  const retort_sink sink = out.sink();
  EXPECT_RETORT_OK(context, retort_filter_chain_counts(chain.get(), &sink));
  const json::Document counts = json::Document::Parse(out.text, "counts").value();
  EXPECT_EQ(counts.root()[0]["kept"].IntOr(-1), 2);
  EXPECT_EQ(counts.root()[1]["dropped"].IntOr(-1), 1);
}

TEST(FilterHandle, LinesAreKeptAndDropsAudited) {
  const Context context = NewContext();
  const FilterHandle chain = NewFilters(context, kFilters);
  Given in{kLines};
  Collected out, audit;
  const retort_reader reader = in.reader();
  const retort_sink sink = out.sink(), audit_sink = audit.sink();
  EXPECT_RETORT_OK(context,
                   retort_filter_chain_run_lines(chain.get(), &reader, &sink, &audit_sink));
  EXPECT_THAT(out.Lines(), ElementsAre(HasSubstr("It is 4.")));
  EXPECT_THAT(audit.Lines(),
              ElementsAre(HasSubstr("reward_threshold"), HasSubstr("reward_threshold")));
}

TEST(FilterHandle, ACallbackStopsIt) {
  const Context context = NewContext();
  const FilterHandle chain = NewFilters(context, kKeepAll);
  const std::vector<retort_sample> samples = SameSamples();
  const auto stop = [](void*, const retort_filter_result*) -> int32_t { return 1; };
  EXPECT_EQ(
      retort_filter_chain_run(chain.get(), samples.data(), sizeof(retort_sample), 3, nullptr, stop),
      RETORT_CANCELLED);
  EXPECT_EQ(retort_filter_chain_run(chain.get(), samples.data(), sizeof(retort_sample), 3, nullptr,
                                    nullptr),
            RETORT_INVALID_ARGUMENT);
}

TEST(FilterHandle, ACancelBeforehandStopsTheNextCallThatCan) {
  const Context context = NewContext();
  const FilterHandle chain = NewFilters(context, kKeepAll);
  retort_cancel(context.get());
  Collected out;
  const retort_sink sink = out.sink();
  EXPECT_RETORT_OK(context, retort_filter_chain_counts(chain.get(), &sink));  // can't
  Given in{kLines};
  retort_reader reader = in.reader();
  EXPECT_EQ(retort_filter_chain_run_lines(chain.get(), &reader, &sink, nullptr), RETORT_CANCELLED);
  in = {kLines};
  EXPECT_RETORT_OK(context, retort_filter_chain_run_lines(chain.get(), &reader, &sink, nullptr));
}

}  // namespace
}  // namespace retort::host
