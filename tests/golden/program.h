// Runs the program `retort` in a test, and reads JSON lines: what it wrote, or a golden file.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/json/json.h"

namespace retort::golden {

struct Outcome {
  int exit_code = -1;
  std::string out, err;
  int64_t peak_bytes = 0;  // of resident memory
};

// Standard input is `input`. The arguments are passed on as they are, no shell in between.
Outcome RunRetort(const std::vector<std::string>& arguments, const std::string& input = "");

std::string GoldenPath(const std::string& name);
// The path of a model by its name in the goldens: a fixture's, or "smollm2" (the GGUF of set-up).
std::string ModelPath(const std::string& name);

std::string ReadText(const std::string& path);
void WriteText(const std::string& path, std::string_view text);
// A folder of this test's own, emptied.
std::string ScratchFolder(const std::string& name);

// Throws std::runtime_error with the line at fault: a test has nothing better to do.
std::vector<json::Document> ParseLines(std::string_view text, const std::string& what);
inline std::vector<json::Document> ReadLines(const std::string& path) {
  return ParseLines(ReadText(path), path);
}
std::vector<int64_t> Ints(json::Value array);
std::vector<double> Doubles(json::Value array);

}  // namespace retort::golden
