// Rules of an instance of any kind: created, used, destroyed, without a trace.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/clock.h"
#include "core/json/schema.h"
#include "host/check/library_facts.h"
#include "host/check/process_state.h"
#include "host/check/raw_plugin.h"
#include "host/check/rule.h"
#include "host/check/texts.h"
#include "host/check/use.h"
#include "host/plugin/registry.h"
#include "retort/abi/draft/family.h"
#include "retort/abi/draft/generator.h"
#include "retort/abi/draft/loss.h"
#include "retort/abi/draft/op.h"
#include "retort/abi/draft/optimizer.h"
#include "retort/abi/draft/source.h"
#include "retort/abi/filter.h"
#include "retort/abi/reward.h"

namespace retort::host::check {
namespace {

constexpr double kDestroySeconds = 2;
constexpr double kSettleSeconds = 1;
constexpr uint64_t kHeldBytesMax = uint64_t{1} << 30;  // that a plugin may keep, for good
constexpr double kBudgetSeconds = 8;  // of rules that repeat: fewer rounds for slow plugins

// Its work fails: that is instance.use's to report, other rules have nothing to look at.
Finding NoWork() { return Finding::Skip("its work fails, see instance.use"); }

Finding Works(const Subject& subject) { return Finding::Of(UseOnce(subject).status()); }

Finding Creates(const Subject& subject) {
  RETORT_FIND(RawInstance instance, RawInstance::Create(subject));
  return Finding::Of(instance.Destroy());
}

struct KindTable {
  std::string_view kind;
  std::vector<const char*> any_of;
};

Finding Interfaces(const Subject& subject) {
  static const KindTable kTables[] = {
      {RETORT_KIND_REWARD, {RETORT_REWARD_INTERFACE}},
      {RETORT_KIND_FILTER, {RETORT_FILTER_INTERFACE}},
      {RETORT_KIND_SOURCE, {RETORT_SOURCE_INTERFACE}},
      {RETORT_KIND_GENERATOR, {RETORT_GENERATOR_INTERFACE}},
      {RETORT_KIND_LOSS, {RETORT_TOKEN_LOSS_INTERFACE, RETORT_SEQUENCE_LOSS_INTERFACE}},
      {RETORT_KIND_OPTIMIZER, {RETORT_OPTIMIZER_INTERFACE}},
      {RETORT_KIND_OP, {RETORT_OP_INTERFACE}},
      {RETORT_KIND_FAMILY, {RETORT_FAMILY_INTERFACE}}};
  RETORT_FIND(const RawInstance instance, RawInstance::Create(subject));
  for (const char* id : {"", "retort.nothing/1", "retort.reward", "retort.reward/999", "\xFF"}) {
    if (instance.Find(id) == nullptr) continue;
    return Finding::Fail(std::string("get_interface(\"") + id + "\") gave a table");
  }
  for (const KindTable& table : kTables) {
    if (table.kind != subject.kind) continue;
    std::string ids;
    for (const char* id : table.any_of) {
      const void* found = instance.Find(id);
      if (found == nullptr) {
        ids += (ids.empty() ? "" : " or ") + std::string(id);
      } else if (instance.Find(id) != found) {
        return Finding::Fail(std::string(id) + " gave another table the second time");
      } else {
        return Finding::Pass();
      }
    }
    return Finding::Fail("it has no interface " + ids);
  }
  return Finding::Fail("no kind \"" + subject.kind + "\" is known");
}

// Through the registry and its checked wrapper: whatever a host refuses is refused here.
Finding Accepted(const Subject& subject) {
  PluginRegistry registry;
  if (!registry.LoadFile(subject.path).ok()) {
    return Finding::Skip("no host loads the library, see library.load");
  }
  const RngKey key = RootKey(subject.seed, "check");
  return Finding::Of(
      registry.Create(subject.kind, subject.id, subject.config, {key.hi, key.lo}).status());
}

// The host's words: these are refused before any library code runs.
Finding Schema(const Subject& subject) {
  if (subject.config_schema.empty()) return Finding::Skip("it takes no config");
  const Status status = json::CheckSchema(subject.config_schema);
  if (!status.ok()) return Finding::Fail(status.message());
  RETORT_FIND(const json::Document schema,
              json::Document::Parse(subject.config_schema, "config schema"));
  if (schema.root()["required"].size() > 0) return Finding::Pass();
  const Result<std::string> defaults = json::ResolveConfig(subject.config_schema, "{}");
  return defaults.ok() ? Finding::Pass()
                       : Finding::Fail("its defaults don't fit it: " + defaults.status().message());
}

// The subject's config with `key` set to `value`.
std::string With(const json::Value& config, std::string_view key, std::string_view value) {
  json::Writer out;
  out.BeginObject();
  for (size_t i = 0; i < config.size(); ++i) {
    if (config.key_at(i) != key) out.Key(config.key_at(i)).Copy(config.value_at(i));
  }
  return out.Key(key).Raw(value).EndObject().Take();
}

// Values of a property's type that its schema refuses.
std::vector<std::string> BeyondSchema(const json::Value& property) {
  std::vector<std::string> values;
  const auto beyond = [&](const char* bound, double step) {
    const json::Value limit = property[bound];
    if (!limit.is_number()) return;
    json::Writer out;
    const Result<int64_t> whole = limit.AsInt();
    const bool fits = whole.ok() && *whole > INT64_MIN / 2 && *whole < INT64_MAX / 2;
    if (fits) {
      out.Int(*whole + static_cast<int64_t>(step));
    } else {
      out.Double(limit.DoubleOr(0) + step);
    }
    values.push_back(out.Take());
  };
  beyond("minimum", -1);
  beyond("maximum", 1);
  if (property["enum"].is_array() && property["enum"][0].is_string()) {
    values.emplace_back("\"no such choice\"");
  }
  return values;
}

// Accepts it or refuses it as it must: INVALID_ARGUMENT, a text (that begins with `pointer`), *out
// left alone.
Finding RefusesWell(const Subject& subject, const std::string& config, const std::string& pointer) {
  const RawHost host;
  RawCall call;
  const GuardedBytes text{std::string_view(config)};
  auto* const nothing = reinterpret_cast<retort_instance*>(&call);
  retort_instance* out = nothing;
  const retort_status status = subject.entry->create(host.get(), call.Begin(), subject.kind.c_str(),
                                                     subject.id.c_str(), text.str(), &out);
  const std::string what = "create with the config " + Quoted(config);
  RETORT_FAIL_IF_ERROR(call.EndFailed(status, what));
  if (status == RETORT_OK) {
    if (out == nothing || out == nullptr) return Finding::Fail(what + " gave OK and no instance");
    subject.entry->destroy(out);
    return Finding::Pass();
  }
  if (out != nothing) return Finding::Fail(what + " failed and wrote to *out");
  if (status != RETORT_INVALID_ARGUMENT) {
    return Finding::Fail(what + " gave " + StatusName(status) + "; expected INVALID_ARGUMENT");
  }
  const std::string& error = call.error_text();
  if (error.starts_with(pointer) || error.starts_with("(config)")) return Finding::Pass();
  return Finding::Fail(what + " was refused with the text " + Quoted(error) +
                       "; expected it to begin with \"" + pointer + "\"");
}

Finding BadConfig(const Subject& subject) {
  for (const char* config : {"[]", "null", "7", "\"x\"", "{", "", "{\"a\" 1}", "\xFF"}) {
    RETORT_PASS_OR_RETURN(RefusesWell(subject, config, ""));
  }
  if (subject.config_schema.empty()) return Finding::Pass();
  RETORT_FIND(const json::Document schema,
              json::Document::Parse(subject.config_schema, "config schema"));
  RETORT_FIND(const json::Document config, json::Document::Parse(subject.config, "config"));
  const json::Value properties = schema.root()["properties"];
  for (size_t i = 0; i < properties.size(); ++i) {
    const std::string_view key = properties.key_at(i);
    for (const std::string& value : BeyondSchema(properties.value_at(i))) {
      RETORT_PASS_OR_RETURN(
          RefusesWell(subject, With(config.root(), key, value), "/" + std::string(key)));
    }
  }
  return Finding::Pass();
}

// Allowed growth between two points of a rule that repeats something n times.
struct Allowance {
  uint64_t heap_each, heap_fixed, resident_fixed;
};

Finding NotGrown(const ProcessCounts& before, const ProcessCounts& after, int64_t n,
                 const Allowance& allowed) {
  const std::string times = " over " + std::to_string(n) + " times";
  const auto grown = [](uint64_t a, uint64_t b) { return b > a ? b - a : uint64_t{0}; };
  const uint64_t heap = grown(before.heap_bytes, after.heap_bytes);
  const uint64_t resident = grown(before.resident_bytes, after.resident_bytes);
  if (heap > allowed.heap_fixed + allowed.heap_each * static_cast<uint64_t>(n)) {
    return Finding::Fail("the heap grew by " + std::to_string(heap) + " bytes" + times);
  }
  if (resident > allowed.resident_fixed) {
    return Finding::Fail("the resident memory grew by " + std::to_string(resident >> 10) + " KiB" +
                         times);
  }
  if (after.descriptors != before.descriptors) {
    return Finding::Fail("open descriptors went from " + std::to_string(before.descriptors) +
                         " to " + std::to_string(after.descriptors) + times);
  }
  const int64_t threads = SettledThreads(before.threads, kSettleSeconds);
  if (threads <= before.threads) return Finding::Pass();
  return Finding::Fail("threads went from " + std::to_string(before.threads) + " to " +
                       std::to_string(threads) + times);
}

// How often something is repeated, and what may be left behind.
struct Repetition {
  int64_t n_max, n_min, n_warm;  // n_min: however long they take
  Allowance allowed;
};

// Repeats `step` (OK, or what to return) and compares the process after the warm-up with the end.
template <class Step>
Finding Repeat(const Repetition& how, Step&& step) {
  const Stopwatch watch;
  const ProcessCounts start = ProcessCounts::Now();
  ProcessCounts warm = start;
  int64_t i = 0;
  for (; i < how.n_max && (i < how.n_min || watch.Seconds() < kBudgetSeconds); ++i) {
    if (i == how.n_warm) warm = ProcessCounts::Now();
    RETORT_PASS_OR_RETURN(step());
    // A leak so large that memory ends soon would show no growth later, or take the machine down.
    const ProcessCounts now = ProcessCounts::Now();
    const uint64_t grown =
        std::max(now.heap_bytes - std::min(now.heap_bytes, start.heap_bytes),
                 now.resident_bytes - std::min(now.resident_bytes, start.resident_bytes));
    if (grown > kHeldBytesMax) {
      return Finding::Fail("memory grew by " + std::to_string(grown >> 20) +
                           " MiB over the first " + std::to_string(i + 1) + " times");
    }
  }
  return NotGrown(warm, ProcessCounts::Now(), i - how.n_warm, how.allowed);
}

Finding CreateMany(const Subject& subject) {
  const Repetition how{
      .n_max = 1000,
      .n_min = 20,
      .n_warm = 10,
      .allowed = {.heap_each = 16, .heap_fixed = 2048, .resident_fixed = 8U << 20}};
  return Repeat(how, [&]() -> Finding {
    RETORT_FIND(RawInstance instance, RawInstance::Create(subject));
    return Finding::Of(instance.Destroy());
  });
}

Finding UseMany(const Subject& subject) {
  const Repetition how{
      .n_max = 200,
      .n_min = 10,
      .n_warm = 5,
      .allowed = {.heap_each = 64, .heap_fixed = 16'384, .resident_fixed = 16U << 20}};
  return Repeat(how, [&] { return UseOnce(subject).ok() ? Finding::Pass() : NoWork(); });
}

// Two instances of one config share nothing: one works on after the other is gone.
Finding TwoInstances(const Subject& subject) {
  const Result<std::string> alone = UseOnce(subject);
  if (!alone.ok()) return NoWork();
  RETORT_FIND(RawInstance other, RawInstance::Create(subject));
  UseShape shape;
  if (UseTakesShape(subject)) shape.destroyed_before_work = &other;
  RETORT_FIND(const std::string beside, UseOnce(subject, shape));
  if (*alone == beside || HasDescriptorFlag(subject, RETORT_PLUGIN_NETWORK)) return Finding::Pass();
  return Finding::Fail("beside another instance it gave other results");
}

Finding DestroyTime(const Subject& subject) {
  RETORT_FIND(RawInstance instance, RawInstance::Create(subject));
  const Stopwatch watch;
  RETORT_FAIL_IF_ERROR(instance.Destroy());
  if (watch.Seconds() <= kDestroySeconds) return Finding::Pass();
  return Finding::Fail("destroy took " + FormatSeconds(watch.Seconds()));
}

Finding ThreadsEnd(const Subject& subject) {
  const int64_t before = ProcessCounts::Now().threads;
  if (!UseOnce(subject).ok()) return NoWork();
  const int64_t after = SettledThreads(before, kSettleSeconds);
  if (after <= before) return Finding::Pass();
  return Finding::Fail("after destroy there are " + std::to_string(after) + " threads, before " +
                       "create " + std::to_string(before));
}

Finding NoChildren(const Subject& subject) {
  if (!UseOnce(subject).ok()) return NoWork();
  return ProcessCounts::Now().children == 0
             ? Finding::Pass()
             : Finding::Fail("after destroy there is a child process that it started");
}

Finding NoOutput(const Subject& subject) {
  OutputCapture capture;
  const Status status = UseOnce(subject).status();
  const std::string text = capture.Finish();
  if (!text.empty()) {
    return Finding::Fail("it wrote to standard output or error: " + Quoted(text));
  }
  return status.ok() ? Finding::Pass() : NoWork();
}

// A part of the process's state after create, after destroy and after a whole use.
template <std::string ProcessState::*kPart>
Finding Keeps(const Subject& subject) {
  const std::string before = ProcessState::Now().*kPart;
  RETORT_FIND(RawInstance instance, RawInstance::Create(subject));
  const std::string created = ProcessState::Now().*kPart;
  RETORT_FAIL_IF_ERROR(instance.Destroy());
  const std::string destroyed = ProcessState::Now().*kPart;
  const Status status = UseOnce(subject).status();
  const std::string used = ProcessState::Now().*kPart;
  for (const std::string& difference : {Difference("before create it", before, created),
                                        Difference("before destroy it", created, destroyed),
                                        Difference("before work it", destroyed, used)}) {
    if (!difference.empty()) return Finding::Fail(difference);
  }
  return status.ok() ? Finding::Pass() : NoWork();
}

constexpr const char* kLeak = "free in destroy what create and the calls took; caches need a bound";

constexpr Rule kRules[] = {
    {"instance.create", "R7", "create takes the config and gives an instance; destroy ends it",
     "give a config that it accepts with --config, or mend create; the text is the plugin's",
     Creates},
    {"instance.use", "R7", "an instance does its kind's work on ordinary input",
     "see the text; what the plugin can't work with goes into --config (ops: --inputs)", Works},
    {"instance.interface", "R2", "has its kind's table, always the same; NULL for unknown ids",
     "compare the whole id in get_interface, and return a static or instance-owned table",
     Interfaces},
    {"instance.accepted", "R2", "a host accepts it: tables of full size, no NULL function",
     "set struct_size to the table's size and fill every function that the kind needs", Accepted},
    {"instance.schema", "R5", "the config schema is valid and its defaults fit it",
     "use only the keywords of docs/abi.md, and defaults within their own limits", Schema, true},
    {"instance.bad_config", "R7",
     "a config that it refuses gets INVALID_ARGUMENT and the key's pointer",
     "begin the text with the JSON pointer of the key (\"/min: ...\"), and leave *out alone",
     BadConfig},
    {"instance.create_many", "R6", "1,000 instances leave no memory, descriptor or thread behind",
     kLeak, CreateMany},
    {"instance.use_many", "R6", "200 uses leave no memory, descriptor or thread behind", kLeak,
     UseMany},
    {"instance.two", "R6", "instances share nothing: one works on after another is gone",
     "keep state in the instance, not in globals", TwoInstances},
    {"instance.destroy_time", "R8", "destroy returns in time",
     "wake and join the plugin's threads in destroy", DestroyTime},
    {"instance.threads", "R8", "its own threads have ended when destroy returns",
     "join every thread in destroy; detach none", ThreadsEnd},
    {"instance.children", "R8", "leaves no child process behind",
     "end and wait for child processes before destroy returns", NoChildren},
    {"instance.output", "R7", "writes nothing to standard output and error",
     "use call->log; the output is the program's", NoOutput},
    {"instance.locale", "R7", "leaves the locale alone",
     "use functions that take a locale (newlocale, std::from_chars)", Keeps<&ProcessState::locale>},
    {"instance.folder", "R7", "leaves the current folder alone",
     "use absolute paths or openat instead of chdir", Keeps<&ProcessState::folder>},
    {"instance.umask", "R7", "leaves the umask alone", "use fchmod on the file instead of umask",
     Keeps<&ProcessState::file_mode>},
    {"instance.signals", "R7", "leaves signal handlers, mask and stack alone",
     "install no handler; block signals only in threads of your own",
     Keeps<&ProcessState::signals>},
    {"instance.float_mode", "R7", "leaves rounding, flushing and traps of floating point alone",
     "restore the mode with fesetenv before returning", Keeps<&ProcessState::float_mode>},
    {"instance.environment", "R7", "leaves the environment alone",
     "pass settings through the config instead of setenv", Keeps<&ProcessState::environment>},
    {"instance.descriptors", "R7", "leaves descriptors 0, 1 and 2 alone",
     "close only what the plugin itself has opened", Keeps<&ProcessState::descriptors>},
    {"instance.limits", "R7", "leaves limits and priority of the process alone",
     "call no setrlimit and no setpriority", Keeps<&ProcessState::limits>},
};

}  // namespace

std::span<const Rule> InstanceRules() { return kRules; }

}  // namespace retort::host::check
