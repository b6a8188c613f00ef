// Rules of generators. One that needs a server needs --config.
// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "core/base/clock.h"
#include "host/check/generator_probe.h"
#include "host/check/library_facts.h"
#include "host/check/rule.h"
#include "host/check/texts.h"

namespace retort::host::check {
namespace {

constexpr double kSlackSeconds = 2;  // beyond a deadline; machines are busy
constexpr uint64_t kUnknownUid = 999'999'999;

Finding Empty(const Subject& subject) {
  RETORT_FIND(GeneratorProbe generator, GeneratorProbe::Make(subject));
  RETORT_FIND(const uint64_t taken, generator.Submit({}));
  if (taken != 0) return Finding::Fail("submit took " + std::to_string(taken) + " of 0 requests");
  RETORT_FAIL_IF_ERROR(generator.Poll(20));
  return Finding::Pass();
}

Finding Done(const Subject& subject) {
  RETORT_FIND(GeneratorProbe generator, GeneratorProbe::Make(subject));
  RETORT_FAIL_IF_ERROR(generator.SubmitAll(OrdinaryRequests(subject, 6)));
  RETORT_FAIL_IF_ERROR(generator.Finish());
  for (int i = 0; i < 3; ++i) RETORT_FAIL_IF_ERROR(generator.Poll(20));  // nothing may follow
  if (generator.errors().size() < 6) return Finding::Pass();
  return Finding::Fail("every request failed, the first with " +
                       Quoted(generator.errors().begin()->second) +
                       "; name a config that works in --config");
}

Finding Deltas(const Subject& subject) {
  RETORT_FIND(GeneratorProbe generator, GeneratorProbe::Make(subject));
  RETORT_FAIL_IF_ERROR(generator.SubmitAll(OrdinaryRequests(subject, 4)));
  RETORT_FAIL_IF_ERROR(generator.Finish());
  for (const auto& [key, sample] : generator.samples()) {
    if (sample.n_deltas == 0 || !sample.done || sample.deltas == sample.text) continue;
    return Finding::Fail("the deltas of sample " + std::to_string(key.second) + " of request " +
                         std::to_string(key.first) + " join to " + Quoted(sample.deltas) +
                         ", DONE has " + Quoted(sample.text));
  }
  return Finding::Pass();
}

// The memory of the requests is unmapped as soon as submit has returned.
Finding Copies(const Subject& subject) {
  RETORT_FIND(GeneratorProbe generator, GeneratorProbe::Make(subject));
  RETORT_FAIL_IF_ERROR(generator.Submit(OrdinaryRequests(subject, 4), 0, /*forget=*/true).status());
  return Finding::Of(generator.Finish());
}

Finding Queue(const Subject& subject) {
  RETORT_FIND(GeneratorProbe generator, GeneratorProbe::Make(subject));
  RETORT_FAIL_IF_ERROR(generator.SubmitAll(OrdinaryRequests(subject, 100)));
  return Finding::Of(generator.Finish());
}

Finding CancelOne(const Subject& subject) {
  RETORT_FIND(GeneratorProbe generator, GeneratorProbe::Make(subject));
  const std::vector<GeneratorRequest> requests = OrdinaryRequests(subject, 5);
  RETORT_FAIL_IF_ERROR(generator.SubmitAll(requests));
  RETORT_FIND(const retort_status status, generator.Cancel(requests[1].uid));
  if (status != RETORT_OK && status != RETORT_NOT_FOUND) {
    return Finding::Fail("cancel of a submitted request gave " + StatusName(status) +
                         "; expected OK (or NOT_FOUND when it was done)");
  }
  RETORT_FAIL_IF_ERROR(generator.Finish());  // sees an event of the cancelled one
  return Finding::Of(generator.Poll(50));
}

Finding CancelUnknown(const Subject& subject) {
  RETORT_FIND(GeneratorProbe generator, GeneratorProbe::Make(subject));
  for (int i = 0; i < 2; ++i) {
    RETORT_FIND(const retort_status status, generator.Cancel(kUnknownUid));
    if (status != RETORT_OK && status != RETORT_NOT_FOUND) {
      return Finding::Fail("cancel of an unknown uid gave " + StatusName(status) +
                           "; expected OK or NOT_FOUND");
    }
    if (i == 0) RETORT_FAIL_IF_ERROR(generator.SubmitAll(OrdinaryRequests(subject, 2)));
  }
  return Finding::Of(generator.Finish());
}

Finding Deadline(const Subject& subject) {
  RETORT_FIND(GeneratorProbe generator, GeneratorProbe::Make(subject));
  for (const int64_t wait_ms : {int64_t{50}, int64_t{0}, int64_t{-1000}}) {
    const Stopwatch watch;
    RETORT_FAIL_IF_ERROR(generator.Poll(wait_ms));
    if (watch.Seconds() <= static_cast<double>(wait_ms) * 1e-3 + kSlackSeconds) continue;
    return Finding::Fail("poll with nothing to wait for and a deadline in " +
                         std::to_string(wait_ms) + " ms returned after " +
                         FormatSeconds(watch.Seconds()));
  }
  return Finding::Pass();
}

Finding CancelFlag(const Subject& subject) {
  RETORT_FIND(GeneratorProbe generator, GeneratorProbe::Make(subject));
  RawCall call;
  call.SetCancel(true);
  const Stopwatch watch;
  RETORT_FAIL_IF_ERROR(generator.Poll(5000, call, /*may_fail=*/true));
  if (watch.Seconds() <= kSlackSeconds) return Finding::Pass();
  return Finding::Fail("poll with the cancel flag set and a deadline in 5 s returned after " +
                       FormatSeconds(watch.Seconds()));
}

Finding SameKey(const Subject& subject) {
  if (HasDescriptorFlag(subject, RETORT_PLUGIN_NETWORK)) {
    return Finding::Skip("its descriptor has the flag NETWORK");
  }
  const std::vector<GeneratorRequest> requests = OrdinaryRequests(subject, 4);
  RETORT_FIND(GeneratorProbe one, GeneratorProbe::Make(subject));
  RETORT_FAIL_IF_ERROR(one.SubmitAll(requests));
  RETORT_FAIL_IF_ERROR(one.Finish());
  RETORT_FIND(GeneratorProbe two, GeneratorProbe::Make(subject));
  for (size_t i = requests.size(); i-- > 0;) {  // one by one, the other way round
    RETORT_FAIL_IF_ERROR(two.SubmitAll({requests[i]}));
    RETORT_FAIL_IF_ERROR(two.Finish());
  }
  for (const auto& [key, sample] : one.samples()) {
    const auto other = two.samples().find(key);
    if (other != two.samples().end() && other->second.text == sample.text) continue;
    return Finding::Fail("sample " + std::to_string(key.second) + " of request " +
                         std::to_string(key.first) + " was " + Quoted(sample.text) +
                         ", on a fresh instance in another order " +
                         (other == two.samples().end() ? "missing" : Quoted(other->second.text)));
  }
  return Finding::Pass();
}

Finding DestroyBusy(const Subject& subject) {
  RETORT_FIND(GeneratorProbe generator, GeneratorProbe::Make(subject));
  RETORT_FAIL_IF_ERROR(generator.Submit(OrdinaryRequests(subject, 20)).status());
  const Stopwatch watch;
  RETORT_FAIL_IF_ERROR(generator.instance().Destroy());
  if (watch.Seconds() <= kSlackSeconds) return Finding::Pass();
  return Finding::Fail("destroy with requests under way took " + FormatSeconds(watch.Seconds()));
}

constexpr Rule kRules[] = {
    {"generator.empty", "R6", "submit of 0 requests takes none; poll then gives nothing",
     "return OK at once when n is 0", Empty},
    {"generator.done", "R6", "each sample is DONE exactly once (or its request ends in an ERROR)",
     "count the open samples of each request, and forget it after the last", Done},
    {"generator.deltas", "R6", "the deltas of a sample join to the text of DONE",
     "give DELTA the new text alone, DONE the whole", Deltas},
    {"generator.copies", "R6", "requests are copied: their memory may go when submit returns",
     "copy texts and ids in submit", Copies},
    {"generator.queue", "R6", "100 requests get through, in as many calls as its queue needs",
     "set *n_taken to what fits, and make room as samples are done", Queue},
    {"generator.cancel", "R8", "no event of a request after cancel returned",
     "drop what is queued and what is ready, in cancel", CancelOne},
    {"generator.cancel_unknown", "R7", "cancel of an unknown uid harms nothing",
     "answer OK or NOT_FOUND (with a text)", CancelUnknown},
    {"generator.deadline", "R9", "poll returns at its deadline",
     "wait with a timeout until call->deadline_ns (CLOCK_MONOTONIC)", Deadline},
    {"generator.cancel_flag", "R7", "poll returns soon when the cancel flag is set",
     "wake up every 10 ms and look at call->cancel", CancelFlag},
    {"generator.same_key", "R9", "same key and request: same text, in any order",
     "derive randomness from call->key, the uid and the sample's number", SameKey},
    {"generator.destroy_busy", "R8", "destroy ends with requests under way",
     "cancel what is under way and join the threads in destroy", DestroyBusy},
};

}  // namespace

std::span<const Rule> GeneratorRules() { return kRules; }

}  // namespace retort::host::check
