// Rules of filters: their decisions, and the state of their observe passes.
// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <array>
#include <thread>
#include <utility>

#include "core/base/clock.h"
#include "host/check/filter_probe.h"
#include "host/check/rule.h"
#include "host/library/guard.h"

namespace retort::host::check {
namespace {

constexpr size_t kGroups = 9, kGroupSize = 4;
constexpr double kCancelSeconds = 2;  // the ABI says 10 ms; machines are busy
constexpr int kConcurrentCalls = 20;
constexpr int64_t kSecondStep = 8;
constexpr useconds_t kLateMicroseconds = 50'000;  // for threads that call back late

Finding SameOrFail(const std::string& difference, const char* when) {
  return difference.empty() ? Finding::Pass()
                            : Finding::Fail(std::string(when) + ": " + difference);
}

std::vector<CheckGroup> Ordinary(const Subject& subject) {
  std::vector<CheckGroup> groups = OrdinaryGroups(subject, kGroups, kGroupSize);
  groups.push_back(groups[0]);  // its texts twice: what a filter of duplicates looks for
  for (CheckSample& sample : groups.back()) {
    sample.uid += 1'000'000;
    sample.record_uid += 1'000'000;
  }
  return groups;
}

Finding Empty(const Subject& subject) {
  RETORT_FIND(const FilterProbe filter, FilterProbe::Make(subject));
  return Finding::Of(filter.Everything({}).status());
}

Finding Batch(const Subject& subject) {
  RETORT_FIND(const FilterProbe filter, FilterProbe::Make(subject));
  return Finding::Of(filter.Everything(Ordinary(subject)).status());
}

Finding OneSample(const Subject& subject) {
  RETORT_FIND(const FilterProbe filter, FilterProbe::Make(subject));
  return Finding::Of(filter.Everything(OrdinaryGroups(subject, 3, 1)).status());
}

template <Odd kOdd>
Finding OddTexts(const Subject& subject) {
  RETORT_FIND(const FilterProbe filter, FilterProbe::Make(subject));
  return Finding::Of(filter.Everything(OddGroups(subject, kOdd)).status());
}

Finding Order(const Subject& subject) {
  const std::vector<CheckGroup> groups = Ordinary(subject);
  RETORT_FIND(const FilterProbe one, FilterProbe::Make(subject));
  RETORT_FIND(const FilterRun first, one.Everything(groups));
  RETORT_FIND(const FilterProbe two, FilterProbe::Make(subject));
  const std::vector<size_t> order = RandomOrder(subject.Random("order"), groups.size());
  RETORT_FIND(const FilterRun second, two.Everything(InOrder(groups, order)));
  std::vector<size_t> from;
  for (const size_t g : order) {
    for (size_t i = 0; i < kGroupSize; ++i) from.push_back(g * kGroupSize + i);
  }
  return SameOrFail(Difference(first, second, from), "with the groups in another order");
}

Finding Split(const Subject& subject) {
  const std::vector<CheckGroup> groups = Ordinary(subject);
  RETORT_FIND(const FilterProbe one, FilterProbe::Make(subject));
  RETORT_FIND(const FilterRun first, one.Everything(groups));
  RETORT_FIND(const FilterProbe two, FilterProbe::Make(subject));
  for (uint32_t pass = 0; pass < two.n_passes(); ++pass) {
    for (const CheckGroup& group : groups) RETORT_FAIL_IF_ERROR(two.Observe({group}, pass));
    RETORT_FAIL_IF_ERROR(two.EndPass(pass));
  }
  FilterRun parts;
  for (const CheckGroup& group : groups) {
    RETORT_FIND(FilterRun part, two.Judge({group}));
    parts.decisions.insert(parts.decisions.end(), part.decisions.begin(), part.decisions.end());
  }
  return SameOrFail(Difference(first, parts), "with one group a call");
}

Finding Repeat(const Subject& subject) {
  const std::vector<CheckGroup> groups = Ordinary(subject);
  RETORT_FIND(const FilterProbe one, FilterProbe::Make(subject));
  RETORT_FIND(const FilterRun first, one.Everything(groups));
  RETORT_FIND(const FilterRun again, one.Judge(groups));
  RETORT_PASS_OR_RETURN(SameOrFail(Difference(first, again), "judged a second time"));
  RETORT_FIND(const FilterProbe two, FilterProbe::Make(subject));
  RETORT_FIND(const FilterRun second, two.Everything(groups));
  return SameOrFail(Difference(first, second), "with a fresh instance");
}

Finding CancelledBefore(const Subject& subject) {
  RETORT_FIND(const FilterProbe filter, FilterProbe::Make(subject));
  const std::vector<CheckGroup> groups = OrdinaryGroups(subject, 64, kGroupSize);
  RETORT_FAIL_IF_ERROR(filter.Everything(groups).status());
  RawCall call;
  call.SetCancel(true);
  const Stopwatch watch;
  RETORT_FIND(const FilterRun run, filter.Judge(groups, call, {.may_fail = true}));
  if (run.returned != RETORT_OK && run.returned != RETORT_CANCELLED) {
    return Finding::Fail("with the cancel flag set judge gave " + StatusName(run.returned) +
                         "; expected CANCELLED, or OK when it was done anyway");
  }
  if (run.returned == RETORT_CANCELLED && watch.Seconds() > kCancelSeconds) {
    return Finding::Fail("judge took " + FormatSeconds(watch.Seconds()) + " to give CANCELLED");
  }
  call.SetCancel(false);  // and it must be usable again
  return Finding::Of(filter.Judge(groups, call).status());
}

Finding NoScratch(const Subject& subject) {
  RETORT_FIND(const FilterProbe filter, FilterProbe::Make(subject));
  const std::vector<CheckGroup> groups = OrdinaryGroups(subject, 2, 2);
  RETORT_FAIL_IF_ERROR(filter.Everything(groups).status());
  RawCall call;
  call.LimitScratch(0);
  RETORT_FIND(const FilterRun run, filter.Judge(groups, call, {.may_fail = true}));
  if (run.returned == RETORT_OK || run.returned == RETORT_RESOURCE_EXHAUSTED) {
    return Finding::Pass();
  }
  return Finding::Fail("without scratch memory judge gave " + StatusName(run.returned) +
                       "; expected RESOURCE_EXHAUSTED");
}

Status JudgeOften(const FilterProbe& filter, const std::vector<CheckGroup>& groups,
                  const FilterRun& expected) {
  for (int i = 0; i < kConcurrentCalls; ++i) {
    RETORT_ASSIGN_OR_RETURN(const FilterRun run, filter.Judge(groups));
    const std::string difference = Difference(expected, run);
    if (!difference.empty()) return InvalidArgument("on another thread, " + difference);
  }
  return OkStatus();
}

template <size_t kThreads>
Finding OnThreads(const Subject& subject) {
  RETORT_FIND(const FilterProbe filter, FilterProbe::Make(subject));
  if (kThreads > 1 && (filter.flags() & RETORT_FILTER_CONCURRENT) == 0) {
    return Finding::Skip("its table has no flag CONCURRENT");
  }
  const std::vector<CheckGroup> groups = OrdinaryGroups(subject, 4, 2);
  RETORT_FIND(const FilterRun expected, filter.Everything(groups));
  std::array<Status, kThreads> results;
  std::array<std::thread, kThreads> threads;
  for (size_t i = 0; i < kThreads; ++i) {
    threads[i] = std::thread([&, i] {
      results[i] = Guard([&]() -> Status { return JudgeOften(filter, groups, expected); });
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Status& result : results) RETORT_FAIL_IF_ERROR(result);
  return Finding::Pass();
}

// Two calls, the first still there: nothing may reach it after it has returned.
Finding OldCalls(const Subject& subject) {
  RETORT_FIND(const FilterProbe filter, FilterProbe::Make(subject));
  const std::vector<CheckGroup> groups = OrdinaryGroups(subject, 2, 2);
  RETORT_FAIL_IF_ERROR(filter.Everything(groups).status());
  RawCall first, second;
  RETORT_FAIL_IF_ERROR(filter.Judge(groups, first).status());
  second.raw().step = kSecondStep;
  RETORT_FAIL_IF_ERROR(filter.Judge(groups, second).status());
  usleep(kLateMicroseconds);
  RETORT_FAIL_IF_ERROR(first.EndFailed(RETORT_OK, "the first call"));
  return Finding::Of(second.EndFailed(RETORT_OK, "the second call"));
}

Finding Flags(const Subject& subject) {
  RETORT_FIND(const FilterProbe filter, FilterProbe::Make(subject));
  constexpr uint32_t kKnown = RETORT_FILTER_CONCURRENT | RETORT_FILTER_NEEDS_IDS |
                              RETORT_FILTER_NEEDS_SCORES | RETORT_FILTER_NEEDS_ANSWERS;
  const uint32_t unknown = filter.flags() & 0xFFFFU & ~kKnown;
  if (unknown == 0) return Finding::Pass();
  return Finding::Fail("flags has unknown bits " + std::to_string(unknown) +
                       "; bits 0-15 must be those of the header");
}

constexpr const char* kNoPasses = "it has no observe passes";

// The state of a fresh instance that observed `shard` in pass 0.
Result<std::string> StateOf(const Subject& subject, const std::vector<CheckGroup>& shard) {
  RETORT_ASSIGN_OR_RETURN(const FilterProbe filter, FilterProbe::Make(subject));
  RETORT_RETURN_IF_ERROR(filter.Observe(shard, 0));
  return filter.Save();
}

// The decisions of a fresh instance that merged the states in that order.
Result<FilterRun> DecideFrom(const Subject& subject, const std::vector<std::string>& states,
                             const std::vector<CheckGroup>& groups, uint64_t max_step = 0) {
  RETORT_ASSIGN_OR_RETURN(const FilterProbe filter, FilterProbe::Make(subject));
  for (const std::string& state : states) RETORT_RETURN_IF_ERROR(filter.Merge(state, max_step));
  return filter.Finish(groups);
}

Result<std::string> Merged(const Subject& subject, const std::vector<std::string>& states) {
  RETORT_ASSIGN_OR_RETURN(const FilterProbe filter, FilterProbe::Make(subject));
  for (const std::string& state : states) RETORT_RETURN_IF_ERROR(filter.Merge(state));
  return filter.Save();
}

std::vector<CheckGroup> Slice(const std::vector<CheckGroup>& groups, size_t part, size_t parts) {
  std::vector<CheckGroup> out;
  for (size_t g = part; g < groups.size(); g += parts) out.push_back(groups[g]);
  return out;
}

Finding MergeOrder(const Subject& subject) {
  const std::vector<CheckGroup> groups = Ordinary(subject);
  RETORT_FIND(const FilterProbe whole, FilterProbe::Make(subject));
  if (whole.n_passes() == 0) return Finding::Skip(kNoPasses);
  RETORT_FIND(const FilterRun expected, whole.Everything(groups));
  RETORT_FIND(const std::string a, StateOf(subject, Slice(groups, 0, 3)));
  RETORT_FIND(const std::string b, StateOf(subject, Slice(groups, 1, 3)));
  RETORT_FIND(const std::string c, StateOf(subject, Slice(groups, 2, 3)));
  RETORT_FIND(const FilterRun abc, DecideFrom(subject, {a, b, c}, groups));
  RETORT_PASS_OR_RETURN(
      SameOrFail(Difference(expected, abc), "three merged shards against one instance"));
  RETORT_FIND(const FilterRun cab, DecideFrom(subject, {c, a, b}, groups));
  RETORT_PASS_OR_RETURN(SameOrFail(Difference(abc, cab), "shards merged in another order"));
  RETORT_FIND(const std::string ab, Merged(subject, {a, b}));
  RETORT_FIND(const std::string bc, Merged(subject, {b, c}));
  RETORT_FIND(const FilterRun ab_c, DecideFrom(subject, {ab, c}, groups));
  RETORT_FIND(const FilterRun a_bc, DecideFrom(subject, {a, bc}, groups));
  RETORT_PASS_OR_RETURN(SameOrFail(Difference(abc, ab_c), "(a b) c instead of a b c"));
  return SameOrFail(Difference(abc, a_bc), "a (b c) instead of a b c");
}

// Into an instance that has observed something itself, as a host does that continues.
Finding MergeInto(const Subject& subject) {
  const std::vector<CheckGroup> groups = Ordinary(subject);
  RETORT_FIND(const FilterProbe whole, FilterProbe::Make(subject));
  if (whole.n_passes() == 0) return Finding::Skip(kNoPasses);
  RETORT_FIND(const FilterRun expected, whole.Everything(groups));
  RETORT_FIND(const std::string state, StateOf(subject, Slice(groups, 0, 2)));
  RETORT_FIND(const FilterProbe used, FilterProbe::Make(subject));
  RETORT_FAIL_IF_ERROR(used.Observe(Slice(groups, 1, 2), 0));
  RETORT_FAIL_IF_ERROR(used.Merge(state));
  RETORT_FIND(const FilterRun got, used.Finish(groups));
  return SameOrFail(Difference(expected, got), "a shard merged into an instance with its own");
}

Finding ShortIo(const Subject& subject) {
  const std::vector<CheckGroup> groups = Ordinary(subject);
  RETORT_FIND(const FilterProbe filter, FilterProbe::Make(subject));
  if (filter.n_passes() == 0) return Finding::Skip(kNoPasses);
  RETORT_FAIL_IF_ERROR(filter.Observe(groups, 0));
  RETORT_FIND(const std::string whole, filter.Save());
  RETORT_FIND(const std::string pieces, filter.Save(/*max_step=*/3));
  if (whole != pieces) {
    return Finding::Fail("save through a sink that takes 1 to 3 bytes a call wrote other bytes (" +
                         std::to_string(pieces.size()) + " instead of " +
                         std::to_string(whole.size()) + ")");
  }
  RETORT_FIND(const FilterRun expected, DecideFrom(subject, {whole}, groups));
  RETORT_FIND(const FilterRun got, DecideFrom(subject, {whole}, groups, /*max_step=*/3));
  return SameOrFail(Difference(expected, got), "merged from a reader of 1 to 3 bytes a call");
}

Finding Refused(const Subject& subject, const std::string& state, const std::string& what) {
  RETORT_FIND(const FilterProbe filter, FilterProbe::Make(subject));
  RETORT_FIND(const retort_status status, filter.TryMerge(state));
  if (status == RETORT_DATA_LOSS) return Finding::Pass();
  return Finding::Fail("merge of " + what + " gave " + StatusName(status) + "; expected DATA_LOSS");
}

Finding BadState(const Subject& subject) {
  RETORT_FIND(const FilterProbe probe, FilterProbe::Make(subject));
  if (probe.n_passes() == 0) return Finding::Skip(kNoPasses);
  Rng rng = subject.Random("bad state");
  for (const size_t n : {1, 7, 8, 64, 1000, 100'000}) {
    std::string bytes(n, '\0');
    for (char& byte : bytes) byte = static_cast<char>(rng.Below(256));
    RETORT_PASS_OR_RETURN(Refused(subject, bytes, std::to_string(n) + " random bytes"));
  }
  RETORT_FIND(const std::string state, StateOf(subject, Ordinary(subject)));
  for (const size_t cut : {state.size() - 1, state.size() / 2, size_t{1}}) {
    if (cut == 0 || cut >= state.size()) continue;
    RETORT_PASS_OR_RETURN(Refused(subject, state.substr(0, cut),
                                  "a state cut from " + std::to_string(state.size()) + " to " +
                                      std::to_string(cut) + " bytes"));
  }
  for (int i = 0; i < 200 && !state.empty(); ++i) {  // a flip may go unnoticed, never crash
    std::string flipped = state;
    flipped[rng.Below(state.size())] ^= static_cast<char>(1U << rng.Below(8));
    RETORT_FIND(const FilterProbe filter, FilterProbe::Make(subject));
    RETORT_FAIL_IF_ERROR(filter.TryMerge(flipped).status());
  }
  return Finding::Pass();
}

constexpr const char* kTextRemedy =
    "texts are pointer and length, may be NULL and hold any bytes: never use strlen, and decide "
    "ERROR with a reason for a sample that can't be judged";
constexpr const char* kStateRemedy =
    "keep state that adds up (counts, sets, smallest uids), and let decisions depend on it alone";

constexpr Rule kRules[] = {
    {"filter.empty", "R6", "no group at all, with NULL arrays, is filtered",
     "return OK at once when n_groups is 0", Empty},
    {"filter.batch", "R6",
     "decisions are legal: known action, a reason unless KEEP, of a sample of the call",
     "decide each sample once, with struct_size, action and a short reason", Batch},
    {"filter.one_sample", "R6", "groups of one sample are filtered", "expect groups of any size",
     OneSample},
    {"filter.empty_texts", "R5", "empty texts are filtered", kTextRemedy, OddTexts<Odd::kEmpty>},
    {"filter.absent_texts", "R5", "absent texts (NULL) are filtered", kTextRemedy,
     OddTexts<Odd::kAbsent>},
    {"filter.nul_bytes", "R5", "texts with NUL bytes are filtered, nothing is read beyond a text",
     kTextRemedy, OddTexts<Odd::kNul>},
    {"filter.broken_utf8", "R5", "texts that are not UTF-8 are filtered", kTextRemedy,
     OddTexts<Odd::kBrokenUtf8>},
    {"filter.long_text", "R7", "a completion of 10 MB is filtered in time",
     "avoid recursion and quadratic work on the length of a text", OddTexts<Odd::kLong>},
    {"filter.order", "R9", "the order of the groups changes no decision",
     "decide from config, merged state and group; for duplicates keep the smallest uid", Order},
    {"filter.split", "R9", "the split into calls changes no decision",
     "keep nothing of a judged group for the next", Split},
    {"filter.repeat", "R9", "same groups, same decisions, also with a fresh instance",
     "take randomness from call->key and uids; judging changes no state", Repeat},
    {"filter.cancel", "R7", "with the cancel flag set: CANCELLED soon, or done",
     "poll call->cancel between groups and return RETORT_CANCELLED", CancelledBefore},
    {"filter.no_scratch", "R7", "without scratch memory: RESOURCE_EXHAUSTED with a text",
     "check what call->scratch gives, and return RETORT_RESOURCE_EXHAUSTED", NoScratch},
    {"filter.concurrent", "R8", "with flag CONCURRENT: two judgements at once decide the same",
     "guard what the instance shares, or leave CONCURRENT out", OnThreads<2>},
    {"filter.other_thread", "R8", "a call from another thread than create's decides the same",
     "keep no thread-local state", OnThreads<1>},
    {"filter.old_calls", "R6", "a call's callbacks are not used after it has returned",
     "keep no pointer of a call, and have your threads done when judge returns", OldCalls},
    {"filter.flags", "R4", "the table's flags are those of the header",
     "set only RETORT_FILTER_* flags", Flags},
    {"filter.merge_order", "R9", "saved shards merge to the same in any order and grouping",
     kStateRemedy, MergeOrder},
    {"filter.merge_into", "R9", "a shard merges into an instance with observations of its own",
     kStateRemedy, MergeInto},
    {"filter.short_io", "R6", "state goes through sinks and readers of a few bytes a call",
     "loop until all bytes are written or read; short counts are legal", ShortIo},
    {"filter.bad_state", "R7", "bytes that save did not write are refused with DATA_LOSS",
     "begin the state with a magic and its length, and compare sizes before use", BadState},
};

}  // namespace

std::span<const Rule> FilterRules() { return kRules; }

}  // namespace retort::host::check
