// Reads a .golden file: "# name" lines, each followed by numbers, one a line.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace retort::engine::test {

using GoldenCase = std::pair<std::string, std::vector<double>>;

inline std::vector<GoldenCase> ReadGolden(const std::string& path_from_root) {
  std::vector<GoldenCase> cases;
  std::ifstream file(std::string(RETORT_SOURCE_DIR) + "/" + path_from_root);
  EXPECT_TRUE(file.good()) << path_from_root;
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("# ", 0) == 0) {
      cases.emplace_back(line.substr(2), std::vector<double>());
    } else {
      cases.back().second.push_back(std::stod(line));
    }
  }
  return cases;
}

}  // namespace retort::engine::test
