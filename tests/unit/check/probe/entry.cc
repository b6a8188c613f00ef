// The entry table, and what the plugins share.
// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <cstdlib>
#include <vector>

#include "probe.h"

namespace probe {

int n_created = 0;
thread_local bool is_creator = false;

void Leak(size_t bytes) {
  static void* volatile kept = nullptr;  // so that no compiler leaves the allocation out
  kept = std::malloc(bytes);
  static_cast<void>(kept);
}

void UseOldCall(const Instance& self, const retort_call* call) {
  static const retort_call* old = nullptr;
  constexpr int64_t kSecondStep = 8;
  if (!self.Is("reward.old_calls") && !self.Is("filter.old_calls")) return;
  if (call->step == kSecondStep) old->log(old->ctx, RETORT_LOG_INFO, {"late", 4});
  old = call;
}

std::string_view OddityOf(const retort_sample& s) {
  const std::string_view text = View(s.completion);
  if (s.completion.ptr == nullptr) return "absent_texts";
  if (text.empty()) return "empty_texts";
  if (text.find('\0') != std::string_view::npos) return "nul_bytes";
  if (text.find('\xFF') != std::string_view::npos) return "broken_utf8";
  return text.size() > 5'000'000 ? "long_text" : "";
}

bool WriteAll(const retort_sink* sink, std::string_view bytes, bool once) {
  while (!bytes.empty()) {
    const int64_t n = sink->write(sink->ctx, bytes.data(), bytes.size());
    if (n <= 0) return false;
    if (once) return true;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

std::string ReadAll(const retort_reader* reader) {
  std::string bytes;
  char buffer[64];
  for (int64_t n = 0; (n = reader->read(reader->ctx, buffer, sizeof(buffer))) > 0;) {
    bytes.append(buffer, static_cast<size_t>(n));
    if (bytes.size() > 1000) break;
  }
  return bytes;
}

std::string Pack(uint64_t value) {
  const std::string number = std::to_string(value);
  return "probe " + number + " " + std::to_string(number.size()) + ".";
}

bool Unpack(std::string_view bytes, uint64_t* value) {
  char* end = nullptr;
  const std::string text(bytes.substr(0, 6) == "probe " ? bytes.substr(6) : "");
  *value = std::strtoull(text.c_str(), &end, 10);
  return Pack(*value) == bytes;
}

namespace {

const std::vector<std::pair<const char*, const char*>>& Ids() {
  static const std::vector<std::pair<const char*, const char*>> kIds = {
#define PROBE(kind, id) {kind, id},
#include "ids.inc"
#undef PROBE
  };
  return kIds;
}

constexpr const char* kSchema =
    R"({"type": "object", "properties": {"limit": {"type": "integer", "minimum": 0, "maximum": 9,
        "default": 3}}})";
retort_status Init(const char*) { return RETORT_OK; }
uint32_t Count() { return static_cast<uint32_t>(Ids().size()); }

const retort_descriptor* Describe(uint32_t index) {
  static const std::vector<retort_descriptor> kAll = [] {
    std::vector<retort_descriptor> all;
    for (const auto& [kind, id] : Ids()) {
      all.push_back({sizeof(retort_descriptor), 0, kind, id, "1.0.0", "breaks a rule", kSchema});
    }
    return all;
  }();
  return index < kAll.size() ? &kAll[index] : nullptr;
}

bool IsKnown(const char* kind, const char* id) {
  for (const auto& [known_kind, known_id] : Ids()) {
    if (std::strcmp(kind, known_kind) == 0 && std::strcmp(id, known_id) == 0) return true;
  }
  return false;
}

retort_status Create(const retort_host* host, const retort_call* call, const char* kind,
                     const char* id, retort_str config, retort_instance** out) {
  const std::string deed = id;
  if (!IsKnown(kind, id)) return Fail(call, RETORT_NOT_FOUND, "no such plugin");
  if (deed == "instance.create") return Fail(call, RETORT_INVALID_ARGUMENT, "/limit: never good");
  if (deed == "growth.host" && host->struct_size != sizeof(retort_host)) {
    return Fail(call, RETORT_INVALID_ARGUMENT, "host of another size");
  }
  if (View(config).substr(0, 1) != "{") {
    if (deed == "instance.bad_config") return RETORT_INVALID_ARGUMENT;  // without a text
    return Fail(call, RETORT_INVALID_ARGUMENT, "(config): no object");
  }
  if (deed == "instance.create_many") Leak(200);
  ++n_created;
  is_creator = true;
  const std::string_view k = kind;
  Instance* made = k == RETORT_KIND_FILTER      ? NewFilter(deed)
                   : k == RETORT_KIND_SOURCE    ? NewSource(deed)
                   : k == RETORT_KIND_GENERATOR ? NewGenerator(deed)
                                                : NewReward(deed);
  *out = reinterpret_cast<retort_instance*>(made);
  return RETORT_OK;
}

void Destroy(retort_instance* self) {
  if (Of(self).Is("instance.destroy_time")) usleep(2'500'000);
  delete &Of(self);
}

const void* GetInterface(retort_instance* self, const char* id) {
  if (Of(self).Is("instance.interface") && std::strcmp(id, "retort.nothing/1") == 0) return self;
  return Of(self).Table(id);
}

const retort_entry kEntry = {sizeof(retort_entry),
                             RETORT_ABI_MINOR,
                             "probe",
                             "1.0.0",
                             "Apache-2.0",
                             "for tests",
                             Init,
                             nullptr,
                             Count,
                             Describe,
                             Create,
                             Destroy,
                             GetInterface};

}  // namespace
}  // namespace probe

const retort_entry* retort_plugin_entry_v1() { return &probe::kEntry; }
