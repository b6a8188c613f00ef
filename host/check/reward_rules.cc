// Rules of rewards and their answer classes.
// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <map>
#include <numeric>
#include <thread>
#include <utility>

#include "core/base/clock.h"
#include "host/check/library_facts.h"
#include "host/check/reward_probe.h"
#include "host/check/rule.h"
#include "host/library/guard.h"

namespace retort::host::check {
namespace {

constexpr size_t kGroups = 8, kGroupSize = 4;
constexpr double kCancelSeconds = 2;  // the ABI says 10 ms; machines are busy
constexpr int kConcurrentCalls = 20;
constexpr int64_t kSecondStep = 8;
constexpr useconds_t kLateMicroseconds = 50'000;  // for threads that call back late
constexpr const char* kUniqueWrites =
    "write score[i] and status[i] for i < n only, report only "
    "such samples, and change no input";

Finding Empty(const Subject& subject) {
  RETORT_FIND(const RewardProbe reward, RewardProbe::Make(subject));
  return Finding::Of(reward.Score({}).status());
}

Finding Batch(const Subject& subject) {
  RETORT_FIND(const RewardProbe reward, RewardProbe::Make(subject));
  RETORT_FAIL_IF_ERROR(reward.Score(OrdinaryGroups(subject, 1, 1)).status());
  return Finding::Of(reward.Score(OrdinaryGroups(subject, kGroups, kGroupSize)).status());
}

template <Odd kOdd>
Finding OddTexts(const Subject& subject) {
  RETORT_FIND(const RewardProbe reward, RewardProbe::Make(subject));
  return Finding::Of(reward.Score(OddGroups(subject, kOdd)).status());
}

Finding Order(const Subject& subject) {
  RETORT_FIND(const RewardProbe reward, RewardProbe::Make(subject));
  const std::vector<CheckGroup> groups = OrdinaryGroups(subject, kGroups, kGroupSize);
  RETORT_FIND(const RewardRun first, reward.Score(groups));
  const std::vector<size_t> order = RandomOrder(subject.Random("order"), kGroups);
  RETORT_FIND(const RewardRun second, reward.Score(InOrder(groups, order)));
  std::vector<size_t> from;
  for (const size_t g : order) {
    for (size_t i = 0; i < kGroupSize; ++i) from.push_back(g * kGroupSize + i);
  }
  const std::string difference = Difference(first, second, from, /*exact=*/false);
  return difference.empty() ? Finding::Pass()
                            : Finding::Fail("with the groups in another order, " + difference);
}

void Append(const RewardRun& part, RewardRun* all) {
  all->score.insert(all->score.end(), part.score.begin(), part.score.end());
  all->status.insert(all->status.end(), part.status.begin(), part.status.end());
}

Finding Split(const Subject& subject) {
  RETORT_FIND(const RewardProbe reward, RewardProbe::Make(subject));
  const std::vector<CheckGroup> groups = OrdinaryGroups(subject, kGroups, kGroupSize);
  RETORT_FIND(const RewardRun whole, reward.Score(groups));
  RewardRun parts;
  for (const CheckGroup& group : groups) {
    if (reward.groupwise()) {
      RETORT_FIND(const RewardRun part, reward.Score({group}));
      Append(part, &parts);
      continue;
    }
    for (const CheckSample& sample : group) {
      RETORT_FIND(const RewardRun part, reward.Score({{sample}}));
      Append(part, &parts);
    }
  }
  const std::string difference = Difference(whole, parts, /*exact=*/false);
  return difference.empty()
             ? Finding::Pass()
             : Finding::Fail(std::string("with one ") + (reward.groupwise() ? "group" : "sample") +
                             " a call, " + difference);
}

Finding Repeat(const Subject& subject) {
  RETORT_FIND(const RewardProbe reward, RewardProbe::Make(subject));
  if (!reward.pure()) return Finding::Skip("its table has no flag PURE");
  const std::vector<CheckGroup> groups = OrdinaryGroups(subject, kGroups, kGroupSize);
  RETORT_FIND(const RewardRun first, reward.Score(groups));
  RawCall other_call;
  other_call.raw().step = 7;
  RETORT_FIND(const RewardRun second, reward.Score(groups, other_call));
  if (const std::string difference = Difference(first, second); !difference.empty()) {
    return Finding::Fail("on the same samples at another step, " + difference);
  }
  RETORT_FIND(const RewardProbe fresh, RewardProbe::Make(subject));
  RETORT_FIND(const RewardRun third, fresh.Score(groups));
  const std::string difference = Difference(first, third);
  return difference.empty() ? Finding::Pass()
                            : Finding::Fail("with a fresh instance, " + difference);
}

Finding SameKey(const Subject& subject) {
  if (HasDescriptorFlag(subject, RETORT_PLUGIN_NETWORK)) {
    return Finding::Skip("its descriptor has the flag NETWORK");
  }
  const std::vector<CheckGroup> groups = OrdinaryGroups(subject, kGroups, kGroupSize);
  RETORT_FIND(const RewardProbe one, RewardProbe::Make(subject));
  RETORT_FIND(const RewardRun first, one.Score(groups));
  RETORT_FIND(const RewardProbe two, RewardProbe::Make(subject));
  RETORT_FIND(const RewardRun second, two.Score(groups));
  const std::string difference = Difference(first, second, /*exact=*/false);
  return difference.empty()
             ? Finding::Pass()
             : Finding::Fail("two instances with the same config and key: " + difference);
}

Finding CancelledBefore(const Subject& subject) {
  RETORT_FIND(const RewardProbe reward, RewardProbe::Make(subject));
  RawCall call;
  call.SetCancel(true);
  const Stopwatch watch;
  RETORT_FIND(const RewardRun run,
              reward.Score(OrdinaryGroups(subject, 64, kGroupSize), call, {.may_fail = true}));
  if (run.returned != RETORT_OK && run.returned != RETORT_CANCELLED) {
    return Finding::Fail("with the cancel flag set it gave " + StatusName(run.returned) +
                         "; expected CANCELLED, or OK when it was done anyway");
  }
  if (run.returned == RETORT_CANCELLED && watch.Seconds() > kCancelSeconds) {
    return Finding::Fail("it took " + FormatSeconds(watch.Seconds()) + " to give CANCELLED");
  }
  call.SetCancel(false);  // and it must be usable again
  return Finding::Of(reward.Score(OrdinaryGroups(subject, 1, 2), call).status());
}

Finding NoScratch(const Subject& subject) {
  RETORT_FIND(const RewardProbe reward, RewardProbe::Make(subject));
  RawCall call;
  call.LimitScratch(0);
  RETORT_FIND(const RewardRun run,
              reward.Score(OrdinaryGroups(subject, 2, 2), call, {.may_fail = true}));
  if (run.returned == RETORT_OK || run.returned == RETORT_RESOURCE_EXHAUSTED) {
    return Finding::Pass();
  }
  return Finding::Fail("without scratch memory it gave " + StatusName(run.returned) +
                       "; expected RESOURCE_EXHAUSTED");
}

// Scores the same batch often, on a thread of its own.
class Scorer {
 public:
  Scorer(const RewardProbe& reward, const std::vector<CheckGroup>& groups,
         const RewardRun& expected)
      : thread_([&] { status_ = Guard([&] { return Run(reward, groups, expected); }); }) {}
  Status Join() {
    thread_.join();
    return status_;
  }

 private:
  static Status Run(const RewardProbe& reward, const std::vector<CheckGroup>& groups,
                    const RewardRun& expected) {
    for (int i = 0; i < kConcurrentCalls; ++i) {
      RETORT_ASSIGN_OR_RETURN(const RewardRun run, reward.Score(groups));
      const std::string difference = Difference(expected, run, /*exact=*/false);
      if (!difference.empty()) return InvalidArgument("beside another call, " + difference);
    }
    return OkStatus();
  }
  Status status_;
  std::thread thread_;
};

Finding Concurrent(const Subject& subject) {
  RETORT_FIND(const RewardProbe reward, RewardProbe::Make(subject));
  if (!reward.concurrent()) return Finding::Skip("its table has no flag CONCURRENT");
  const std::vector<CheckGroup> groups = OrdinaryGroups(subject, 4, 2);
  RETORT_FIND(const RewardRun expected, reward.Score(groups));
  Scorer one(reward, groups, expected), two(reward, groups, expected);
  const Status first = one.Join(), second = two.Join();
  return Finding::Of(first.ok() ? second : first);
}

// A call from a thread that is not the one that created the instance.
Finding OtherThread(const Subject& subject) {
  RETORT_FIND(const RewardProbe reward, RewardProbe::Make(subject));
  const std::vector<CheckGroup> groups = OrdinaryGroups(subject, 2, 2);
  RETORT_FIND(const RewardRun expected, reward.Score(groups));
  return Finding::Of(Scorer(reward, groups, expected).Join());
}

// Two calls, the first still there: nothing may reach it after it has returned.
Finding OldCalls(const Subject& subject) {
  RETORT_FIND(const RewardProbe reward, RewardProbe::Make(subject));
  const std::vector<CheckGroup> groups = OrdinaryGroups(subject, 2, 2);
  RawCall first, second;
  RETORT_FAIL_IF_ERROR(reward.Score(groups, first).status());
  second.raw().step = kSecondStep;
  RETORT_FAIL_IF_ERROR(reward.Score(groups, second).status());
  usleep(kLateMicroseconds);
  RETORT_FAIL_IF_ERROR(first.EndFailed(RETORT_OK, "the first call"));
  return Finding::Of(second.EndFailed(RETORT_OK, "the second call"));
}

Finding Flags(const Subject& subject) {
  RETORT_FIND(const RewardProbe reward, RewardProbe::Make(subject));
  constexpr uint32_t kKnown = RETORT_REWARD_CONCURRENT | RETORT_REWARD_NEEDS_IDS |
                              RETORT_REWARD_GROUPWISE | RETORT_REWARD_PURE;
  const uint32_t unknown = reward.flags() & 0xFFFFU & ~kKnown;
  if (unknown == 0) return Finding::Pass();
  return Finding::Fail("flags has unknown bits " + std::to_string(unknown) +
                       "; bits 0-15 must be those of the header");
}

Finding Answers(const Subject& subject) {
  RETORT_FIND(const RewardProbe reward, RewardProbe::Make(subject));
  if (!reward.has_answers()) return Finding::Skip("it has no interface retort.answer/1");
  RETORT_FAIL_IF_ERROR(reward.Classes({}).status());
  for (const Odd odd : {Odd::kEmpty, Odd::kAbsent, Odd::kNul, Odd::kBrokenUtf8}) {
    for (const CheckGroup& group : OddGroups(subject, odd)) {
      RETORT_FAIL_IF_ERROR(reward.Classes(group).status());
    }
  }
  return Finding::Of(reward.Classes(OrdinaryGroups(subject, 1, 8)[0], kGrowthBytes).status());
}

// The samples of a group in another order must fall into the same classes.
Finding AnswersEquivalent(const Subject& subject) {
  RETORT_FIND(const RewardProbe reward, RewardProbe::Make(subject));
  if (!reward.has_answers()) return Finding::Skip("it has no interface retort.answer/1");
  CheckGroup group;
  for (const CheckGroup& part : OrdinaryGroups(subject, 4, 4)) {
    group.insert(group.end(), part.begin(), part.end());
  }
  for (size_t i = 0; i < 4; ++i) group.push_back(group[i]);  // equal for certain
  RETORT_FIND(const std::vector<int64_t> first, reward.Classes(group));
  for (size_t i = 0; i < 4; ++i) {
    if (first[group.size() - 4 + i] != first[i]) {
      return Finding::Fail("two samples with the same text are in classes " +
                           std::to_string(first[i]) + " and " +
                           std::to_string(first[group.size() - 4 + i]));
    }
  }
  const std::vector<size_t> order = RandomOrder(subject.Random("classes"), group.size());
  CheckGroup shuffled;
  for (const size_t from : order) shuffled.push_back(group[from]);
  RETORT_FIND(const std::vector<int64_t> second, reward.Classes(shuffled));
  std::map<int64_t, int64_t> renamed;
  for (size_t i = 0; i < order.size(); ++i) {
    const int64_t before = first[order[i]], now = second[i];
    const auto [at, is_new] = renamed.try_emplace(before, now);
    const bool fresh_class = before < 0 || now == static_cast<int64_t>(i);
    if ((before < 0) == (now < 0) && at->second == now && (!is_new || fresh_class)) continue;
    return Finding::Fail("in another order of the group, sample " + std::to_string(order[i]) +
                         " is equal to others than before: equality must not depend on order");
  }
  return Finding::Pass();
}

constexpr const char* kTextRemedy =
    "texts are pointer and length, may be NULL and hold any bytes: never use strlen, and give a "
    "sample that can't be scored status NOT_APPLICABLE or ERROR";

constexpr Rule kRules[] = {
    {"reward.empty", "R6", "a batch of 0 samples, with NULL arrays, is scored",
     "return OK at once when n is 0", Empty},
    {"reward.batch", "R6",
     "writes legal verdicts, only into its own arrays; reports are JSON objects", kUniqueWrites,
     Batch},
    {"reward.empty_texts", "R5", "empty texts are scored", kTextRemedy, OddTexts<Odd::kEmpty>},
    {"reward.absent_texts", "R5", "absent texts (NULL) are scored", kTextRemedy,
     OddTexts<Odd::kAbsent>},
    {"reward.nul_bytes", "R5", "texts with NUL bytes are scored, nothing is read beyond a text",
     kTextRemedy, OddTexts<Odd::kNul>},
    {"reward.broken_utf8", "R5", "texts that are not UTF-8 are scored", kTextRemedy,
     OddTexts<Odd::kBrokenUtf8>},
    {"reward.long_text", "R7", "a completion of 10 MB is scored in time",
     "avoid recursion and quadratic work on the length of a text", OddTexts<Odd::kLong>},
    {"reward.order", "R9", "the order of the groups changes no verdict",
     "score each sample (GROUPWISE: group) from its own content, mixing its uid into call->key",
     Order},
    {"reward.split", "R9", "the split into calls changes no verdict",
     "set the flag GROUPWISE if a verdict depends on the group, and keep nothing between calls",
     Split},
    {"reward.repeat", "R9", "with flag PURE: same sample, same verdict",
     "leave PURE out if the verdict depends on anything but the sample", Repeat},
    {"reward.same_key", "R9", "same config, samples and key: same verdicts",
     "take randomness from call->key alone, never from time or addresses", SameKey},
    {"reward.cancel", "R7", "with the cancel flag set: CANCELLED soon, or done",
     "poll call->cancel between samples and return RETORT_CANCELLED", CancelledBefore},
    {"reward.no_scratch", "R7", "without scratch memory: RESOURCE_EXHAUSTED with a text",
     "check what call->scratch gives, and return RETORT_RESOURCE_EXHAUSTED", NoScratch},
    {"reward.concurrent", "R8", "with flag CONCURRENT: two calls at once score the same",
     "guard what the instance shares, or leave CONCURRENT out", Concurrent},
    {"reward.other_thread", "R8", "a call from another thread than create's scores the same",
     "keep no thread-local state", OtherThread},
    {"reward.old_calls", "R6", "a call's callbacks are not used after it has returned",
     "keep no pointer of a call, and have your threads done when score returns", OldCalls},
    {"reward.flags", "R4", "the table's flags are those of the header",
     "set only RETORT_REWARD_* flags", Flags},
    {"reward.answers", "R6", "answer classes: -1 or the first sample of the class",
     "give each sample the index of the first sample with an equal answer", Answers},
    {"reward.answers_equivalence", "R9", "answers: equality is an equivalence, whatever the order",
     "compare canonical forms instead of pairs within a tolerance", AnswersEquivalent},
};

}  // namespace

std::span<const Rule> RewardRules() { return kRules; }

}  // namespace retort::host::check
