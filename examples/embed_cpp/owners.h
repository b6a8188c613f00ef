// Small owners around retort/host.h, as an application writes them for itself: handles that free
// themselves, failures as exceptions, output as strings.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>

#include "retort/host.h"

namespace app {

inline std::string_view View(retort_str text) {
  return text.ptr == nullptr ? std::string_view() : std::string_view(text.ptr, text.len);
}
inline retort_str Str(std::string_view text) { return {text.data(), text.size()}; }

// [owners.begin]
template <class T, void (*kDestroy)(T*)>
struct Destroy {
  void operator()(T* handle) const { kDestroy(handle); }
};
using Pipeline =
    std::unique_ptr<retort_pipeline, Destroy<retort_pipeline, retort_pipeline_destroy>>;
using FilterChain =
    std::unique_ptr<retort_filter_chain, Destroy<retort_filter_chain, retort_filter_chain_destroy>>;
using Run = std::unique_ptr<retort_run, Destroy<retort_run, retort_run_destroy>>;

class Context {
 public:
  Context() {
    retort_context_options options{};
    options.struct_size = sizeof options;
    options.host_name = retort_text("embed_cpp");
    retort_context* made = nullptr;
    if (retort_context_create(&options, &made) != RETORT_OK) throw std::bad_alloc();
    handle_.reset(made);
  }
  retort_context* get() const { return handle_.get(); }

  // Throws the text of a failed call.
  void Check(retort_status status) const {
    if (status == RETORT_OK) return;
    throw std::runtime_error(std::string(retort_status_name(status)) + ": " +
                             std::string(View(retort_context_error(get()))));
  }

 private:
  std::unique_ptr<retort_context, Destroy<retort_context, retort_context_destroy>> handle_;
};
// [owners.end]

// [sink.begin]
// A sink that collects, and a reader over a text.
inline retort_sink Into(std::string& text) {
  return {&text, [](void* ctx, const void* data, uint64_t n) -> int64_t {
            static_cast<std::string*>(ctx)->append(static_cast<const char*>(data), n);
            return static_cast<int64_t>(n);
          }};
}
inline retort_reader From(std::string_view& rest) {
  return {&rest, [](void* ctx, void* data, uint64_t n) -> int64_t {
            auto& left = *static_cast<std::string_view*>(ctx);
            const size_t some = left.copy(static_cast<char*>(data), n);
            left.remove_prefix(some);
            return static_cast<int64_t>(some);
          }};
}
// [sink.end]

}  // namespace app
