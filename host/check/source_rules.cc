// Rules of sources. A source that has nothing to read needs --config.
// SPDX-License-Identifier: Apache-2.0
#include <map>
#include <utility>

#include "core/base/clock.h"
#include "host/check/rule.h"
#include "host/check/source_probe.h"

namespace retort::host::check {
namespace {

constexpr double kCancelSeconds = 2;

Finding SameOrFail(const std::string& difference, const char* when) {
  return difference.empty() ? Finding::Pass()
                            : Finding::Fail(std::string(when) + ": " + difference);
}

Finding Records(const Subject& subject) {
  RETORT_FIND(SourceProbe source, SourceProbe::Make(subject));
  RETORT_FIND(const std::vector<SourceRecord> records, source.Read(100));
  if (!records.empty()) return Finding::Pass();
  return Finding::Fail("it gave no record at all; name a config with records in --config");
}

Finding Uids(const Subject& subject) {
  RETORT_FIND(SourceProbe source, SourceProbe::Make(subject));
  RETORT_FIND(const std::vector<SourceRecord> records, source.Read(100));
  std::map<uint64_t, size_t> seen;
  for (size_t i = 0; i < records.size(); ++i) {
    const auto [at, is_new] = seen.try_emplace(records[i].uid, i);
    if (is_new) continue;
    return Finding::Fail("records " + std::to_string(at->second) + " and " + std::to_string(i) +
                         " both have uid " + std::to_string(records[i].uid));
  }
  return Finding::Pass();
}

Finding Sizes(const Subject& subject) {
  RETORT_FIND(SourceProbe large, SourceProbe::Make(subject));
  RETORT_FIND(const std::vector<SourceRecord> expected, large.Read(1000, 2000));
  for (const uint64_t max_n : {1, 3}) {
    RETORT_FIND(SourceProbe small, SourceProbe::Make(subject));
    RETORT_FIND(const std::vector<SourceRecord> got, small.Read(max_n, 2000));
    RETORT_PASS_OR_RETURN(
        SameOrFail(Difference(expected, got),
                   ("read " + std::to_string(max_n) + " at a time instead of 1000").c_str()));
  }
  return Finding::Pass();
}

Finding None(const Subject& subject) {
  RETORT_FIND(SourceProbe source, SourceProbe::Make(subject));
  std::vector<SourceRecord> none, records;
  RETORT_FAIL_IF_ERROR(source.Next(0, &none));
  RETORT_FAIL_IF_ERROR(source.Next(1, &records));
  RETORT_FIND(SourceProbe other, SourceProbe::Make(subject));
  RETORT_FIND(const std::vector<SourceRecord> expected, other.Read(1, records.size()));
  return SameOrFail(Difference(expected, records), "after a call with max_n = 0");
}

Finding Again(const Subject& subject) {
  RETORT_FIND(SourceProbe one, SourceProbe::Make(subject));
  RETORT_FIND(const std::vector<SourceRecord> expected, one.Read(100));
  RETORT_FIND(SourceProbe two, SourceProbe::Make(subject));
  RETORT_FIND(const std::vector<SourceRecord> got, two.Read(100));
  return SameOrFail(Difference(expected, got), "a second instance with the same config");
}

Finding End(const Subject& subject) {
  RETORT_FIND(SourceProbe source, SourceProbe::Make(subject));
  RETORT_FAIL_IF_ERROR(source.Read(1000).status());
  if (!source.at_end()) return Finding::Skip("it has more records than the check reads");
  std::vector<SourceRecord> none;
  for (int i = 0; i < 3; ++i) RETORT_FAIL_IF_ERROR(source.Next(10, &none));  // sees to the rest
  return Finding::Pass();
}

// Saved after `n` records, loaded into a fresh instance.
Finding ContinuesAfter(const Subject& subject, size_t n,
                       const std::vector<SourceRecord>& expected) {
  RETORT_FIND(SourceProbe first, SourceProbe::Make(subject));
  RETORT_FAIL_IF_ERROR(first.Read(7, n).status());
  RETORT_FIND(const std::string state, first.Save());
  RETORT_FIND(SourceProbe second, SourceProbe::Make(subject));
  RETORT_FAIL_IF_ERROR(second.Load(state));
  const size_t rest = expected.size() - n;
  RETORT_FIND(const std::vector<SourceRecord> got, second.Read(5, rest));
  const std::vector<SourceRecord> tail(expected.begin() + static_cast<ptrdiff_t>(n),
                                       expected.end());
  return SameOrFail(Difference(tail, got),
                    ("continued after " + std::to_string(n) + " records").c_str());
}

Finding Resume(const Subject& subject) {
  RETORT_FIND(SourceProbe source, SourceProbe::Make(subject));
  RETORT_FIND(const std::vector<SourceRecord> expected, source.Read(100, 500));
  for (const size_t n : {size_t{0}, size_t{1}, expected.size() / 2, expected.size()}) {
    RETORT_PASS_OR_RETURN(ContinuesAfter(subject, std::min(n, expected.size()), expected));
  }
  // Back to an earlier position in the same instance.
  RETORT_FIND(SourceProbe same, SourceProbe::Make(subject));
  RETORT_FIND(const std::string start, same.Save());
  RETORT_FAIL_IF_ERROR(same.Read(100, 500).status());
  RETORT_FAIL_IF_ERROR(same.Load(start));
  RETORT_FIND(const std::vector<SourceRecord> again, same.Read(100, 500));
  return SameOrFail(Difference(expected, again), "back at the start in the same instance");
}

Finding ShortIo(const Subject& subject) {
  RETORT_FIND(SourceProbe source, SourceProbe::Make(subject));
  RETORT_FAIL_IF_ERROR(source.Read(1, 1).status());
  RETORT_FIND(const std::string whole, source.Save());
  RETORT_FIND(const std::string pieces, source.Save(/*max_step=*/3));
  if (whole != pieces) {
    return Finding::Fail("save through a sink that takes 1 to 3 bytes a call wrote other bytes (" +
                         std::to_string(pieces.size()) + " instead of " +
                         std::to_string(whole.size()) + ")");
  }
  RETORT_FIND(const std::vector<SourceRecord> expected, source.Read(10, 50));
  RETORT_FIND(SourceProbe other, SourceProbe::Make(subject));
  RETORT_FAIL_IF_ERROR(other.Load(whole, /*max_step=*/3));
  RETORT_FIND(const std::vector<SourceRecord> got, other.Read(10, 50));
  return SameOrFail(Difference(expected, got), "loaded from a reader of 1 to 3 bytes a call");
}

// `may_not_fit`: it reads like a position, but of other records.
Finding Refused(const Subject& subject, const std::string& state, const std::string& what,
                bool may_not_fit = false) {
  RETORT_FIND(SourceProbe source, SourceProbe::Make(subject));
  RETORT_FIND(const retort_status status, source.TryLoad(state));
  if (status == RETORT_DATA_LOSS) return Finding::Pass();
  if (may_not_fit && status == RETORT_FAILED_PRECONDITION) return Finding::Pass();
  return Finding::Fail("load of " + what + " gave " + StatusName(status) + "; expected DATA_LOSS");
}

Finding BadState(const Subject& subject) {
  Rng rng = subject.Random("bad state");
  for (const size_t n : {1, 7, 8, 64, 1000, 100'000}) {
    std::string bytes(n, '\0');
    for (char& byte : bytes) byte = static_cast<char>(rng.Below(256));
    RETORT_PASS_OR_RETURN(Refused(subject, bytes, std::to_string(n) + " random bytes"));
  }
  RETORT_FIND(SourceProbe source, SourceProbe::Make(subject));
  RETORT_FAIL_IF_ERROR(source.Read(1, 1).status());
  RETORT_FIND(const std::string state, source.Save());
  for (const size_t cut : {state.size() - 1, state.size() / 2, size_t{1}}) {
    if (cut == 0 || cut >= state.size()) continue;
    RETORT_PASS_OR_RETURN(Refused(subject, state.substr(0, cut),
                                  "a state cut from " + std::to_string(state.size()) + " to " +
                                      std::to_string(cut) + " bytes",
                                  /*may_not_fit=*/true));
  }
  for (int i = 0; i < 200 && !state.empty(); ++i) {  // a flip may go unnoticed, never crash
    std::string flipped = state;
    flipped[rng.Below(state.size())] ^= static_cast<char>(1U << rng.Below(8));
    RETORT_FIND(SourceProbe other, SourceProbe::Make(subject));
    RETORT_FIND(const retort_status status, other.TryLoad(flipped));
    if (status == RETORT_OK) {
      std::vector<SourceRecord> some;
      RawCall call;
      RETORT_FAIL_IF_ERROR(other.Next(3, &some, call, /*may_fail=*/true));
    }
  }
  return Finding::Pass();
}

Finding CancelledBefore(const Subject& subject) {
  RETORT_FIND(SourceProbe source, SourceProbe::Make(subject));
  RawCall call;
  call.SetCancel(true);
  std::vector<SourceRecord> records;
  const Stopwatch watch;
  RETORT_FAIL_IF_ERROR(source.Next(1000, &records, call, /*may_fail=*/true));
  if (source.returned() != RETORT_OK && source.returned() != RETORT_CANCELLED) {
    return Finding::Fail("with the cancel flag set next gave " + StatusName(source.returned()) +
                         "; expected CANCELLED, or OK when it was done anyway");
  }
  if (source.returned() == RETORT_CANCELLED && watch.Seconds() > kCancelSeconds) {
    return Finding::Fail("next took " + FormatSeconds(watch.Seconds()) + " to give CANCELLED");
  }
  // What `on` got before counts: the rest follows without a gap.
  if (!source.at_end()) {
    RETORT_FIND(const std::vector<SourceRecord> rest, source.Read(100, 500));
    records.insert(records.end(), rest.begin(), rest.end());
  }
  RETORT_FIND(SourceProbe other, SourceProbe::Make(subject));
  RETORT_FIND(const std::vector<SourceRecord> expected, other.Read(100, records.size()));
  return SameOrFail(Difference(expected, records), "after a cancelled call");
}

constexpr Rule kRules[] = {
    {"source.records", "R6", "records are JSON objects with a uid and an origin",
     "give records that can't be read a status and their text as it is", Records},
    {"source.uids", "R9", "every record has a uid of its own",
     "derive the uid from the position or a hash of the record's place, not its content alone",
     Uids},
    {"source.sizes", "R9", "1, 3 or 1000 records a call: the same records",
     "count only what was given to on, and stop at max_n", Sizes},
    {"source.none", "R6", "max_n = 0 gives no record and moves nothing",
     "return OK at once when max_n is 0", None},
    {"source.again", "R9", "a second instance gives the same records and uids",
     "read in a fixed order (sort folders), and take no uid from time or addresses", Again},
    {"source.end", "R6", "after the end next gives nothing, and *end stays 1",
     "set *end on every call after the last record", End},
    {"source.resume", "R9", "save and load continue exactly where on had got to",
     "save the position after the last record that on got", Resume},
    {"source.short_io", "R6", "state goes through sinks and readers of a few bytes a call",
     "loop until all bytes are written or read; short counts are legal", ShortIo},
    {"source.bad_state", "R7", "bytes that save did not write are refused with DATA_LOSS",
     "begin the state with a magic and its length, and compare sizes before use", BadState},
    {"source.cancel", "R7", "with the cancel flag set: CANCELLED soon, or done; no record is lost",
     "poll call->cancel between records and return RETORT_CANCELLED", CancelledBefore},
};

}  // namespace

std::span<const Rule> SourceRules() { return kRules; }

}  // namespace retort::host::check
