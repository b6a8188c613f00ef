// Small text work of the program: JSON arguments, nearest names.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace retort::cli {

// A JSON object, member by member. Texts may hold any bytes; what isn't UTF-8 the host refuses.
class JsonObject {
 public:
  void Text(std::string_view key, std::string_view value);
  void Texts(std::string_view key, const std::vector<std::string>& values);
  void Raw(std::string_view key, std::string_view json);  // a number, true
  std::string Finish() { return out_ + "}"; }

 private:
  void Key(std::string_view key);
  std::string out_ = "{";
};

// The known word nearest to `word`, or "" if none is near.
std::string NearestWord(std::string_view word, const std::vector<std::string>& known);

}  // namespace retort::cli
