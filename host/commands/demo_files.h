// The files of examples/addition, embedded when the library is built, so that `retort demo` needs
// nothing but the program.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string_view>

namespace retort::host {

struct DemoFile {
  std::string_view name;  // below examples/addition: "tokenizer/tokenizer.json"
  std::string_view text;
};

std::span<const DemoFile> DemoFiles();

}  // namespace retort::host
