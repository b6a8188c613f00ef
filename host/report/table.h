// Tables for a terminal: columns as wide as their cells, numbers flush right.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace retort::host {

enum class Align : unsigned char { kLeft, kRight };

class Table {
 public:
  struct Column {
    std::string title;
    Align align = Align::kLeft;
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // As many cells as columns; line feeds in them become blanks.
  void AddRow(std::vector<std::string> cells);
  bool empty() const { return rows_.empty(); }

  // The title row, a rule, the rows; each line ends in a line feed, none in blanks.
  std::string Render() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// Characters (code points) of UTF-8 text: what a terminal's columns count, but for wide ones.
size_t TextColumns(std::string_view text);

// "0.8134", "-1.23", "12.5", "1.2e-05": about four digits that matter; "-" for what isn't finite.
std::string ShortNumber(double value);
// "512 B", "1.5 KiB", "2.3 GiB".
std::string ShortBytes(double bytes);
// "12,345"
std::string GroupedInteger(int64_t value);

}  // namespace retort::host
