// SPDX-License-Identifier: Apache-2.0
#include "core/base/features.h"

#include <cstdlib>

namespace retort {

bool IsDisabled(std::string_view feature) {
  const char* list = std::getenv("RETORT_DISABLE");
  std::string_view rest = list == nullptr ? "" : list;
  while (!rest.empty()) {
    const size_t comma = rest.find(',');
    if (rest.substr(0, comma) == feature) return true;
    rest = comma == std::string_view::npos ? "" : rest.substr(comma + 1);
  }
  return false;
}

}  // namespace retort
