// Rules of the library as a file and of its entry table.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/base/clock.h"
#include "core/io/filesystem.h"
#include "host/check/library_open.h"
#include "host/check/process_state.h"
#include "host/check/raw_plugin.h"
#include "host/check/rule.h"
#include "host/check/texts.h"
#include "host/plugin/elf_file.h"
#include "host/plugin/loader.h"
#include "host/plugin/registry.h"

namespace retort::host::check {
namespace {

constexpr double kScanSeconds = 0.1;
constexpr const char* kNotLoaded = "it can't be loaded, see library.load";

Result<ElfSummary> ReadSummary(const Subject& subject) {
  RETORT_ASSIGN_OR_RETURN(const io::MappedFile file, io::MappedFile::Open(subject.path));
  return ReadElf(file.bytes(), subject.path);
}

Finding OneExport(const Subject& subject) {
  RETORT_FIND(const ElfSummary elf, ReadSummary(subject));
  if (elf.exports == std::vector<std::string>{RETORT_PLUGIN_ENTRY_SYMBOL}) return Finding::Pass();
  std::string names;
  for (size_t i = 0; i < std::min<size_t>(elf.exports.size(), 5); ++i) {
    names += (i == 0 ? "" : ", ") + elf.exports[i];
  }
  return Finding::Fail(
      "it exports " + std::to_string(elf.exports.size()) + " symbols" +
      (names.empty() ? "" : " (" + names + (elf.exports.size() > 5 ? ", ..." : "") + ")") +
      "; expected " RETORT_PLUGIN_ENTRY_SYMBOL " alone");
}

Finding NoLibTorch(const Subject& subject) {
  RETORT_FIND(const ElfSummary elf, ReadSummary(subject));
  for (const std::string& needed : elf.needed) {
    if (!needed.starts_with("libtorch") && !needed.starts_with("libc10")) continue;
    return Finding::Fail("it is linked against " + needed);
  }
  return Finding::Pass();
}

Finding ResolvesNow(const Subject& subject) {
  const RawLibrary library = OpenRaw(subject.path);
  return library.opened ? Finding::Pass() : Finding::Fail("the system says: " + library.error);
}

Finding FloatModeKept(const Subject& subject) {
  const RawLibrary library = OpenRaw(subject.path);
  if (!library.opened) return Finding::Skip("the system can't open it");
  const std::string difference =
      Difference("the floating-point mode", library.float_mode_before, library.float_mode_after);
  return difference.empty() ? Finding::Pass() : Finding::Fail(difference);
}

// Through the registry: whatever a host refuses is refused here, with the host's text.
Finding Loads(const Subject& subject) {
  PluginRegistry registry;
  const Status status = registry.LoadFile(subject.path);
  return status.ok() ? Finding::Pass() : Finding::Fail(status.message());
}

Finding StateKept(const Subject& subject) {
  const ProcessState before = ProcessState::Now();
  const Result<LoadedLibrary> library = OpenLibrary(subject.path);
  if (!library.ok()) return Finding::Skip(kNotLoaded);
  for (uint32_t i = 0; i < library->entry->count(); ++i) library->entry->describe(i);
  const ProcessState after = ProcessState::Now();
  for (const std::string& difference :
       {Difference("locale", before.locale, after.locale),
        Difference("current folder", before.folder, after.folder),
        Difference("umask", before.file_mode, after.file_mode),
        Difference("signal handlers", before.signals, after.signals),
        Difference("environment", before.environment, after.environment),
        Difference("descriptors 0 to 2", before.descriptors, after.descriptors),
        Difference("limits", before.limits, after.limits)}) {
    if (!difference.empty()) return Finding::Fail("loading and init: " + difference);
  }
  return Finding::Pass();
}

Finding Quiet(const Subject& subject) {
  OutputCapture capture;
  const Result<LoadedLibrary> library = OpenLibrary(subject.path);
  if (!library.ok()) return Finding::Skip(kNotLoaded);
  for (uint32_t i = 0; i < library->entry->count(); ++i) library->entry->describe(i);
  const std::string text = capture.Finish();
  return text.empty() ? Finding::Pass() : Finding::Fail("loading and init wrote " + Quoted(text));
}

Finding NoThreads(const Subject& subject) {
  const int64_t before = ProcessCounts::Now().threads;
  const Result<LoadedLibrary> library = OpenLibrary(subject.path);
  if (!library.ok()) return Finding::Skip(kNotLoaded);
  for (uint32_t i = 0; i < library->entry->count(); ++i) library->entry->describe(i);
  const int64_t after = ProcessCounts::Now().threads;
  if (after == before) return Finding::Pass();
  return Finding::Fail("after init there are " + std::to_string(after) + " threads, before " +
                       std::to_string(before));
}

// The best of three: a busy machine may delay one.
Finding ScanTime(const Subject& subject) {
  const retort_entry& entry = *subject.entry;
  double best = 1e9;
  for (int i = 0; i < 3; ++i) {
    const Stopwatch watch;
    if (entry.init(subject.path.c_str()) != RETORT_OK) {
      return Finding::Skip("init fails when called again, see library.init_again");
    }
    for (uint32_t k = 0; k < entry.count(); ++k) entry.describe(k);
    best = std::min(best, watch.Seconds());
    if (entry.deinit != nullptr) entry.deinit();
  }
  if (best <= kScanSeconds) return Finding::Pass();
  return Finding::Fail("init and describing took " + std::to_string(static_cast<int>(best * 1e3)) +
                       " ms at best of three; 100 ms are allowed");
}

// The host stops at one init; an embedding program that is started anew in the same process is
// another matter.
Finding InitAgain(const Subject& subject) {
  const retort_entry& entry = *subject.entry;
  const uint32_t n = entry.count();
  for (int i = 0; i < 3; ++i) {
    if (entry.deinit != nullptr) entry.deinit();
    const retort_status status = entry.init(subject.path.c_str());
    if (status != RETORT_OK) {
      return Finding::Fail("init number " + std::to_string(i + 2) + " gave " + StatusName(status));
    }
    if (entry.count() != n || (n > 0 && entry.describe(n - 1) == nullptr)) {
      return Finding::Fail("after init number " + std::to_string(i + 2) + " count() is " +
                           std::to_string(entry.count()) + ", it was " + std::to_string(n));
    }
  }
  return Finding::Pass();
}

Finding DescribeEnd(const Subject& subject) {
  const uint32_t n = subject.entry->count();
  for (const uint32_t index : {n, n + 1, n + 1000, UINT32_MAX}) {
    if (subject.entry->describe(index) == nullptr) continue;
    return Finding::Fail("describe(" + std::to_string(index) + ") gave a descriptor; count() is " +
                         std::to_string(n));
  }
  return Finding::Pass();
}

// Everything a descriptor says, in one text.
std::string Snapshot(const retort_descriptor& d) {
  const auto text = [](const char* s) { return s == nullptr ? "(NULL)" : std::string(s) + "\x1f"; };
  return std::to_string(d.struct_size) + "/" + std::to_string(d.flags) + text(d.kind) + text(d.id) +
         text(d.version) + text(d.summary) + text(d.config_schema);
}

Finding DescriptorStable(const Subject& subject) {
  const retort_entry& entry = *subject.entry;
  std::vector<std::string> first;
  std::vector<const retort_descriptor*> at;
  for (uint32_t i = 0; i < entry.count(); ++i) {
    at.push_back(entry.describe(i));
    first.push_back(Snapshot(*at.back()));
  }
  for (uint32_t i = 0; i < entry.count(); ++i) {
    const retort_descriptor* again = entry.describe(i);
    // Also what the first answer points to must have stayed.
    if (again != nullptr && Snapshot(*again) == first[i] && Snapshot(*at[i]) == first[i]) continue;
    return Finding::Fail("describe(" + std::to_string(i) + ") gave something else the second time");
  }
  return Finding::Pass();
}

bool IsId(const std::string& id) {
  const auto low = [](char c) { return c >= 'a' && c <= 'z'; };
  return !id.empty() && low(id[0]) && std::all_of(id.begin(), id.end(), [&](char c) {
    return low(c) || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
  });
}

std::string WrongDescriptor(const retort_descriptor* d, std::set<std::string>* seen) {
  static const std::set<std::string> kKinds = {
      RETORT_KIND_FAMILY, RETORT_KIND_OP,     RETORT_KIND_LOSS,   RETORT_KIND_OPTIMIZER,
      RETORT_KIND_REWARD, RETORT_KIND_FILTER, RETORT_KIND_SOURCE, RETORT_KIND_GENERATOR};
  if (d == nullptr) return "is NULL";
  if (d->struct_size < sizeof(retort_descriptor)) {
    return "has struct_size " + std::to_string(d->struct_size) + ", expected at least " +
           std::to_string(sizeof(retort_descriptor));
  }
  if (d->kind == nullptr || kKinds.count(d->kind) == 0) {
    return "has the unknown kind " + (d->kind == nullptr ? "NULL" : Quoted(d->kind));
  }
  if (d->id == nullptr || !IsId(d->id)) {
    return "has the id " + (d->id == nullptr ? "NULL" : Quoted(d->id)) +
           "; expected [a-z][a-z0-9_.-]*";
  }
  if (!seen->insert(std::string(d->kind) + "/" + d->id).second) return "has an id that is taken";
  if (d->version == nullptr || d->version[0] == '\0') return "has no version";
  if (d->summary == nullptr || d->summary[0] == '\0') return "has no summary";
  if (!IsUtf8(d->summary) || std::strchr(d->summary, '\n') != nullptr) {
    return "has a summary that is no single line of UTF-8";
  }
  constexpr uint32_t kKnown =
      RETORT_PLUGIN_ISOLATE_PREFERRED | RETORT_PLUGIN_NETWORK | RETORT_PLUGIN_GPU;
  if ((d->flags & 0xFFFFU & ~kKnown) != 0) return "has unknown flags " + std::to_string(d->flags);
  return "";
}

Finding Descriptors(const Subject& subject) {
  const uint32_t n = subject.entry->count();
  if (n == 0) return Finding::Fail("count() is 0: the library has no plugin");
  std::set<std::string> seen;
  for (uint32_t i = 0; i < n; ++i) {
    const std::string why = WrongDescriptor(subject.entry->describe(i), &seen);
    if (!why.empty()) return Finding::Fail("descriptor " + std::to_string(i) + " " + why);
  }
  return Finding::Pass();
}

// create must refuse it, with a text, and leave *out alone.
Finding RefusesPlugin(const retort_entry& entry, const char* kind, const char* id) {
  const RawHost host;
  RawCall call;
  auto* const nothing = reinterpret_cast<retort_instance*>(&call);
  retort_instance* out = nothing;
  const retort_status status = entry.create(host.get(), call.Begin(), kind, id, {"{}", 2}, &out);
  const std::string what = std::string("create of ") + kind + "/" + id;
  RETORT_FAIL_IF_ERROR(call.EndFailed(status, what));
  if (status != RETORT_NOT_FOUND) {
    return Finding::Fail(what + " gave " + StatusName(status) + "; expected NOT_FOUND");
  }
  if (out != nothing) return Finding::Fail(what + " failed and wrote to *out");
  return Finding::Pass();
}

Finding UnknownPlugin(const Subject& subject) {
  const retort_entry& entry = *subject.entry;
  RETORT_PASS_OR_RETURN(RefusesPlugin(entry, "teapot", "nothing"));
  const retort_descriptor* first = entry.count() == 0 ? nullptr : entry.describe(0);
  if (first == nullptr) return Finding::Skip("it has no plugin");
  RETORT_PASS_OR_RETURN(RefusesPlugin(entry, first->kind, "nobody-has-this-id"));
  return RefusesPlugin(entry, "teapot", first->id);
}

constexpr const char* kBuild = "build it with retort_add_plugin() of the SDK";

constexpr Rule kRules[] = {
    {"library.export", "R1", "exports retort_plugin_entry_v1 and nothing else", kBuild, OneExport,
     true},
    {"library.needed", "R6", "is not linked against LibTorch",
     "compute on the plain tensors that the host hands over", NoLibTorch, true},
    {"library.resolve", "R1", "every symbol that it needs is found at once (RTLD_NOW)",
     "link with -Wl,-z,defs and what the linker then misses", ResolvesNow, true},
    {"library.float_mode", "R7", "opening it leaves the floating-point mode alone",
     "do not link with -ffast-math or -Ofast", FloatModeKept, true},
    {"library.load", "R2", "a host loads it: file, entry table, init, descriptors, schemas",
     "see the text; docs/abi.md lists what is refused", Loads, true},
    {"library.state", "R7", "loading and init change nothing of the process",
     "no setlocale, chdir, umask, sigaction, setenv, close in initialisers or init", StateKept,
     true},
    {"library.output", "R7", "loading and init write nothing to the terminal",
     "write to call->log, in later calls", Quiet, true},
    {"library.threads", "R8", "loading and init start no thread",
     "start threads in create or in a call, and end them in destroy", NoThreads, true},
    {"library.scan_time", "R9", "init and describing take less than 100 ms",
     "open files and devices in create", ScanTime},
    {"library.init_again", "R10", "deinit and init again: the library works as before",
     "let deinit undo what init did, or do nothing in either", InitAgain},
    {"library.describe_end", "R2", "describe past the end gives NULL",
     "compare the index with count()", DescribeEnd},
    {"library.descriptor_stable", "R5", "describe gives the same bytes every time",
     "keep descriptors static", DescriptorStable},
    {"library.descriptor", "R5", "descriptors are complete: kind, id, version, summary",
     "fill every member of retort_descriptor; ids are [a-z][a-z0-9_.-]*", Descriptors},
    {"library.unknown_plugin", "R2",
     "create refuses kinds and ids that it doesn't have with NOT_FOUND",
     "compare kind and id, give a text through call->error, leave *out alone", UnknownPlugin},
};

}  // namespace

std::span<const Rule> LibraryRules() { return kRules; }

}  // namespace retort::host::check
