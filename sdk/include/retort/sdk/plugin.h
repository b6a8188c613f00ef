// The part of the SDK that all kinds share: the host and a call as C++ objects, registration, and
// the library's one exported symbol. Authors include the header of their kind instead.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_SDK_PLUGIN_H_
#define RETORT_SDK_PLUGIN_H_

#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "retort/abi/entry.h"
#include "retort/sdk/guard.h"
#include "retort/sdk/json.h"

// Set by retort_add_plugin().
#ifndef RETORT_PLUGIN_LIBRARY
#define RETORT_PLUGIN_LIBRARY "unnamed"
#endif
#ifndef RETORT_PLUGIN_VERSION
#define RETORT_PLUGIN_VERSION "0.0.0"
#endif
#ifndef RETORT_PLUGIN_LICENSE
#define RETORT_PLUGIN_LICENSE "NOASSERTION"
#endif
#ifndef RETORT_PLUGIN_NAMESPACE
#define RETORT_PLUGIN_NAMESPACE library
#endif

namespace retort::sdk {

// The host's services; cheap to copy, valid as long as the instance.
class Host {
 public:
  explicit Host(const retort_host* host) : host_(host) {}
  const retort_host& raw() const { return *host_; }
  // NULL: this host has no such service.
  template <class Table>
  const Table* Find(const char* id) const {
    return static_cast<const Table*>(host_->get_interface(host_->ctx, id));
  }
  std::unique_ptr<Json> Parse(std::string_view text) const {
    const auto* api = Find<retort_host_json_v1>(RETORT_HOST_JSON_INTERFACE);
    if (api == nullptr) throw Failure(RETORT_UNIMPLEMENTED, "the host offers no JSON reader");
    return std::make_unique<Json>(api, text);
  }

 private:
  const retort_host* host_;
};

// What an author's constructor gets. Values die with the constructor: copy what you keep.
class Config : public JsonValue {
 public:
  Config(JsonValue root, Host host) : JsonValue(std::move(root)), host_(host) {}
  const Host& host() const { return host_; }  // may be kept

 private:
  Host host_;
};

// One call, as an author sees it.
class Call {
 public:
  explicit Call(const retort_call* call) : call_(call) {}
  const retort_call& raw() const { return *call_; }
  bool cancelled() const {
    return call_->cancel != nullptr && __atomic_load_n(call_->cancel, __ATOMIC_RELAXED) != 0;
  }
  void ThrowIfCancelled() const {
    if (cancelled()) throw Failure(RETORT_CANCELLED, "cancelled");
  }
  int64_t step() const { return call_->step; }
  retort_key key() const { return call_->key; }
  int n_threads() const { return call_->n_threads; }
  int64_t deadline_ns() const { return call_->deadline_ns; }  // CLOCK_MONOTONIC; 0: none
  void Log(int32_t level, std::string_view text) const {
    call_->log(call_->ctx, level, ToStr(text));
  }
  void Metric(std::string_view name, double sum, double count = 1) const {
    call_->metric(call_->ctx, ToStr(name), sum, count);
  }
  // Uninitialised memory until the call returns.
  template <class T>
  std::span<T> Scratch(size_t n) const {
    void* p = call_->scratch(call_->ctx, n * sizeof(T), 64);
    if (p == nullptr) throw Failure(RETORT_RESOURCE_EXHAUSTED, "no scratch memory left");
    return {static_cast<T*>(p), n};
  }

 private:
  const retort_call* call_;
};

// What create makes: the author's object behind the tables of its kind.
class Instance {
 public:
  virtual ~Instance() = default;
  virtual const void* GetInterface(std::string_view id) = 0;
  static Instance& Of(retort_instance* p) { return *reinterpret_cast<Instance*>(p); }
  retort_instance* handle() { return reinterpret_cast<retort_instance*>(this); }
};

struct Registration {
  retort_descriptor descriptor;
  std::unique_ptr<Instance> (*create)(const Config& config);
};

namespace internal {
// The library's own: of several that are linked into one program, each has its list.
inline namespace RETORT_PLUGIN_NAMESPACE {

inline constexpr size_t kMaxRegistrations = 64;
struct Registry {
  const Registration* items[kMaxRegistrations] = {};
  uint32_t n = 0;
};

// Hidden, so that two loaded libraries never share it.
__attribute__((visibility("hidden"))) inline Registry& TheRegistry() {
  static Registry registry;
  return registry;
}

struct Registrar {
  explicit Registrar(const Registration& item) {
    Registry& r = TheRegistry();
    if (r.n < kMaxRegistrations) r.items[r.n++] = &item;
  }
};

inline const Registration* FindRegistration(std::string_view kind, std::string_view id) {
  const Registry& r = TheRegistry();
  for (uint32_t i = 0; i < r.n; ++i) {
    if (kind == r.items[i]->descriptor.kind && id == r.items[i]->descriptor.id) return r.items[i];
  }
  return nullptr;
}

inline retort_status Init(const char*) noexcept { return RETORT_OK; }
inline void Deinit() noexcept {}
inline uint32_t Count() noexcept { return TheRegistry().n; }
inline const retort_descriptor* Describe(uint32_t index) noexcept {
  return index < Count() ? &TheRegistry().items[index]->descriptor : nullptr;
}
inline retort_status Create(const retort_host* host, const retort_call* call, const char* kind,
                            const char* id, retort_str config_json,
                            retort_instance** out) noexcept {
  return Guard(call, [&] {
    const Registration* item = FindRegistration(kind, id);
    if (item == nullptr) {
      throw Failure(RETORT_NOT_FOUND, std::string("this library has no ") + kind + " " + id);
    }
    const Host services(host);
    const auto json = services.Parse(config_json.ptr == nullptr ? "{}" : ToView(config_json));
    *out = item->create(Config(json->root(), services)).release()->handle();
  });
}
inline void Destroy(retort_instance* instance) noexcept { delete &Instance::Of(instance); }
inline const void* GetInterface(retort_instance* instance, const char* id) noexcept {
  return Instance::Of(instance).GetInterface(id);
}

inline const retort_entry* Entry() noexcept {
  static constexpr retort_entry kEntry = {
      .struct_size = sizeof(retort_entry),
      .abi_minor = RETORT_ABI_MINOR,
      .library = RETORT_PLUGIN_LIBRARY,
      .version = RETORT_PLUGIN_VERSION,
      .license = RETORT_PLUGIN_LICENSE,
      .build_info = "retort C++ SDK, " __VERSION__,
      .init = Init,
      .deinit = Deinit,
      .count = Count,
      .describe = Describe,
      .create = Create,
      .destroy = Destroy,
      .get_interface = GetInterface,
  };
  return &kEntry;
}

}  // namespace RETORT_PLUGIN_NAMESPACE
}  // namespace internal
}  // namespace retort::sdk

// Weak: each source file of a library brings it, the linker keeps one.
extern "C" __attribute__((weak, visibility("default"))) const retort_entry* retort_plugin_entry_v1(
    void) {
  return retort::sdk::internal::Entry();
}

#define RETORT_SDK_JOIN_(a, b) a##b
#define RETORT_SDK_JOIN(a, b) RETORT_SDK_JOIN_(a, b)
// KIND "reward", ID "my_reward", ADAPTER the instance type around the author's class.
#define RETORT_SDK_REGISTER(KIND, ID, ADAPTER, SUMMARY, SCHEMA)                                \
  static const ::retort::sdk::Registration RETORT_SDK_JOIN(retort_registration_, __LINE__) = { \
      {sizeof(retort_descriptor), 0, KIND, ID, RETORT_PLUGIN_VERSION, SUMMARY, SCHEMA},        \
      [](const ::retort::sdk::Config& config) -> std::unique_ptr<::retort::sdk::Instance> {    \
        return std::make_unique<ADAPTER>(config);                                              \
      }};                                                                                      \
  static const ::retort::sdk::internal::Registrar RETORT_SDK_JOIN(                             \
      retort_registrar_, __LINE__)(RETORT_SDK_JOIN(retort_registration_, __LINE__))

#endif  // RETORT_SDK_PLUGIN_H_
