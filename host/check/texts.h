// Small things about texts that several rules need.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace retort::host::check {

bool IsUtf8(std::string_view text);
// At most `most` bytes of it, control characters as escapes, in quotes: for findings.
std::string Quoted(std::string_view text, size_t most = 60);
// OK as an object: "", else what is wrong.
std::string NotAnObject(std::string_view json);

}  // namespace retort::host::check
