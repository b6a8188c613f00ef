// SPDX-License-Identifier: Apache-2.0
#include "host/report/table.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>

namespace retort::host {
namespace {

void AppendCell(const std::string& cell, size_t width, Align align, std::string& line) {
  const size_t columns = TextColumns(cell);
  const std::string fill(width - std::min(width, columns), ' ');
  line += align == Align::kLeft ? cell + fill : fill + cell;
}

void EndLine(std::string& line, std::string& out) {
  line.erase(line.find_last_not_of(' ') + 1);
  out += line + "\n";
  line.clear();
}

}  // namespace

size_t TextColumns(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

void Table::AddRow(std::vector<std::string> cells) {
  cells.resize(columns_.size());
  for (std::string& cell : cells) std::replace(cell.begin(), cell.end(), '\n', ' ');
  rows_.push_back(std::move(cells));
}

std::string Table::Render() const {
  std::vector<size_t> widths;
  for (size_t c = 0; c < columns_.size(); ++c) {
    size_t width = TextColumns(columns_[c].title);
    for (const auto& row : rows_) width = std::max(width, TextColumns(row[c]));
    widths.push_back(width);
  }
  std::string out, line;
  const auto add = [&](size_t c, const std::string& cell) {
    if (c > 0) line += "  ";
    AppendCell(cell, widths[c], columns_[c].align, line);
  };
  for (size_t c = 0; c < columns_.size(); ++c) add(c, columns_[c].title);
  EndLine(line, out);
  for (size_t c = 0; c < columns_.size(); ++c) add(c, std::string(widths[c], '-'));
  EndLine(line, out);
  for (const auto& row : rows_) {
    for (size_t c = 0; c < columns_.size(); ++c) add(c, row[c]);
    EndLine(line, out);
  }
  return out;
}

std::string ShortNumber(double value) {
  if (!std::isfinite(value)) return "-";
  char text[32];
  const double size = std::fabs(value);
  const char* format = size == 0 || size >= 1000 ? "%.0f"
                       : size >= 100             ? "%.1f"
                       : size >= 1e-3            ? "%.4g"
                                                 : "%.2g";
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string ShortBytes(double bytes) {
  static constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < kUnits.size()) bytes /= 1024, ++unit;
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, kUnits[unit]);
  return text;
}

std::string GroupedInteger(int64_t value) {
  std::string digits = std::to_string(value);
  const size_t first = value < 0 ? 1 : 0;
  for (size_t i = digits.size(); i > first + 3;) digits.insert(i -= 3, 1, ',');
  return digits;
}

}  // namespace retort::host
