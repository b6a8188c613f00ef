// What the probes share: plain plugins of one kind each, with a bug that their config names.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <string>

#include "retort/abi/tensor.h"
#include "retort/sdk/plugin.h"

namespace probe {

constexpr const char* kSchema = R"({
  "type": "object",
  "properties": {"bug": {"type": "string", "default": "", "description": "what to do wrong"}}
})";

// The name of the bug, and the number of this instance in the process.
class Bugs {
 public:
  explicit Bugs(const retort::sdk::Config& config) : bug_(config.String("bug")), number_(Next()) {}
  bool Has(const char* name) const { return bug_ == name; }
  int number() const { return number_; }

 private:
  static int Next() {
    static std::atomic<int> next{0};
    return ++next;
  }
  std::string bug_;
  int number_;
};

inline retort_status Fail(const retort_call* call, retort_status code, const std::string& text) {
  call->error(call->ctx, code, retort::sdk::ToStr(text));
  return code;
}

inline bool IsElem(const retort_tensor& t, uint8_t code, uint8_t bits) {
  return t.dtype.code == code && t.dtype.bits == bits && t.device.type == RETORT_DEVICE_CPU;
}
inline bool IsF32(const retort_tensor& t) { return IsElem(t, RETORT_DTYPE_FLOAT, 32); }
inline bool IsF64(const retort_tensor& t) { return IsElem(t, RETORT_DTYPE_FLOAT, 64); }

template <class T>
T* Data(const retort_tensor* t) {
  return t == nullptr ? nullptr : static_cast<T*>(t->data);
}

}  // namespace probe
