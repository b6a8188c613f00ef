// Columns of text, aligned: the first one left, the others right.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace retort::host {

class TextTable {
 public:
  void AddRow(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  // The first row is the head, underlined. Every line ends with a line feed.
  std::string Text() const;

 private:
  std::vector<std::vector<std::string>> rows_ = {};
};

// "12345" -> "12,345".
std::string WithCommas(double value);
// Fixed digits after the point.
std::string Fixed(double value, int digits);
// "1.2 GB", "340 MB".
std::string FormatBytes(double bytes);

}  // namespace retort::host
