// SPDX-License-Identifier: Apache-2.0
#include "host/check/child.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/json/json.h"
#include "host/check/rule.h"
#include "host/check/tables.h"
#include "host/library/guard.h"
#include "host/plugin/loader.h"

namespace retort::host::check {
namespace {

constexpr int kBadRequest = 2;
// Where the report's descriptor is moved to: plugins that close the standard ones don't hit it.
constexpr int kHighDescriptor = 200;

void WriteAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(fd, text.data(), text.size());
    if (n <= 0) return;
    text.remove_prefix(static_cast<size_t>(n));
  }
}

std::string OrEmpty(const char* text) { return text == nullptr ? "" : text; }

// What the library says about itself, as it says it: the rules judge it later.
Result<std::string> List(const std::string& path) {
  RETORT_ASSIGN_OR_RETURN(const LoadedLibrary library, OpenLibrary(path));
  const retort_entry& entry = *library.entry;
  json::Writer out;
  out.BeginObject().Field("library", entry.library).Field("version", entry.version);
  out.Field("license", entry.license).Field("hash", library.hash);
  out.Key("plugins").BeginArray();
  const uint32_t n = entry.count();
  if (n > 10'000) return InvalidArgument("count() says " + std::to_string(n) + " plugins");
  for (uint32_t i = 0; i < n; ++i) {
    const retort_descriptor* d = entry.describe(i);
    if (d == nullptr) {
      return InvalidArgument("describe(" + std::to_string(i) + ") gave NULL, count() says " +
                             std::to_string(n));
    }
    out.BeginObject().Field("kind", OrEmpty(d->kind)).Field("id", OrEmpty(d->id));
    out.Field("version", OrEmpty(d->version)).Field("summary", OrEmpty(d->summary));
    out.Field("schema", OrEmpty(d->config_schema)).EndObject();
  }
  return out.EndArray().EndObject().Take();
}

std::string ReportOf(const Finding& finding) {
  static constexpr const char* kWords[] = {"pass", "fail", "skip"};
  json::Writer out;
  out.BeginObject().Field("verdict", kWords[static_cast<size_t>(finding.verdict)]);
  return out.Field("text", finding.text).EndObject().Take();
}

// A Finding out of Guard, which makes a Status from what was thrown.
struct Caught {
  Caught(Finding found) : finding(std::move(found)) {}  // NOLINT: implicit by design
  Caught(Status status)                                 // NOLINT: implicit by design
      : finding(Finding::Fail("an exception came out: " + status.message())) {}
  Finding finding;
};

Finding RunRule(const Rule& rule, Subject* subject) {
  if (!rule.opens_itself) {
    Result<LoadedLibrary> library = OpenLibrary(subject->path);
    if (!library.ok()) return Finding::Fail(library.status().message());
    subject->entry = library->entry;
  }
  return Guard([&]() -> Caught { return rule.run(*subject); }).finding;
}

Result<std::string> Answer(const json::Value& request) {
  const auto text = [&](const char* key) { return std::string(request[key].StringOr("")); };
  Subject subject;
  subject.path = text("path");
  if (text("do") == "list") return List(subject.path);
  const Rule* rule = FindRule(text("rule"));
  if (rule == nullptr) return NotFound("no rule \"" + text("rule") + "\"");
  subject.kind = text("kind");
  subject.id = text("id");
  subject.config = text("config");
  subject.config_schema = text("schema");
  subject.engine_path = text("engine");
  subject.model = text("model");
  subject.inputs = text("inputs");
  RETORT_ASSIGN_OR_RETURN(subject.seed, request["seed"].AsUint());
  return ReportOf(RunRule(*rule, &subject));
}

}  // namespace

int ChildMain(int argc, char** argv) {
  if (argc != 4) {
    std::fputs("this mode is for `retort plugin check`: check DESCRIPTOR REQUEST\n", stderr);
    return kBadRequest;
  }
  const int given = std::atoi(argv[2]);
  const int high = fcntl(given, F_DUPFD_CLOEXEC, kHighDescriptor);
  const int fd = high >= 0 ? high : given;
  if (high >= 0) close(given);
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);  // crashes are expected here
  const Result<std::string> answer = Guard([&]() -> Result<std::string> {
    RETORT_ASSIGN_OR_RETURN(
        const json::Document request,
        json::Document::Parse(argv[3], "request", {.max_bytes = uint64_t{64} << 20}));
    return Answer(request.root());
  });
  json::Writer failed;
  if (!answer.ok()) failed.BeginObject().Field("error", answer.status().message()).EndObject();
  WriteAll(fd, answer.ok() ? *answer : failed.text());
  return 0;
}

}  // namespace retort::host::check
