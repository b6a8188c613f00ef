// SPDX-License-Identifier: Apache-2.0
#include "host/library/edge.h"

#include "core/text/unicode.h"

namespace retort::host {

Status CheckFlags(uint32_t flags, uint32_t known, const char* name) {
  const uint32_t unknown = flags & 0xFFFFu & ~known;
  if (unknown == 0) return OkStatus();
  return Unimplemented(std::string(name) + ": flags " + std::to_string(unknown) +
                       " are not known to this version");
}

Result<std::string> PathOf(retort_str text, const char* name) {
  const std::string_view path = ToView(text);
  if (path.empty()) return InvalidArgument(std::string(name) + ": no path given");
  if (path.find('\0') != std::string_view::npos) {
    return InvalidArgument(std::string(name) + ": the path has a NUL character inside");
  }
  return std::string(path);
}

Status CheckUtf8(std::string_view text, const std::string& where) {
  return text::IsValidUtf8(text) ? OkStatus() : InvalidArgument(where + ": is not UTF-8");
}

Status WriteAll(const retort_sink* sink, std::string_view text) {
  while (!text.empty()) {
    const int64_t taken = sink->write(sink->ctx, text.data(), text.size());
    if (taken <= 0 || static_cast<uint64_t>(taken) > text.size()) {
      return {Code::kAborted, "the caller's sink took " + std::to_string(taken) + " of " +
                                  std::to_string(text.size()) + " bytes; must be 1 or more"};
    }
    text.remove_prefix(static_cast<size_t>(taken));
  }
  return OkStatus();
}

Status CheckSink(const retort_sink* sink, const char* name) {
  if (sink != nullptr && sink->write != nullptr) return OkStatus();
  return InvalidArgument(std::string(name) + ": NULL; give a sink with a write function");
}

Status CheckArray(const void* first, uint64_t n, uint32_t stride, size_t element,
                  const char* name) {
  if (n == 0) return OkStatus();
  if (first == nullptr) {
    return InvalidArgument(std::string(name) + ": NULL, but " + std::to_string(n) +
                           " elements are announced");
  }
  if (stride >= element && stride % alignof(uint64_t) == 0) return OkStatus();
  return InvalidArgument(std::string(name) + ": a stride of " + std::to_string(stride) +
                         " bytes, must be a multiple of 8 and at least " + std::to_string(element) +
                         "; pass sizeof");
}

}  // namespace retort::host
