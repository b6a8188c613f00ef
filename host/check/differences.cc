// SPDX-License-Identifier: Apache-2.0
#include "host/check/differences.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace retort::host::check {

double Tolerance::Of(double expected) const { return absolute + relative * std::fabs(expected); }

std::string Number(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.9g", value);
  return text;
}

std::string FirstDifference(const Tensor& found, const Tensor& expected, Tolerance tolerance) {
  const bool exact = tolerance.relative == 0 && tolerance.absolute == 0;
  for (int64_t i = 0; i < expected.size(); ++i) {
    if (found.SameBits(i, expected, i)) continue;
    const double f = found.At(i), e = expected.At(i);
    if (!exact && std::fabs(f - e) <= tolerance.Of(e)) continue;
    return found.Where(i) + ": found " + Number(f) + ", expected " + Number(e) +
           (exact ? " (the same bits)"
                  : " (" + Number(tolerance.Of(e)) + " apart at most, they are " +
                        Number(std::fabs(f - e)) + ")");
  }
  return "";
}

std::string FirstNonFinite(const Tensor& tensor) {
  for (int64_t i = 0; i < tensor.size(); ++i) {
    if (std::isfinite(tensor.At(i))) continue;
    return tensor.Where(i) + " is " + Number(tensor.At(i)) + ", must be finite";
  }
  return "";
}

std::string FirstNotZero(const Tensor& tensor) {
  for (int64_t i = 0; i < tensor.size(); ++i) {
    if (tensor.At(i) == 0) continue;
    return tensor.Where(i) + " is " + Number(tensor.At(i)) + ", must be exactly 0";
  }
  return "";
}

Slope SlopeOf(const std::function<double(double)>& at_offset, double step) {
  const double m2 = at_offset(-2 * step), m1 = at_offset(-step), zero = at_offset(0),
               p1 = at_offset(step), p2 = at_offset(2 * step);
  const double near = (p1 - m1) / (2 * step), far = (p2 - m2) / (4 * step);
  const double bend_near = (p1 - 2 * zero + m1) / (step * step);
  const double bend_far = (p2 - 2 * zero + m2) / (4 * step * step);
  return {.value = (4 * near - far) / 3,
          .roughness = std::max(std::fabs(near - far), std::fabs(bend_near - bend_far) * step)};
}

}  // namespace retort::host::check
