// SPDX-License-Identifier: Apache-2.0
#include "core/base/fault.h"

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <string>

namespace retort {
namespace {

struct Armed {
  std::string name;
  long passages = 1;

  Armed() {
    const char* text = std::getenv("RETORT_FAULT");
    if (text == nullptr) return;
    name = text;
    const size_t colon = name.rfind(':');
    if (colon == std::string::npos) return;
    passages = std::strtol(name.c_str() + colon + 1, nullptr, 10);
    name.resize(colon);
  }
};

}  // namespace

void FaultPoint(const char* name) {
  static const Armed armed;
  if (armed.name.empty() || armed.name != name) return;
  static std::atomic<long> passed{0};
  if (++passed == armed.passages) std::raise(SIGKILL);
}

}  // namespace retort
