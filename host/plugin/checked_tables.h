// The tables that an instance may have: what each must look like before a function of it is called.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "core/base/status.h"
#include "host/plugin/checked.h"

namespace retort::host {

// Fetches every table that the host knows and checks size, flags and functions. A draft (revision
// 0) of a library with another ABI minor counts as not there.
Status FetchTables(CheckedInstance* instance);

// FAILED_PRECONDITION unless the table without which an instance of this kind is of no use is
// there.
Status CheckMainTable(const CheckedInstance& instance, std::string_view kind);

}  // namespace retort::host
