// SPDX-License-Identifier: Apache-2.0
#include "host/pipeline/table.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace retort::host {
namespace {

// Characters, not bytes: a cell may hold a name in any script.
size_t Width(const std::string& cell) {
  const auto starts = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; };
  return static_cast<size_t>(std::count_if(cell.begin(), cell.end(), starts));
}

}  // namespace

std::string TextTable::Text() const {
  std::vector<size_t> widths;
  for (const auto& row : rows_) {
    if (row.size() > widths.size()) widths.resize(row.size());
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], Width(row[i]));
  }
  std::string out;
  for (size_t r = 0; r < rows_.size(); ++r) {
    std::string line;
    for (size_t i = 0; i < rows_[r].size(); ++i) {
      const std::string pad(widths[i] - Width(rows_[r][i]), ' ');
      line += (i == 0 ? "" : "  ") + (i == 0 ? rows_[r][i] + pad : pad + rows_[r][i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
    if (r > 0) continue;
    size_t total = 0;
    for (size_t i = 0; i < widths.size(); ++i) total += widths[i] + (i == 0 ? 0 : 2);
    out += std::string(total, '-') + "\n";
  }
  return out;
}

std::string Fixed(double value, int digits) {
  if (!std::isfinite(value)) return "-";
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return text.data();
}

std::string WithCommas(double value) {
  std::string text = Fixed(value, 0);
  for (size_t i = text.size(); i > 3 && text[i - 4] != '-'; i -= 3) text.insert(i - 3, ",");
  return text;
}

std::string FormatBytes(double bytes) {
  if (bytes >= 1e9) return Fixed(bytes * 1e-9, 2) + " GB";
  if (bytes >= 1e6) return Fixed(bytes * 1e-6, 0) + " MB";
  return Fixed(bytes * 1e-3, 0) + " kB";
}

}  // namespace retort::host
