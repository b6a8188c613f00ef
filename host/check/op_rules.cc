// SPDX-License-Identifier: Apache-2.0
#include "host/check/rule.h"

namespace retort::host::check {

std::span<const Rule> OpRules() { return {}; }

}  // namespace retort::host::check
